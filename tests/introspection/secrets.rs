//! Errors, logs, responses and `Debug` output contain neither the token nor the client's
//! credentials, whatever the server responds.

use std::error::Error;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tests::log::Log;
use tower_service_token::introspection::{ClientAuth, IntrospectionStore};
use tower_service_token::store::{Cached, StoreError};

use crate::protected_service::{
    CLIENT_ID, CLIENT_SECRET, ENDPOINT, ProtectedService, SECOND, clock,
};
use crate::raw_server::RawServer;
use crate::upstream::{MockResponse, Upstream};

/// Its form-encoded text differs from the token.
const TOKEN: &str = "hK3v/N8pR1+YdQ6wLfGc5uJtA1YrM0nZkTq==";

/// Returns the encodings in which a server may echo a secret.
fn encoded_secrets() -> Vec<String> {
    let encoded: String = form_urlencoded::byte_serialize(TOKEN.as_bytes()).collect();
    let basic = STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"));
    vec![
        TOKEN.to_owned(),
        TOKEN.replace('/', "\\/"),
        encoded,
        CLIENT_SECRET.to_owned(),
        basic,
    ]
}

/// Returns every part of a secret, of eight bytes or more, that the text contains.
fn leaks(text: &str) -> Vec<String> {
    let text: String = text.split_whitespace().collect();
    let mut found = Vec::new();
    for secret in encoded_secrets() {
        let windows = secret.as_bytes().windows(8);
        let windows = windows.map(|window| str::from_utf8(window).unwrap());
        found.extend(windows.filter(|it| text.contains(it)).map(str::to_owned));
    }
    found
}

fn assert_no_secrets(output: &str, text: &str) {
    assert_eq!(leaks(text), Vec::<String>::new(), "{output}: {text}");
}

fn error_text(error: &StoreError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text} {error} {error:?} {error:#?}");
        next = error.source();
    }
    text
}

#[test]
fn leak_detector_finds_planted_secrets() {
    for echo in encoded_secrets() {
        assert_ne!(
            leaks(&format!("...{}...", &echo[..12])),
            Vec::<String>::new()
        );
    }
    assert_no_secrets(
        "the client id is public",
        &format!("{CLIENT_ID} {ENDPOINT}"),
    );
}

#[tokio::test(start_paused = true)]
async fn failures_leak_no_secret_to_errors_or_logs() {
    let mut responses: Vec<_> = [400, 401, 403, 404, 429, 500, 503]
        .map(MockResponse::status)
        .into();
    responses.extend([
        MockResponse::Reset,
        MockResponse::Hang,
        MockResponse::Panic,
        MockResponse::json("{"),
    ]);
    for echo in encoded_secrets() {
        let error = format!("{{\"error\":\"invalid\",\"error_description\":\"got {echo}\"}}");
        // The excerpt of the body ends within the secret.
        let cut = format!("{}{echo}", "x".repeat(190));
        for body in [error, cut, echo] {
            for status in [200, 302, 400, 401, 404, 500, 503] {
                responses.push(MockResponse::json(body.clone()).with_status(status));
            }
            responses.push(MockResponse::text(&body.replace('\\', ""), body.clone()));
        }
    }
    let log = Log::default();
    for response in responses {
        let _logged = log.start();
        let service = ProtectedService::new(&Upstream::responding(response), &clock());
        let error = service.find(TOKEN).await.unwrap_err();
        assert_no_secrets("the error", &error_text(&error));
        let response = service.send(TOKEN).await;
        assert_no_secrets("the response", &format!("{response:?} {response:#?}"));
        assert_no_secrets(
            "the store",
            &format!("{:?} {:#?}", service.store, service.store),
        );
    }
    let log = log.text();
    assert_no_secrets("the log", &log);
    assert_eq!(!log.is_empty(), cfg!(feature = "tracing"));
    #[cfg(feature = "tracing")]
    assert!(
        log.contains("ERROR"),
        "rejected credentials are logged as an error: {log}"
    );
}

#[tokio::test(start_paused = true)]
async fn successes_leak_no_secret() {
    let log = Log::default();
    let logged = log.start();
    let clock = clock();
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::with(&upstream, &clock, |builder| {
        builder.with_stale_if_error(60 * SECOND)
    });
    let principal = service.principal(TOKEN).await;
    assert_no_secrets("the principal", &format!("{principal:?} {principal:#?}"));
    let Cached::Found(record) = service.find_cached(TOKEN) else {
        panic!("the response is cached");
    };
    assert_no_secrets(
        "the record",
        &format!("{record:?} {record:#?} {}", record.name()),
    );
    assert_no_secrets(
        "the store",
        &format!("{:?} {:#?}", service.store, service.store),
    );
    assert_no_secrets("the status", &format!("{:?}", service.store.status()));
    clock.advance(10 * SECOND);
    upstream.respond_with(MockResponse::status(503));
    assert!(service.principal(TOKEN).await.is_stale());
    clock.advance(60 * SECOND);
    upstream.respond_with(MockResponse::inactive());
    service.send(TOKEN).await;
    service.send(TOKEN).await;
    drop(logged);
    assert_no_secrets("the log", &log.text());
}

#[tokio::test]
async fn connection_logs_contain_no_secret() {
    let log = Log::default();
    let logged = log.start();
    for raw_server in [
        RawServer::responding(crate::raw_server::ok_response(crate::raw_server::ACTIVE)),
        RawServer::responding(format!(
            "HTTP/1.1 400 {TOKEN}\r\nx-{CLIENT_SECRET}: {TOKEN}\r\n\r\n{TOKEN}"
        )),
        RawServer::responding(format!("{TOKEN} {CLIENT_SECRET}\r\n\r\n")),
        RawServer::responding(""),
    ] {
        let service = ProtectedService::with_endpoint(&raw_server.url(), |builder| builder);
        let found = service.find(TOKEN).await;
        if let Err(error) = found {
            assert_no_secrets("the error", &error_text(&error));
        }
        service.send(TOKEN).await;
    }
    drop(logged);
    assert_no_secrets("the log", &log.text());
}

#[test]
fn debug_shows_only_method_and_client_id() {
    for (auth, client) in [
        (ClientAuth::basic(CLIENT_ID, CLIENT_SECRET), CLIENT_ID),
        (ClientAuth::basic_raw(CLIENT_ID, CLIENT_SECRET), CLIENT_ID),
        (ClientAuth::post(CLIENT_ID, CLIENT_SECRET), CLIENT_ID),
        (ClientAuth::bearer(CLIENT_SECRET), ""),
    ] {
        let text = format!("{auth:?} {auth:#?}");
        assert_no_secrets("the credentials", &text);
        assert!(text.contains(client), "{text}");
        let builder = IntrospectionStore::builder(auth);
        assert_no_secrets("the builder", &format!("{builder:?} {builder:#?}"));
        // The URL contains the secret by mistake.
        let endpoint = format!("https://{CLIENT_ID}:{CLIENT_SECRET}@auth.example/introspect");
        let error = builder.build(&endpoint).unwrap_err();
        assert_no_secrets("the build error", &format!("{error} {error:?} {error:#?}"));
    }
}
