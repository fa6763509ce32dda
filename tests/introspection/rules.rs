//! The rules that an active token must meet, at every request.

use std::time::Duration;

use serde_json::{Value, json};
use tower_service_token::clock::ManualClock;
use tower_service_token::introspection::IntrospectionBuilder;
use tower_service_token::store::Cached;

use crate::protected_service::{
    Accepted, MILLISECOND, Outcome, ProtectedService, Refused, SECOND, START, at, clock,
    just_before,
};
use crate::upstream::{Answer, Upstream, active_with};

fn upstream_with(members: &Value) -> Upstream {
    Upstream::responding(Answer::of(&active_with(members)))
}

/// Returns the outcome for an active token with these members.
async fn judge(
    members: &Value,
    set: impl Fn(IntrospectionBuilder) -> IntrospectionBuilder,
) -> Outcome {
    let upstream = upstream_with(members);
    let service = ProtectedService::with(&upstream, &clock(), &set);
    let outcome = service.authenticate("token").await;
    // A token that violates a rule is rejected again without another call.
    assert_eq!(service.authenticate("token").await, outcome, "{members}");
    assert!(upstream.calls() <= 2);
    if outcome == Accepted {
        assert_eq!(upstream.calls(), 1);
    }
    outcome
}

#[tokio::test(start_paused = true)]
async fn accepts_tokens_from_nbf_until_exp() {
    let plain = |builder| builder;
    for (members, expected) in [
        (json!({ "exp": START + 1 }), Accepted),
        (json!({ "exp": START }), Refused),
        (json!({ "exp": START - 1 }), Refused),
        (json!({ "nbf": START }), Accepted),
        (json!({ "nbf": START - 1 }), Accepted),
        // The leeway is 5 s.
        (json!({ "nbf": START + 5 }), Accepted),
        (json!({ "nbf": START + 6 }), Refused),
        (json!({ "nbf": START - 1, "exp": START + 1 }), Accepted),
        (json!({ "nbf": START + 6, "exp": START + 7 }), Refused),
        (json!({ "iat": START - 1 }), Accepted),
        (json!({ "iat": START + 5 }), Accepted),
        (json!({ "iat": START + 6 }), Refused),
    ] {
        assert_eq!(judge(&members, plain).await, expected, "{members}");
    }
}

#[tokio::test(start_paused = true)]
async fn rounds_fractions_against_the_holder() {
    let plain = |builder| builder;
    let fraction = |seconds| Duration::from_secs(seconds).as_secs_f64() + 0.5;
    for (members, expected) in [
        (json!({ "exp": fraction(START) }), Refused),
        (json!({ "exp": fraction(START + 1) }), Accepted),
        (json!({ "nbf": fraction(START + 4) }), Accepted),
        (json!({ "nbf": fraction(START + 5) }), Refused),
        (json!({ "iat": fraction(START + 4) }), Accepted),
        (json!({ "iat": fraction(START + 5) }), Refused),
        (json!({ "exp": -0.5 }), Refused),
        (json!({ "nbf": -0.5, "iat": -1e300 }), Accepted),
    ] {
        assert_eq!(judge(&members, plain).await, expected, "{members}");
    }
    let upstream = upstream_with(&json!({ "exp": fraction(START + 60) }));
    let service = ProtectedService::new(&upstream, &clock());
    let principal = service.principal("token").await;
    assert_eq!(principal.expires_at(), Some(at(START + 60)));
}

