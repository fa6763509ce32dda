//! Neither the token nor our own credentials stand in anything that is shown, whatever the server
//! says.

use std::error::Error;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tower_service_token::store::{Cached, ClientAuth, IntrospectionStore, StoreError};

use crate::log::Log;
use crate::node::{CLIENT_ID, CLIENT_SECRET, ENDPOINT, Node, SECOND, clock};
use crate::upstream::{Answer, Upstream};
use crate::wire::Wire;

/// Encoded, it looks otherwise.
const TOKEN: &str = "hK3v/N8pR1+YdQ6wLfGc5uJtA1YrM0nZkTq==";

/// Each way in which a server may send a secret back.
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

/// The parts of secrets that stand in this text.
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

fn assert_silent(what: &str, text: &str) {
    assert_eq!(leaks(text), Vec::<String>::new(), "{what}: {text}");
}

fn told(error: &StoreError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text} {error} {error:?} {error:#?}");
        next = error.source();
    }
    text
}

#[test]
fn the_search_finds_what_was_planted() {
    for echo in echoes() {
        assert_ne!(
            leaks(&format!("...{}...", &echo[..12])),
            Vec::<String>::new()
        );
    }
    assert_silent(
        "the client id is public",
        &format!("{CLIENT_ID} {ENDPOINT}"),
    );
}

#[tokio::test(start_paused = true)]
async fn no_answer_makes_a_secret_show_in_an_error_or_a_log() {
    let mut answers: Vec<_> = [400, 401, 403, 404, 429, 500, 503]
        .map(Answer::status)
        .into();
    answers.extend([Answer::Lost, Answer::Hang, Answer::Panic, Answer::json("{")]);
    for echo in echoes() {
        let error = format!("{{\"error\":\"invalid\",\"error_description\":\"got {echo}\"}}");
        // Of what is shown of the body, the end comes within the secret.
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
        let node = Node::new(&Upstream::saying(answer), &clock());
        let error = node.find(TOKEN).await.unwrap_err();
        assert_silent("the error", &told(&error));
        let response = node.send(TOKEN).await;
        assert_silent("the response", &format!("{response:?} {response:#?}"));
        assert_silent("the store", &format!("{:?} {:#?}", node.store, node.store));
    }
    let log = log.text();
    assert_silent("the log", &log);
    assert_eq!(!log.is_empty(), cfg!(feature = "tracing"));
    #[cfg(feature = "tracing")]
    assert!(
        log.contains("ERROR"),
        "credentials that are rejected are told loudly: {log}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_success_makes_a_secret_show() {
    let log = Log::default();
    let logged = log.start();
    let clock = clock();
    let upstream = Upstream::saying(Answer::active());
    let node = Node::with(&upstream, &clock, |builder| {
        builder.with_stale_if_error(60 * SECOND)
    });
    let principal = node.principal(TOKEN).await;
    assert_silent("the principal", &format!("{principal:?} {principal:#?}"));
    let Cached::Found(record) = node.remembered(TOKEN) else {
        panic!("it is remembered");
    };
    assert_silent(
        "the record",
        &format!("{record:?} {record:#?} {}", record.name()),
    );
    assert_silent("the store", &format!("{:?} {:#?}", node.store, node.store));
    assert_silent("the status", &format!("{:?}", node.store.status()));
    clock.advance(10 * SECOND);
    upstream.say(Answer::status(503));
    assert!(node.principal(TOKEN).await.is_stale());
    clock.advance(60 * SECOND);
    upstream.say(Answer::inactive());
    node.send(TOKEN).await;
    node.send(TOKEN).await;
    drop(logged);
    assert_silent("the log", &log.text());
}

#[tokio::test]
async fn what_a_real_connection_logs_is_silent() {
    let log = Log::default();
    let logged = log.start();
    for wire in [
        Wire::saying(crate::wire::answer(crate::wire::ACTIVE)),
        Wire::saying(format!(
            "HTTP/1.1 400 {TOKEN}\r\nx-{CLIENT_SECRET}: {TOKEN}\r\n\r\n{TOKEN}"
        )),
        Wire::saying(format!("{TOKEN} {CLIENT_SECRET}\r\n\r\n")),
        Wire::saying(""),
    ] {
        let node = Node::to(&wire.url(), |builder| builder);
        let found = node.find(TOKEN).await;
        if let Err(error) = found {
            assert_silent("the error", &told(&error));
        }
        node.send(TOKEN).await;
    }
    drop(logged);
    assert_silent("the log", &log.text());
}

#[test]
fn credentials_and_settings_show_the_method_and_the_client_alone() {
    for (auth, client) in [
        (ClientAuth::basic(CLIENT_ID, CLIENT_SECRET), CLIENT_ID),
        (ClientAuth::basic_raw(CLIENT_ID, CLIENT_SECRET), CLIENT_ID),
        (ClientAuth::post(CLIENT_ID, CLIENT_SECRET), CLIENT_ID),
        (ClientAuth::bearer(CLIENT_SECRET), ""),
    ] {
        let text = format!("{auth:?} {auth:#?}");
        assert_silent("the credentials", &text);
        assert!(text.contains(client), "{text}");
        let builder = IntrospectionStore::builder(auth);
        assert_silent("the builder", &format!("{builder:?} {builder:#?}"));
        // The mistake of putting the secret into the wrong place.
        let endpoint = format!("https://{CLIENT_ID}:{CLIENT_SECRET}@auth.example/introspect");
        let error = builder.build(&endpoint).unwrap_err();
        assert_silent("the mistake", &format!("{error} {error:?} {error:#?}"));
    }
}
