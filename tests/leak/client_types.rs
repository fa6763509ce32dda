//! The output of the layer for outgoing requests and of the client of the management API.

use super::public_types::Formatted;

#[cfg(feature = "client")]
pub(super) fn formatted_types() -> Vec<Formatted> {
    use tower_layer::Layer;
    use tower_service_token::client::AddServiceTokenLayer;
    use tower_service_token::origin::Origin;

    use super::SECRET;
    use super::public_types::{debug_text, error_text};

    let layer = AddServiceTokenLayer::new(SECRET).expect("a token");
    let result = AddServiceTokenLayer::new(&format!("{SECRET} {SECRET}"));
    let error = result.expect_err("two words");
    let origin = Origin::new("https://api.example").expect("an origin");
    let origin_error = Origin::new(&format!("https://user:{SECRET}@api.example/{SECRET}"));
    let origin_error = origin_error.expect_err("a password");
    let mut formatted = vec![
        debug_text("Origin", &origin),
        error_text("OriginError", &origin_error),
        debug_text("OriginErrorKind", &origin_error.kind()),
        debug_text("AddServiceToken", &layer.layer(())),
        debug_text("AddServiceTokenLayer", &layer),
        error_text("TokenSourceError", &error),
        debug_text("TokenSourceErrorKind", &error.kind()),
    ];
    formatted.extend(client::formatted_types());
    formatted
}

#[cfg(feature = "client")]
mod client {
    use std::io;
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use tower::service_fn;
    use tower_service_token::client::{ServiceTokensClient, ServiceTokensClientBuilder};
    use tower_service_token::lifecycle::{NewToken, Page};
    use tower_service_token::registry::TokenFilter;
    use tower_service_token::wire::{BulkPreviewResponse, BulkRevocationResponse};

    use super::super::public_types::{Formatted, debug_text, error_text};
    use super::super::{SECRET, token_id};

    const TOKEN: &str = r#"{"id":"7Hq2mX9bTe","name":"ci","roles":[],"scopes":[],
        "state":"active","hint":"svctok-7Hq2mX9bTe_***"}"#;

    /// Returns a client that authenticates with the secret, for a server with this response.
    fn client_with_response(
        status: u16,
        media_type: &'static str,
        body: String,
    ) -> ServiceTokensClient {
        let server = service_fn(move |_: Request<Full<Bytes>>| {
            let response = Response::builder().status(status);
            let response = response.header("content-type", media_type);
            let response = response
                .body(Full::new(Bytes::from(body.clone())))
                .expect("a response");
            async move { Ok::<_, io::Error>(response) }
        });
        let builder = builder().with_transport(server);
        builder.build().expect("a client")
    }

    fn builder() -> ServiceTokensClientBuilder {
        ServiceTokensClient::builder("http://localhost").with_token(SECRET)
    }

    pub(super) fn formatted_types() -> Vec<Formatted> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        runtime.block_on(formatted_call_results())
    }

    async fn formatted_call_results() -> Vec<Formatted> {
        let json = |status, body| client_with_response(status, "application/json", body);
        let both = format!(r#"{{"token":"{SECRET}","service_token":{TOKEN}}}"#);
        let created = json(201, both.clone()).create(NewToken::new("ci")).await;
        let rotated = json(200, both.clone())
            .rotate(token_id(), Duration::ZERO)
            .await;
        let changed = json(200, TOKEN.to_owned()).disable(token_id()).await;
        let page = format!(r#"{{"service_tokens":[{TOKEN}]}}"#);
        let page = json(200, page)
            .list(TokenFilter::new(), Page::default())
            .await;
        let preview = format!(
            r#"{{"dry_run":true,"count":1,"sample":["{}"],"forbidden":0,"needs_expect":false,
                "ends_administration":false}}"#,
            token_id()
        );
        let preview = json(200, preview)
            .preview_revocation(TokenFilter::new())
            .await;
        let preview = preview.expect("a preview");
        let revoked = json(204, String::new()).revoke(token_id()).await;
        let echo = format!(
            r#"{{"code":"invalid_fields","detail":"not {SECRET}",
                "errors":[{{"pointer":"/{SECRET}","detail":"{SECRET}"}}]}}"#
        );
        let invalid = client_with_response(422, "application/problem+json", echo)
            .get_own()
            .await;
        let invalid = invalid.expect_err("an error");
        let unreadable = json(200, both.replace(TOKEN, "7"))
            .rotate_own(Duration::ZERO)
            .await;
        let no_url = ServiceTokensClient::builder(format!("https://{SECRET}@localhost"));
        let no_token = ServiceTokensClient::builder("http://localhost");
        let no_token = no_token.with_token(&format!("{SECRET} {SECRET}"));
        vec![
            debug_text("ServiceTokensClientBuilder", &builder()),
            debug_text("ServiceTokensClient", &builder().build().expect("a client")),
            debug_text("IssuedTokenInfo", &created.expect("created")),
            debug_text("IssuedTokenInfo", &rotated.expect("rotated")),
            debug_text("ChangedTokenInfo", &changed.expect("changed")),
            debug_text("TokenInfoPage", &page.expect("a page")),
            debug_text("BulkPreviewResponse", &BulkPreviewResponse::from(&preview)),
            debug_text(
                "BulkRevocationResponse",
                &BulkRevocationResponse::new(&preview.sample, 1),
            ),
            debug_text("Revocation", &revoked.expect("revoked")),
            debug_text("ClientErrorKind", &invalid.kind()),
            error_text("ClientError", &invalid),
            error_text("ClientError", &unreadable.expect_err("unreadable")),
            error_text(
                "ClientConfigError",
                &no_url.build().expect_err("a password"),
            ),
            error_text(
                "ClientConfigError",
                &no_token.build().expect_err("no token"),
            ),
        ]
    }
}

#[cfg(not(feature = "client"))]
pub(super) fn formatted_types() -> Vec<Formatted> {
    let without = |name| (name, Vec::new());
    [
        "AddServiceToken",
        "AddServiceTokenLayer",
        "ClientConfigError",
        "ClientError",
        "ClientErrorKind",
        "BulkPreviewResponse",
        "BulkRevocationResponse",
        "ChangedTokenInfo",
        "IssuedTokenInfo",
        "Origin",
        "OriginError",
        "OriginErrorKind",
        "Revocation",
        "TokenInfoPage",
        "ServiceTokensClient",
        "ServiceTokensClientBuilder",
        "TokenSourceError",
        "TokenSourceErrorKind",
    ]
    .map(without)
    .into()
}