#[tokio::test(start_paused = true)]
async fn leeway_is_a_setting() {
    let none = |builder: IntrospectionBuilder| {
        builder
            .with_expiry_leeway(Duration::ZERO)
            .with_start_leeway(Duration::ZERO)
    };
    let minute = |builder: IntrospectionBuilder| {
        builder
            .with_expiry_leeway(60 * SECOND)
            .with_start_leeway(60 * SECOND)
    };
    // Five minutes at most: a leeway is for clocks, not for lifetimes.
    let longest = |builder: IntrospectionBuilder| {
        builder
            .with_expiry_leeway(Duration::MAX)
            .with_start_leeway(Duration::MAX)
    };
    for (members, expected) in [
        (json!({ "exp": START }), [Refused, Accepted, Accepted]),
        (json!({ "exp": START - 59 }), [Refused, Accepted, Accepted]),
        (json!({ "exp": START - 60 }), [Refused, Refused, Accepted]),
        (json!({ "exp": START - 300 }), [Refused, Refused, Refused]),
        (json!({ "exp": 0 }), [Refused, Refused, Refused]),
        (json!({ "exp": u64::MAX }), [Accepted, Accepted, Accepted]),
        (
            json!({ "nbf": 0, "iat": 0 }),
            [Accepted, Accepted, Accepted],
        ),
        (json!({ "nbf": START + 1 }), [Refused, Accepted, Accepted]),
        (json!({ "nbf": START + 60 }), [Refused, Accepted, Accepted]),
        (json!({ "nbf": START + 61 }), [Refused, Refused, Accepted]),
        (json!({ "nbf": START + 301 }), [Refused, Refused, Refused]),
        (json!({ "nbf": u64::MAX }), [Refused, Refused, Refused]),
        (json!({ "iat": START + 1 }), [Refused, Accepted, Accepted]),
        (json!({ "iat": START + 61 }), [Refused, Refused, Accepted]),
        (json!({ "iat": u64::MAX }), [Refused, Refused, Refused]),
    ] {
        let [zero, one, five] = expected;
        assert_eq!(judge(&members, none).await, zero, "{members}");
        assert_eq!(judge(&members, minute).await, one, "{members}");
        assert_eq!(judge(&members, longest).await, five, "{members}");
    }
}

/// Whatever else judges the record, such as a cache in front, sees when it is accepted here.
#[tokio::test(start_paused = true)]
async fn records_contain_the_leeway() {
    let members = json!({ "exp": START + 60, "nbf": START + 3, "iat": START + 3 });
    let service = ProtectedService::with(&upstream_with(&members), &clock(), |builder| {
        builder.with_expiry_leeway(2 * SECOND)
    });
    let record = service.find("token").await.unwrap().unwrap();
    assert_eq!(record.expires_at(), Some(at(START + 62)));
    assert_eq!(record.not_before(), Some(at(START - 2)));
    assert_eq!(record.created_at(), Some(at(START + 3)));
}

