//! Tokens in names, request IDs and errors, which the library's log must not contain.

use std::convert::Infallible;
use std::time::SystemTime;

use async_trait::async_trait;
use futures::executor::block_on;
use http::{Request, Response};
use tests::capture::captured;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::audit::{AuditAction, AuditEvent, FieldChange};
use tower_service_token::lifecycle::{NewToken, Owner};
use tower_service_token::store::{Credential, StoreError, TokenRecord};
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens, TokenStore};

use super::{SECRET, assert_no_secret, token_id};

/// Returns the secret, the secret with another accepted prefix, and the latter within other text.
fn stray_tokens() -> [String; 3] {
    let acme = SECRET.replace("svctok-", "acme_");
    [SECRET.to_owned(), acme.clone(), format!("build;{acme}.log")]
}

#[test]
fn audit_events_hide_tokens_in_names_and_actors() {
    for stray in stray_tokens() {
        let change = FieldChange {
            field: "name".into(),
            before: Some(stray.clone()),
            after: Some(format!("was {stray}")),
        };
        let actor = format!("operator:{stray}");
        let event = AuditEvent::new(SystemTime::now(), actor, AuditAction::Updated, token_id());
        let event = event.with_change(change);
        assert_no_secret("AuditEvent", &format!("{event:?}"));
        assert!(
            event.changes()[0]
                .after
                .as_ref()
                .unwrap()
                .starts_with("was ")
        );

        let ((), log, _) = captured(|| {
            let tokens = ServiceTokens::new(MemoryStore::new());
            let new = NewToken::new(format!("was {stray}"))
                .with_description(&*stray)
                .with_subject(&*stray)
                .with_owner(&*stray)
                .with_label("token", &*stray);
            drop(block_on(tokens.create(new)).expect("created"));
            let tokens = tokens.acting_for(Owner::new(&*stray));
            drop(block_on(tokens.create(NewToken::new("ci"))).expect("created"));
        });
        assert!(log.contains("was "), "{log}");
        assert_no_secret("the log of a creation", &log);
    }
}

/// A store whose errors contain this text.
struct CarelessStore(String);

#[async_trait]
impl TokenStore for CarelessStore {
    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        Err(StoreError::unavailable(format!("no row for {}", self.0)))
    }
}

#[test]
fn rejections_hide_tokens_in_request_ids_and_errors() {
    for stray in stray_tokens() {
        let format = TokenFormat::new("acme_").unwrap();
        let layer = ServiceTokenLayer::new(CarelessStore(stray.clone()));
        let layer = layer.with_token_format(format.with_accepted_format(TokenFormat::default()));
        let service = layer.layer(service_fn(async |_: Request<String>| {
            Ok::<_, Infallible>(Response::new(String::new()))
        }));
        let request = Request::builder()
            .uri(format!("/{stray}?{stray}"))
            .header("x-request-id", &*stray)
            .header("x-api-key", SECRET)
            .body(String::new())
            .unwrap();
        let (response, log, metrics) = captured(|| block_on(service.oneshot(request)).unwrap());
        assert_eq!(response.status(), 503);
        assert!(log.contains("no row for "), "{log}");
        assert_no_secret("the log of a rejection", &log);
        assert_no_secret("the metrics of a rejection", &metrics);
    }
}
