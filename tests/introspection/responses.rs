//! Parsing of responses, and responses that are malformed.

use std::time::SystemTime;

use serde_json::{Value, json};
use tower_service_token::introspection::IntrospectionBuilder;

use crate::protected_service::{
    Accepted, CLIENT_ID, Outcome, PROTOCOL, ProtectedService, Rejected, START, at, clock,
};
use crate::upstream::{MockResponse, Upstream, active_with};

/// Returns the outcomes for a response with this body, in strict and in lenient mode.
async fn outcomes_of_body(body: impl Into<Vec<u8>>) -> (Outcome, Outcome) {
    let upstream = Upstream::responding(MockResponse::json(body.into()));
    let strict = ProtectedService::new(&upstream, &clock());
    let lenient = ProtectedService::with(&upstream, &clock(), IntrospectionBuilder::lenient);
    let outcomes = (
        strict.authenticate("token").await,
        lenient.authenticate("token").await,
    );
    assert_eq!(upstream.calls(), 2);
    outcomes
}

/// Returns the outcomes for an active token with these additional members.
async fn outcomes_with(members: &Value) -> (Outcome, Outcome) {
    outcomes_of_body(active_with(members).to_string()).await
}

#[tokio::test(start_paused = true)]
async fn rejects_anything_but_an_object_with_boolean_active() {
    for body in [
        "",
        " ",
        "{",
        "{}",
        "[]",
        "null",
        "true",
        "1",
        "\"active\"",
        "active=true",
        "[{\"active\":true,\"sub\":\"ci\"}]",
        "{\"active\":true,\"sub\":\"ci\"",
        "{\"active\":true,\"sub\":\"c",
        "{\"active\":true,\"sub\":\"ci\",}",
        "{\"active\":true,\"sub\":\"ci\"}}",
        "{\"active\":true,\"sub\":\"ci\"}{}",
        "{\"active\":true,\"sub\":\"ci\"} trailing",
        "{'active':true,'sub':'ci'}",
        "{active:true,sub:\"ci\"}",
        "{\"active\":true,\"sub\":\"ci\"/**/}",
        "{\"sub\":\"ci\"}",
        "{\"Active\":true,\"sub\":\"ci\"}",
        "{\"active \":true,\"sub\":\"ci\"}",
        "{\"active\":\"true\",\"sub\":\"ci\"}",
        "{\"active\":\"false\"}",
        "{\"active\":1,\"sub\":\"ci\"}",
        "{\"active\":0}",
        "{\"active\":null,\"sub\":\"ci\"}",
        "{\"active\":[true],\"sub\":\"ci\"}",
        "{\"active\":{\"active\":true},\"sub\":\"ci\"}",
        "{\"active\":True,\"sub\":\"ci\"}",
        "{\"active\":true,\"sub\":\"\\ud800\"}",
        "{\"active\":true,\"sub\":\"a\nb\"}",
        "{\"active\":true,\"sub\":\"ci\"}\0",
    ] {
        assert_eq!(outcomes_of_body(body).await, (PROTOCOL, PROTOCOL), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_duplicate_members() {
    for body in [
        "{\"active\":false,\"active\":true,\"sub\":\"ci\"}",
        "{\"active\":true,\"active\":false,\"sub\":\"ci\"}",
        "{\"active\":true,\"active\":true,\"sub\":\"ci\"}",
        "{\"active\":true,\"sub\":\"ci\",\"\\u0061ctive\":true}",
        "{\"active\":true,\"sub\":\"ci\",\"sub\":\"root\"}",
        "{\"active\":true,\"sub\":\"ci\",\"client_id\":\"a\",\"client_id\":\"b\"}",
        "{\"active\":true,\"sub\":\"ci\",\"exp\":1,\"exp\":4000000000}",
        "{\"active\":true,\"sub\":\"ci\",\"nbf\":4000000000,\"nbf\":1}",
        "{\"active\":true,\"sub\":\"ci\",\"scope\":\"a\",\"scope\":\"*\"}",
        "{\"active\":true,\"sub\":\"ci\",\"aud\":\"a\",\"aud\":\"b\"}",
        "{\"active\":true,\"sub\":\"ci\",\"iss\":\"a\",\"iss\":\"b\"}",
        "{\"active\":true,\"sub\":\"ci\",\"token_type\":\"dpop\",\"token_type\":\"bearer\"}",
        "{\"active\":true,\"sub\":\"ci\",\"roles\":[\"a\"],\"roles\":[\"admin\"]}",
        "{\"active\":true,\"sub\":\"ci\",\"x\":1,\"x\":1}",
        "{\"active\":true,\"sub\":\"ci\",\"x\":{\"y\":1,\"y\":2}}",
        "{\"active\":true,\"sub\":\"ci\",\"x\":[{\"y\":1,\"y\":2}]}",
    ] {
        assert_eq!(outcomes_of_body(body).await, (PROTOCOL, PROTOCOL), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_invalid_utf_8() {
    let valid = b"{\"active\":true,\"sub\":\"ci\"}";
    let utf_16: Vec<u8> = valid.iter().flat_map(|byte| [*byte, 0]).collect();
    for body in [
        b"{\"active\":true,\"sub\":\"c\xff\"}".to_vec(),
        b"{\"active\":true,\"sub\":\"\xc0\x80\"}".to_vec(),
        b"{\"active\":true,\"sub\":\"\xed\xa0\x80\"}".to_vec(),
        b"{\"active\":true,\"sub\":\"ci\",\"\xfe\":1}".to_vec(),
        b"{\"active\":true,\"sub\":\"ci\"}\xff".to_vec(),
        [b"\xef\xbb\xbf", &valid[..]].concat(),
        [b"\xff\xfe", &utf_16[..]].concat(),
        utf_16,
    ] {
        let description = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(
            outcomes_of_body(body).await,
            (PROTOCOL, PROTOCOL),
            "{description}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn accepts_whitespace_and_unknown_members() {
    for body in [
        "\r\n\t {\"active\" : true , \"sub\" : \"ci\"} \n",
        "{\"sub\":\"ci\",\"active\":true}",
        "{\"\\u0061ctive\":true,\"sub\":\"ci\"}",
        "{\"active\":true,\"sub\":\"ci\",\"\":{\"active\":false},\"ext\":[1e20,null,-0.5]}",
        "{\"active\":true,\"sub\":\"ci\",\"exp\":null,\"nbf\":null,\"iat\":null,\"scope\":null}",
    ] {
        assert_eq!(outcomes_of_body(body).await, (Accepted, Accepted), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_the_body_to_64_kib() {
    let text = "{\"active\":true,\"sub\":\"ci\",\"x\":\"\"}";
    for (length, expected) in [
        (65_536, Accepted),
        (65_537, PROTOCOL),
        (10_000_000, PROTOCOL),
    ] {
        let filled = format!("\"x\":\"{}\"", "a".repeat(length - text.len()));
        let body = text.replace("\"x\":\"\"", &filled);
        assert_eq!(body.len(), length);
        assert_eq!(
            outcomes_of_body(body).await,
            (expected, expected),
            "{length}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_deep_nesting_without_stack_overflow() {
    for depth in [1_000, 30_000] {
        for (open, inner, close) in [("[", "", "]"), ("{\"a\":", "1", "}")] {
            let depth = depth / open.len();
            let nested = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
            let body = format!("{{\"active\":true,\"sub\":\"ci\",\"x\":{nested}}}");
            assert_eq!(
                outcomes_of_body(body).await,
                (PROTOCOL, PROTOCOL),
                "{depth}"
            );
        }
        let body = "[".repeat(depth);
        assert_eq!(
            outcomes_of_body(body).await,
            (PROTOCOL, PROTOCOL),
            "{depth}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn times_are_numbers_or_lenient_digit_strings() {
    const BOTH: (Outcome, Outcome) = (PROTOCOL, PROTOCOL);
    let soon = START + 60;
    for (exp, expected) in [
        (soon.to_string(), (Accepted, Accepted)),
        (format!("\"{soon}\""), (PROTOCOL, Accepted)),
        ("0".to_owned(), (Rejected, Rejected)),
        ("-1".to_owned(), (Rejected, Rejected)),
        (i64::MIN.to_string(), (Rejected, Rejected)),
        ("\"123\"".to_owned(), (PROTOCOL, Rejected)),
        ("\"-123\"".to_owned(), BOTH),
        (i64::MAX.to_string(), (Accepted, Accepted)),
        ("null".to_owned(), (Accepted, Accepted)),
        ("1e20".to_owned(), (Accepted, Accepted)),
        ("1e308".to_owned(), (Accepted, Accepted)),
        ("-1e308".to_owned(), (Rejected, Rejected)),
        ("1e400".to_owned(), BOTH),
        (format!("{soon}.0"), (Accepted, Accepted)),
        (format!("{soon}.5"), (Accepted, Accepted)),
        ("1.9e9".to_owned(), (Accepted, Accepted)),
        ("1.9E+9".to_owned(), (Accepted, Accepted)),
        ("19000000000e-1".to_owned(), (Accepted, Accepted)),
        ("1.8e9".to_owned(), (Rejected, Rejected)),
        ("1.5".to_owned(), (Rejected, Rejected)),
        ("-1.5".to_owned(), (Rejected, Rejected)),
        ("-0.0".to_owned(), (Rejected, Rejected)),
        ("100000000000000000000".to_owned(), (Accepted, Accepted)),
        ("NaN".to_owned(), BOTH),
        ("Infinity".to_owned(), BOTH),
        ("true".to_owned(), BOTH),
        ("[]".to_owned(), BOTH),
        (format!("[{soon}]"), BOTH),
        ("{}".to_owned(), BOTH),
        ("\"\"".to_owned(), BOTH),
        (format!("\" {soon}\""), BOTH),
        (format!("\"{soon}s\""), BOTH),
        (format!("\"{soon}.0\""), BOTH),
        ("\"0x7fffffff\"".to_owned(), BOTH),
        ("\"1e20\"".to_owned(), BOTH),
        ("\"100000000000000000000\"".to_owned(), BOTH),
        ("\"2099-01-01\"".to_owned(), BOTH),
    ] {
        let body = format!("{{\"active\":true,\"sub\":\"ci\",\"exp\":{exp}}}");
        assert_eq!(outcomes_of_body(body).await, expected, "exp {exp}");
        // The other times are parsed in the same way. The rules check their values.
        for name in ["nbf", "iat"] {
            let body = format!("{{\"active\":true,\"sub\":\"ci\",\"{name}\":{exp}}}");
            let (strict, lenient) = outcomes_of_body(body).await;
            let is_parsed = (strict != PROTOCOL, lenient != PROTOCOL);
            let expected = (expected.0 != PROTOCOL, expected.1 != PROTOCOL);
            assert_eq!(is_parsed, expected, "{name} {exp}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn accepts_expiries_beyond_the_clock_range() {
    for exp in [i64::MAX, i64::MAX / 1000, 1 << 53, 253_402_300_800] {
        let response = MockResponse::from_json(&active_with(&json!({ "exp": exp })));
        let service = ProtectedService::new(&Upstream::responding(response), &clock());
        let expires_at = service.principal("token").await.expires_at();
        assert!(expires_at.is_none_or(|time| time > at(START)), "{exp}");
        assert_eq!(service.authenticate("token").await, Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_non_string_text_members() {
    for name in ["sub", "client_id", "iss", "token_type", "scope"] {
        for value in [json!(1), json!(true), json!({}), json!([["a"]]), json!([1])] {
            let outcome = outcomes_with(&json!({ name: value })).await;
            assert_eq!(outcome, (PROTOCOL, PROTOCOL), "{name}: {value}");
        }
    }
    for name in ["sub", "client_id", "iss", "token_type"] {
        let outcome = outcomes_with(&json!({ name: ["a"] })).await;
        assert_eq!(outcome, (PROTOCOL, PROTOCOL), "{name}");
    }
    for value in [
        json!(1),
        json!(true),
        json!({}),
        json!([1]),
        json!(["a", 1]),
    ] {
        let outcome = outcomes_with(&json!({ "aud": value })).await;
        assert_eq!(outcome, (PROTOCOL, PROTOCOL), "aud: {value}");
    }
    for value in [json!(null), json!([]), json!("a"), json!(["a", "b"])] {
        let outcome = outcomes_with(&json!({ "aud": value })).await;
        assert_eq!(outcome, (Accepted, Accepted), "aud: {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn splits_scopes_and_accepts_arrays_in_lenient_mode() {
    const NONE: Option<&[&str]> = Some(&[]);
    let (a_b, rejected): (Option<&[&str]>, _) = (Some(&["a:x", "b:y"]), None);
    for (scope, strict, lenient) in [
        (json!(null), NONE, NONE),
        (json!(""), NONE, NONE),
        (json!("   "), NONE, NONE),
        (json!("a:x b:y"), a_b, a_b),
        (json!(" a:x   b:y a:x "), a_b, a_b),
        (json!([]), rejected, NONE),
        (json!(["a:x", "b:y"]), rejected, a_b),
    ] {
        let response = MockResponse::from_json(&active_with(&json!({ "scope": scope })));
        let upstream = Upstream::responding(response);
        for (is_lenient, expected) in [(false, strict), (true, lenient)] {
            let service = ProtectedService::with(&upstream, &clock(), |builder| {
                if is_lenient {
                    builder.lenient()
                } else {
                    builder
                }
            });
            let Some(expected) = expected else {
                assert_eq!(service.authenticate("token").await, PROTOCOL, "{scope}");
                continue;
            };
            let principal = service.principal("token").await;
            let mut scopes: Vec<_> = principal.scopes().iter().collect();
            scopes.sort_unstable();
            assert_eq!(scopes, expected, "{scope}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn maps_claims_to_the_principal() {
    let id = "7Hq2mX9bTe";
    let full = json!({
        "client_id": CLIENT_ID, "username": "robot", "name": "nightly build", "jti": id,
        "scope": "a:x", "exp": START + 60, "labels": { "team": "a", "workspace": "w1" },
    });
    let response = MockResponse::from_json(&active_with(&full));
    let service = ProtectedService::with(&Upstream::responding(response), &clock(), |builder| {
        builder.with_labels_claim("labels")
    });
    let principal = service.principal("token").await;
    assert_eq!(principal.id().to_string(), id);
    assert_eq!(principal.name(), "nightly build");
    assert_eq!(principal.subject(), Some("ci"));
    assert_eq!(principal.expires_at(), Some(at(START + 60)));
    assert!(principal.scopes().allow("a:x"));
    assert!(principal.roles().is_empty(), "no role claim is configured");
    let labels: Vec<_> = principal.labels().collect();
    assert_eq!(labels, [("team", "a"), ("workspace", "w1")]);
    assert!(!principal.is_stale());
    assert!(!principal.uses_previous_secret());
}

#[tokio::test(start_paused = true)]
async fn picks_the_most_specific_name() {
    let name_of = |members: Value| async move {
        let upstream = Upstream::responding(MockResponse::from_json(&active_with(&members)));
        let service = ProtectedService::new(&upstream, &clock());
        service.principal("token").await.name().to_owned()
    };
    assert_eq!(name_of(json!({})).await, "ci");
    assert_eq!(name_of(json!({ "client_id": "c" })).await, "c");
    assert_eq!(
        name_of(json!({ "client_id": "c", "username": "u" })).await,
        "u"
    );
    let all = json!({ "client_id": "c", "username": "u", "name": "n" });
    assert_eq!(name_of(all).await, "n");
}

#[tokio::test(start_paused = true)]
async fn derives_an_id_if_the_jti_is_not_a_token_id() {
    let clock = clock();
    for (members, depends_on_token) in [
        (json!({}), false),
        (json!({ "jti": null }), false),
        (json!({ "jti": "6f1c9e04-8d6e" }), true),
    ] {
        let upstream = Upstream::responding(MockResponse::from_json(&active_with(&members)));
        let (service, other) = (
            ProtectedService::new(&upstream, &clock),
            ProtectedService::new(&upstream, &clock),
        );
        let id = service.principal("one").await.id();
        assert_eq!(service.principal("one").await.id(), id);
        assert_eq!(
            other.principal("one").await.id(),
            id,
            "the id is the same on every service"
        );
        let other_id = service.principal("two").await.id();
        assert_eq!(other_id == id, depends_on_token, "{members}");
    }
}

#[tokio::test(start_paused = true)]
async fn omits_a_subject_equal_to_the_token_id() {
    let id = "7Hq2mX9bTe";
    let response = MockResponse::from_json(&active_with(&json!({ "sub": id, "jti": id })));
    let service = ProtectedService::new(&Upstream::responding(response), &clock());
    assert_eq!(service.principal("token").await.subject(), None);
}

#[tokio::test(start_paused = true)]
async fn drops_malformed_labels() {
    for labels in [json!("a"), json!(["a"]), json!({ "team": 1 }), json!(null)] {
        let response = MockResponse::from_json(&active_with(&json!({ "labels": labels })));
        let service =
            ProtectedService::with(&Upstream::responding(response), &clock(), |builder| {
                builder.with_labels_claim("labels")
            });
        let principal = service.principal("token").await;
        assert_eq!(principal.labels().count(), 0, "{labels}");
        assert_eq!(principal.expires_at(), None::<SystemTime>);
    }
}