#[tokio::test(start_paused = true)]
async fn rejects_tokens_without_the_configured_audience() {
    for (members, expected) in [
        (json!({ "aud": "api" }), Accepted),
        (json!({ "aud": ["other", "api"] }), Accepted),
        (json!({ "aud": "other" }), Refused),
        (json!({ "aud": "api2" }), Refused),
        (json!({ "aud": "API" }), Refused),
        (json!({ "aud": "api other" }), Refused),
        (json!({ "aud": ["other"] }), Refused),
        (json!({ "aud": [] }), Refused),
        (json!({ "aud": "" }), Refused),
        (json!({ "aud": null }), Refused),
        (json!({}), Refused),
    ] {
        let with_audience = |builder: IntrospectionBuilder| builder.with_audience("api");
        assert_eq!(judge(&members, with_audience).await, expected, "{members}");
        assert_eq!(judge(&members, |builder| builder).await, Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_tokens_of_another_or_missing_issuer() {
    const ISSUER: &str = "https://auth.example";
    for (members, expected, if_required) in [
        (json!({ "iss": ISSUER }), Accepted, Accepted),
        (json!({ "iss": "https://auth.example/" }), Refused, Refused),
        (json!({ "iss": "https://AUTH.example" }), Refused, Refused),
        (json!({ "iss": "https://evil.example" }), Refused, Refused),
        (json!({ "iss": "" }), Refused, Refused),
        (json!({}), Accepted, Refused),
        (json!({ "iss": null }), Accepted, Refused),
    ] {
        let with_issuer = |builder: IntrospectionBuilder| builder.with_issuer(ISSUER);
        let required = |builder| with_issuer(builder).require_issuer();
        assert_eq!(judge(&members, with_issuer).await, expected, "{members}");
        assert_eq!(judge(&members, required).await, if_required, "{members}");
        assert_eq!(judge(&members, |builder| builder).await, Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_non_bearer_and_key_bound_tokens() {
    for (members, expected) in [
        (json!({}), Accepted),
        (json!({ "token_type": null }), Accepted),
        (json!({ "token_type": "Bearer" }), Accepted),
        (json!({ "token_type": "bearer" }), Accepted),
        (json!({ "token_type": "BEARER" }), Accepted),
        (json!({ "token_type": "access_token" }), Accepted),
        (json!({ "token_type": "Access_Token" }), Accepted),
        (json!({ "token_type": "DPoP" }), Refused),
        (json!({ "token_type": "dpop" }), Refused),
        (json!({ "token_type": "refresh_token" }), Refused),
        (json!({ "token_type": "id_token" }), Refused),
        (json!({ "token_type": "PoP" }), Refused),
        (json!({ "token_type": "mac" }), Refused),
        (json!({ "token_type": "Bearer " }), Refused),
        (json!({ "cnf": { "jkt": "x" } }), Refused),
        (json!({ "cnf": { "x5t#S256": "x" } }), Refused),
        (json!({ "cnf": {} }), Refused),
        (json!({ "cnf": "x" }), Refused),
        (
            json!({ "token_type": "Bearer", "cnf": { "jkt": "x" } }),
            Refused,
        ),
    ] {
        assert_eq!(
            judge(&members, |builder| builder).await,
            expected,
            "{members}"
        );
        let lenient = |builder: IntrospectionBuilder| builder.lenient();
        assert_eq!(judge(&members, lenient).await, expected, "{members}");
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_tokens_without_subject_unless_allowed() {
    for (answer, subject) in [
        (json!({ "active": true }), None),
        (json!({ "active": true, "username": "robot" }), None),
        (json!({ "active": true, "sub": null }), None),
        (json!({ "active": true, "client_id": "c" }), Some("c")),
        (json!({ "active": true, "sub": "s" }), Some("s")),
        (
            json!({ "active": true, "sub": null, "client_id": "c" }),
            Some("c"),
        ),
        (
            json!({ "active": true, "sub": "s", "client_id": "c" }),
            Some("s"),
        ),
    ] {
        let upstream = Upstream::responding(Answer::of(&answer));
        let service = ProtectedService::new(&upstream, &clock());
        let lax = ProtectedService::with(&upstream, &clock(), |builder| {
            builder.allow_missing_subject()
        });
        assert_eq!(lax.principal("token").await.subject(), subject, "{answer}");
        if subject.is_none() {
            assert_eq!(service.authenticate("token").await, Refused, "{answer}");
        } else {
            assert_eq!(
                service.principal("token").await.subject(),
                subject,
                "{answer}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn empty_subject_counts_as_missing() {
    for members in [json!({ "sub": "" }), json!({ "sub": "", "client_id": "" })] {
        assert_eq!(
            judge(&members, |builder| builder).await,
            Refused,
            "{members}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn reads_roles_only_from_the_configured_claim() {
    let sorted = |members: Value, path: &'static str| async move {
        let service = ProtectedService::with(&upstream_with(&members), &clock(), |builder| {
            builder.with_role_claim(path)
        });
        let principal = service.principal("token").await;
        let mut roles: Vec<_> = principal.roles().iter().map(str::to_owned).collect();
        roles.sort_unstable();
        roles
    };
    let none: [&str; 0] = [];
    let realm = json!({ "realm_access": { "roles": ["a", "b"] }, "roles": ["c"] });
    assert_eq!(
        sorted(realm.clone(), "realm_access.roles").await,
        ["a", "b"]
    );
    assert_eq!(sorted(realm.clone(), "roles").await, ["c"]);
    assert_eq!(sorted(realm.clone(), "realm_access").await, none);
    assert_eq!(sorted(realm.clone(), "realm_access.roles.a").await, none);
    assert_eq!(sorted(realm.clone(), "realm_access.other").await, none);
    assert_eq!(sorted(realm, "missing.roles").await, none);
    for (value, expected) in [
        (json!(["a", "b"]), &["a", "b"][..]),
        (json!("a b"), &["a", "b"]),
        (json!("  b   a "), &["a", "b"]),
        (json!(""), &none),
        (json!([]), &none),
        (json!(null), &none),
        (json!(1), &none),
        (json!(true), &none),
        (json!({ "a": true }), &none),
        (json!([1, 2]), &none),
        (json!([["a"]]), &none),
    ] {
        let members = json!({ "roles": value });
        assert_eq!(sorted(members, "roles").await, expected, "{value}");
    }
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn logs_malformed_roles() {
    for (roles, warns) in [(json!(["a"]), false), (json!(7), true), (json!({}), true)] {
        let log = tests::log::Log::default();
        let _logged = log.start();
        let service = ProtectedService::with(
            &upstream_with(&json!({ "roles": roles })),
            &clock(),
            |builder| builder.with_role_claim("roles"),
        );
        assert_eq!(service.authenticate("token").await, Accepted);
        let text = log.text();
        assert_eq!(text.contains("WARN"), warns, "{roles}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn scope_mapping_renames_and_drops_scopes() {
    let members = json!({ "scope": "openid svc.projects.write projects:write" });
    let service = ProtectedService::with(&upstream_with(&members), &clock(), |builder| {
        builder.with_scope_mapping(|scope| {
            let rest = scope.strip_prefix("svc.")?;
            Some(rest.replace('.', ":"))
        })
    });
    let principal = service.principal("token").await;
    let mapped: Vec<_> = principal.scopes().iter().collect();
    assert_eq!(mapped, ["projects:write"]);
    let without = ProtectedService::with(
        &upstream_with(&json!({ "scope": "a:x" })),
        &clock(),
        |builder| builder.with_scope_mapping(|_| None),
    );
    assert!(without.principal("token").await.scopes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn exp_ends_a_cached_entry_by_the_wall_clock() {
    let clock = clock();
    let upstream = upstream_with(&json!({ "exp": START + 5 }));
    let service = ProtectedService::new(&upstream, &clock);
    assert_eq!(service.authenticate("token").await, Accepted);
    clock.set(at(START + 5) - MILLISECOND);
    assert!(matches!(service.find_cached("token"), Cached::Found(_)));
    assert_eq!(service.authenticate("token").await, Accepted);
    assert_eq!(upstream.calls(), 1);
    // Only the wall clock changes.
    clock.set(at(START + 5));
    assert!(!matches!(service.find_cached("token"), Cached::Found(_)));
    assert_eq!(service.authenticate("token").await, Refused);
    // The server may have extended the token.
    upstream.respond_with(Answer::of(&active_with(&json!({ "exp": START + 50 }))));
    assert_eq!(service.authenticate("token").await, Accepted);
}

#[tokio::test(start_paused = true)]
async fn setting_the_wall_clock_back_does_not_extend_entries() {
    let clock = clock();
    let upstream = upstream_with(&json!({ "exp": START + 5 }));
    let service = ProtectedService::new(&upstream, &clock);
    assert_eq!(service.authenticate("token").await, Accepted);
    clock.set(at(START - 86_400));
    clock.advance(just_before(10 * SECOND));
    assert_eq!(service.authenticate("token").await, Accepted);
    assert_eq!(upstream.calls(), 1);
    clock.advance(MILLISECOND);
    assert_eq!(service.authenticate("token").await, Accepted);
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn nbf_is_checked_on_cache_hits() {
    let clock: ManualClock = clock();
    let upstream = upstream_with(&json!({ "nbf": START }));
    let service = ProtectedService::new(&upstream, &clock);
    assert_eq!(service.authenticate("token").await, Accepted);
    clock.set(at(START - 6));
    assert_eq!(service.authenticate("token").await, Refused);
    clock.set(at(START - 5));
    assert_eq!(service.authenticate("token").await, Accepted);
}

#[tokio::test(start_paused = true)]
async fn cached_token_becomes_valid_at_nbf() {
    let clock = clock();
    let upstream = upstream_with(&json!({ "nbf": START + 6 }));
    let service = ProtectedService::new(&upstream, &clock);
    assert_eq!(service.authenticate("token").await, Refused);
    clock.advance(just_before(SECOND));
    assert_eq!(service.authenticate("token").await, Refused);
    clock.advance(MILLISECOND);
    assert_eq!(service.authenticate("token").await, Accepted);
}
