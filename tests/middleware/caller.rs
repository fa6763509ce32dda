//! What outer layers learn of the caller: in the current span and in the response.

use std::convert::Infallible;

use async_trait::async_trait;
use http::{Request, Response, StatusCode};
use tests::global_subscriber::install_global_subscriber;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::authorize::RequireRolesLayer;
use tower_service_token::reject::Rejection;
use tower_service_token::store::{Credential, StoreError, TokenRecord, TokenState, TokenStore};
use tower_service_token::token::{MintedToken, TokenFormat, TokenId};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};

/// Cannot answer from memory, so that each request must wait for it.
struct UncachedStore(MemoryStore);

#[async_trait]
impl TokenStore for UncachedStore {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        tokio::task::yield_now().await;
        self.0.find(credential).await
    }
}

fn mint() -> MintedToken {
    install_global_subscriber();
    TokenFormat::default().mint().unwrap()
}

fn store_with(record: TokenRecord) -> MemoryStore {
    let store = MemoryStore::new();
    store.insert(record).unwrap();
    store
}

async fn send(layer: ServiceTokenLayer, token: &str) -> Response<String> {
    let handler = service_fn(async |_: Request<String>| {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let service = layer.layer(RequireRolesLayer::any_of(["deployer"]).layer(handler));
    let request = Request::builder().header("x-api-key", token);
    service
        .oneshot(request.body(String::new()).unwrap())
        .await
        .unwrap()
}

/// The principal and the rejection of the response, by the ids of their tokens.
fn ids(response: &Response<String>) -> (Option<TokenId>, Option<TokenId>) {
    let extensions = response.extensions();
    let rejected = extensions.get::<Rejection>().and_then(Rejection::token_id);
    (extensions.get::<Principal>().map(Principal::id), rejected)
}

#[tokio::test]
async fn propagates_the_principal_only_on_request_and_only_of_accepted_tokens() {
    let (token, without_role, revoked) = (mint(), mint(), mint());
    let store = store_with(TokenRecord::from(&token).with_roles(["deployer"]));
    store.insert(TokenRecord::from(&without_role)).unwrap();
    let record = TokenRecord::from(&revoked).with_state(TokenState::Revoked);
    store.insert(record).unwrap();
    let layers = || {
        [
            ServiceTokenLayer::new(store.clone()),
            ServiceTokenLayer::new(store.clone()).without_cache_headers(),
            ServiceTokenLayer::new(UncachedStore(store.clone())),
        ]
    };
    for layer in layers() {
        let response = send(layer.clone(), token.expose_secret()).await;
        assert_eq!(ids(&response), (None, None));
        let layer = layer.propagate_principal();
        let unknown = mint();
        for (sent, status, expected) in [
            (&token, StatusCode::OK, (Some(token.id()), None)),
            // A guard rejects an accepted token.
            (
                &without_role,
                StatusCode::FORBIDDEN,
                (Some(without_role.id()), Some(without_role.id())),
            ),
            (
                &revoked,
                StatusCode::UNAUTHORIZED,
                (None, Some(revoked.id())),
            ),
            (&unknown, StatusCode::UNAUTHORIZED, (None, None)),
        ] {
            let response = send(layer.clone(), sent.expose_secret()).await;
            assert_eq!(response.status(), status);
            assert_eq!(ids(&response), expected, "{status}");
        }
    }
}

#[cfg(feature = "tracing")]
mod span {
    use std::collections::BTreeMap;
    use std::fmt;
    use std::sync::{Arc, Mutex};

    use tower_service_token::digest::TokenDigest;
    use tracing::field::{Empty, Field, Visit};
    use tracing::instrument::WithSubscriber;
    use tracing::span::{Id, Record};
    use tracing::{Instrument, Span};
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    type Fields = BTreeMap<String, String>;

    /// Keeps what is recorded in spans.
    #[derive(Clone, Default)]
    struct Recorded(Arc<Mutex<Fields>>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Recorded {
        fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
            values.record(&mut self.clone());
        }
    }

    impl Visit for Recorded {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            let value = format!("{value:?}");
            self.0
                .lock()
                .unwrap()
                .insert(field.name().to_owned(), value);
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            self.0
                .lock()
                .unwrap()
                .insert(field.name().to_owned(), value.to_owned());
        }
    }

    /// What a request records in the span of `new_span`.
    async fn recorded(
        layer: ServiceTokenLayer,
        token: &MintedToken,
        new_span: impl FnOnce() -> Span,
    ) -> Fields {
        let recorded = Recorded::default();
        let subscriber = tracing_subscriber::registry().with(recorded.clone());
        let sending = async {
            // Not `instrument` around the whole: the span belongs to this subscriber.
            send(layer, token.expose_secret())
                .instrument(new_span())
                .await
        };
        sending.with_subscriber(subscriber).await;
        recorded.0.lock().unwrap().clone()
    }

    fn request_span() -> Span {
        tracing::info_span!(
            "request",
            token_id = Empty,
            token_name = Empty,
            status = Empty
        )
    }

    fn fields<const N: usize>(fields: [(&str, &str); N]) -> Fields {
        fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[tokio::test]
    async fn records_the_caller_in_the_declared_fields() {
        let token = mint();
        let store = store_with(TokenRecord::from(&token).with_name("ci"));
        let id = token.id().to_string();
        for layer in [
            ServiceTokenLayer::new(store.clone()),
            ServiceTokenLayer::new(UncachedStore(store)),
        ] {
            let both = recorded(layer.clone(), &token, request_span).await;
            assert_eq!(both, fields([("token_id", &id), ("token_name", "ci")]));
            let only_id = || tracing::info_span!("request", token_id = Empty);
            let only_id = recorded(layer.clone(), &token, only_id).await;
            assert_eq!(only_id, fields([("token_id", &id)]));
            let only_name = || tracing::info_span!("request", token_name = Empty);
            let only_name = recorded(layer.clone(), &token, only_name).await;
            assert_eq!(only_name, fields([("token_name", "ci")]));
            let neither = || tracing::info_span!("request", status = Empty);
            assert_eq!(recorded(layer.clone(), &token, neither).await, fields([]));
            assert_eq!(recorded(layer, &token, Span::none).await, fields([]));
        }
    }

    #[tokio::test]
    async fn records_a_rejected_token_only_if_its_secret_was_presented() {
        let (token, unknown, forged) = (mint(), mint(), mint());
        let record = TokenRecord::from(&token).with_state(TokenState::Revoked);
        let store = store_with(record.with_name("ci"));
        // The same id with another secret.
        store
            .insert(TokenRecord::new(forged.id(), TokenDigest::of("other")))
            .unwrap();
        for layer in [
            ServiceTokenLayer::new(store.clone()),
            ServiceTokenLayer::new(UncachedStore(store)),
        ] {
            let revoked = recorded(layer.clone(), &token, request_span).await;
            assert_eq!(revoked, fields([("token_id", &token.id().to_string())]));
            assert_eq!(
                recorded(layer.clone(), &unknown, request_span).await,
                fields([])
            );
            assert_eq!(recorded(layer, &forged, request_span).await, fields([]));
        }
    }

    /// A store of another program may have any name.
    #[tokio::test]
    async fn recorded_name_has_no_secret_and_no_invisible_characters() {
        let (token, secret) = (mint(), mint());
        let name = format!("a\n\u{202e}b {}", secret.expose_secret());
        let store = store_with(TokenRecord::from(&token).with_name(name));
        let recorded = recorded(ServiceTokenLayer::new(store), &token, request_span).await;
        let name = &recorded["token_name"];
        assert!(name.starts_with("a\\u{a}\\u{202e}b svctok-"), "{name}");
        assert!(!name.contains(&secret.expose_secret()[18..]), "{name}");
    }
}
