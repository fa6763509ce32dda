//! Responds to rejected requests with a JSON body of your own.
//!
//! `cargo run --example custom_rejection` sends the requests itself and prints the responses.

use std::error::Error;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing::get;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Request};
use serde_json::json;
use tower::ServiceExt;
use tower_service_token::authorize::RequireScopesLayer;
use tower_service_token::reject::Rejection;
use tower_service_token::store::{TokenRecord, TokenState};
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (store, format) = (MemoryStore::new(), TokenFormat::default());
    let (reader, disabled) = (format.mint()?, format.mint()?);
    store.insert(TokenRecord::from(&reader).with_scopes(["reports:read"]))?;
    store.insert(TokenRecord::from(&disabled).with_state(TokenState::Disabled))?;

    // `to_response` sets the status and the headers. You supply the body.
    let error_response = |rejection: &Rejection| {
        let body = json!({
            "ok": false,
            "error": { "code": rejection.code(), "message": rejection.to_string() },
        });
        let mut response = rejection.to_response(Body::from(body.to_string()));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    };
    let layer = ServiceTokenLayer::new(store).with_rejection_response(error_response);
    let writers =
        RequireScopesLayer::all_of(["reports:write"]).with_rejection_response(error_response);
    let app = Router::new()
        .route("/reports", get(async || r#"{"ok":true}"#))
        .route("/drafts", get(async || r#"{"ok":true}"#).layer(writers))
        .layer(layer);

    for (path, token) in [
        ("/reports", reader.expose_secret()),
        ("/drafts", reader.expose_secret()),
        ("/reports", disabled.expose_secret()),
        ("/reports", "guessed"),
        ("/reports", "two words"),
    ] {
        let request = Request::get(path)
            .header("authorization", format!("ApiKey {token}"))
            .body(Body::empty())?;
        let response = app.clone().oneshot(request).await?;
        let status = response.status().as_u16();
        let challenge = response.headers().get(WWW_AUTHENTICATE).cloned();
        let body = to_bytes(response.into_body(), 4096).await?;
        println!("{path} {status} {}", String::from_utf8_lossy(&body));
        if let Some(challenge) = challenge {
            println!("  www-authenticate: {}", challenge.to_str()?);
        }
    }
    Ok(())
}
