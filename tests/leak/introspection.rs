//! The output of a store that forwards tokens and authenticates with its own client secret.

#[cfg(not(feature = "introspection"))]
pub(super) fn formatted_types() -> Vec<super::public_types::Formatted> {
    let names = [
        "BreakerState",
        "ClientAuth",
        "DiscoveryError",
        "DiscoveryErrorKind",
        "IntrospectionBuilder",
        "IntrospectionConfigError",
        "IntrospectionError",
        "IntrospectionErrorKind",
        "IntrospectionStatus",
        "IntrospectionStore",
        "PrivateKeyJwt",
    ];
    names.map(|name| (name, Vec::new())).into()
}

#[cfg(feature = "introspection")]
pub(super) use with_feature::formatted_types;

#[cfg(feature = "introspection")]
mod with_feature {
    use std::io;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use http::header::CONTENT_TYPE;
    use http::{Request, Response};
    use http_body_util::Full;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use tower::service_fn;
    use tower_service_token::TokenStore;
    use tower_service_token::introspection::{
        ClientAuth, DiscoveryErrorKind, IntrospectionBuilder, IntrospectionConfigError,
        IntrospectionStore, PrivateKeyJwt,
    };
    use tower_service_token::store::Credential;
    use tower_service_token::token::PresentedToken;

    use super::super::SECRET;
    use super::super::public_types::{Formatted, debug_text, error_text};

    const ENDPOINT: &str = "https://auth.example/introspect";

    pub(crate) fn formatted_types() -> Vec<Formatted> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let mut formatted = credentials();
        formatted.extend(configuration_errors());
        runtime.expect("a runtime").block_on(async {
            for (status, body) in [
                (200, format!("{{\"active\":\"{SECRET}\"}}")),
                (302, SECRET.to_owned()),
                (400, format!("{{\"error\":\"no token {SECRET}\"}}")),
                (401, format!("{}{SECRET}", "x ".repeat(95))),
                (503, SECRET.repeat(9)),
                (0, String::new()),
            ] {
                formatted.extend(failures(status, body).await);
            }
        });
        formatted
    }

    fn auth() -> ClientAuth {
        ClientAuth::basic("billing", SECRET)
    }

    /// A server that sends one response to every request. Status 0 closes the connection.
    fn builder(status: u16, body: String) -> IntrospectionBuilder {
        let server = service_fn(move |_: Request<Full<Bytes>>| {
            let response = Response::builder().status(status.max(200));
            let response = response.header(CONTENT_TYPE, "application/json");
            let response = response.body(Full::new(Bytes::from(body.clone())));
            let connection_reset = io::Error::from(io::ErrorKind::ConnectionReset);
            std::future::ready(match status {
                0 => Err(connection_reset),
                _ => Ok(response.expect("a valid header")),
            })
        });
        IntrospectionStore::builder(auth()).with_transport(server)
    }

    async fn failures(status: u16, body: String) -> Vec<Formatted> {
        let store = builder(status, body.clone()).build(ENDPOINT);
        let store = store.expect("a valid endpoint");
        let token = PresentedToken::new(SECRET).expect("visible ASCII");
        let error = store.find(&Credential::new(token)).await;
        let error = error.expect_err("no response");
        let discovery_error = builder(status, body).discover("https://auth.example");
        let discovery_error = discovery_error.await.expect_err("no metadata");
        vec![
            error_text("IntrospectionError", &error),
            error_text("DiscoveryError", &discovery_error),
            debug_text("IntrospectionStore", &store),
            debug_text("IntrospectionStatus", &store.status()),
            debug_text("BreakerState", &store.status().breaker),
        ]
    }

    fn credentials() -> Vec<Formatted> {
        let key = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key);
        let text = STANDARD.encode(key.expect("a key").as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let key = PrivateKeyJwt::es256("billing", &pem).expect("a valid key");
        let (name, texts) = debug_text("PrivateKeyJwt", &key);
        for formatted in &texts {
            assert!(!formatted.contains(&text[60..90]), "{formatted}");
        }
        let kind = tower_service_token::introspection::IntrospectionErrorKind::Protocol;
        vec![
            (name, texts),
            debug_text("ClientAuth", &ClientAuth::private_key_jwt(key)),
            debug_text("ClientAuth", &auth()),
            debug_text("ClientAuth", &ClientAuth::basic_raw("billing", SECRET)),
            debug_text("ClientAuth", &ClientAuth::post("billing", SECRET)),
            debug_text("ClientAuth", &ClientAuth::bearer(SECRET)),
            debug_text("IntrospectionBuilder", &IntrospectionStore::builder(auth())),
            debug_text("IntrospectionErrorKind", &kind),
            debug_text("DiscoveryErrorKind", &DiscoveryErrorKind::Protocol),
        ]
    }

    /// Returns errors about a secret in the wrong setting, which must not repeat it.
    fn configuration_errors() -> Vec<Formatted> {
        let endpoints = [
            format!("https://billing:{SECRET}@auth.example/introspect"),
            format!("https://auth.example/introspect#{SECRET}"),
            format!("http://auth.example/{SECRET}"),
            SECRET.to_owned(),
        ];
        let errors = endpoints.map(|endpoint| {
            let error: IntrospectionConfigError = IntrospectionStore::builder(auth())
                .build(&endpoint)
                .expect_err(&endpoint);
            error
        });
        let key = PrivateKeyJwt::es256("billing", SECRET).expect_err("no PEM");
        let errors = errors.into_iter().chain([key]);
        errors
            .map(|error| error_text("IntrospectionConfigError", &error))
            .collect()
    }
}
