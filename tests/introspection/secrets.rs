//! Neither the token nor our own credentials are in any output, whatever the server responds.

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
use crate::upstream::{Answer, Upstream};

/// Differs from its encoded form.
const TOKEN: &str = "hK3v/N8pR1+YdQ6wLfGc5uJtA1YrM0nZkTq==";

/// Each encoding in which a server may echo a secret.
fn echoes() -> Vec<String> {
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

/// Returns the parts of secrets in this text.
fn leaks(text: &str) -> Vec<String> {
    let text: String = text.split_whitespace().collect();
    let mut found = Vec::new();
    for secret in echoes() {
        let windows = secret.as_bytes().windows(8);
        let windows = windows.map(|window| str::from_utf8(window).unwrap());
        found.extend(windows.filter(|it| text.contains(it)).map(str::to_owned));
    }
    found
}

fn assert_no_secrets(what: &str, text: &str) {
    assert_eq!(leaks(text), Vec::<String>::new(), "{what}: {text}");
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
    for echo in echoes() {
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
    let mut answers: Vec<_> = [400, 401, 403, 404, 429, 500, 503]
        .map(Answer::status)
        .into();
    answers.extend([Answer::Lost, Answer::Hang, Answer::Panic, Answer::json("{")]);
    for echo in echoes() {
        let error = format!("{{\"error\":\"invalid\",\"error_description\":\"got {echo}\"}}");
        // The excerpt ends within the secret.
        let cut = format!("{}{echo}", "x".repeat(190));
        for body in [error, cut, echo] {
            for status in [200, 302, 400, 401, 404, 500, 503] {
                answers.push(Answer::json(body.clone()).with_status(status));
            }
            answers.push(Answer::text(&body.replace('\\', ""), body.clone()));
        }
    }
    let log = Log::default();
    for answer in answers {
        let _logged = log.start();
        let service = ProtectedService::new(&Upstream::responding(answer), &clock());
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
        "credentials that are rejected are told loudly: {log}"
    );
}

#[tokio::test(start_paused = true)]
async fn successes_leak_no_secret() {
    let log = Log::default();
    let logged = log.start();
    let clock = clock();
    let upstream = Upstream::responding(Answer::active());
    let service = ProtectedService::with(&upstream, &clock, |builder| {
        builder.with_stale_if_error(60 * SECOND)
    });
    let principal = service.principal(TOKEN).await;
    assert_no_secrets("the principal", &format!("{principal:?} {principal:#?}"));
    let Cached::Found(record) = service.find_cached(TOKEN) else {
        panic!("it is remembered");
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
    upstream.respond_with(Answer::status(503));
    assert!(service.principal(TOKEN).await.is_stale());
    clock.advance(60 * SECOND);
    upstream.respond_with(Answer::inactive());
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
        RawServer::responding(crate::raw_server::answer(crate::raw_server::ACTIVE)),
        RawServer::responding(format!(
            "HTTP/1.1 400 {TOKEN}\r\nx-{CLIENT_SECRET}: {TOKEN}\r\n\r\n{TOKEN}"
        )),
        RawServer::responding(format!("{TOKEN} {CLIENT_SECRET}\r\n\r\n")),
        RawServer::responding(""),
    ] {
        let service = ProtectedService::to(&raw_server.url(), |builder| builder);
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
        // The secret is set in the wrong place by mistake.
        let endpoint = format!("https://{CLIENT_ID}:{CLIENT_SECRET}@auth.example/introspect");
        let error = builder.build(&endpoint).unwrap_err();
        assert_no_secrets("the mistake", &format!("{error} {error:?} {error:#?}"));
    }
}
