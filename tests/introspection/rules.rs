//! The rules that an active token must meet, at every request.

use std::time::Duration;

use serde_json::{Value, json};
use tests::time_steps::just_before;
use tower_service_token::clock::ManualClock;
use tower_service_token::introspection::IntrospectionBuilder;
use tower_service_token::store::Cached;

use crate::protected_service::{
    Accepted, MILLISECOND, Outcome, ProtectedService, Rejected, SECOND, START, at, clock,
};
use crate::upstream::{MockResponse, Upstream, active_with};

fn upstream_with(members: &Value) -> Upstream {
    Upstream::responding(MockResponse::from_json(&active_with(members)))
}

/// Returns the outcome for an active token with these members.
async fn outcome_of(
    members: &Value,
    configure: impl Fn(IntrospectionBuilder) -> IntrospectionBuilder,
) -> Outcome {
    let upstream = upstream_with(members);
    let service = ProtectedService::with(&upstream, &clock(), &configure);
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
    let default_settings = |builder| builder;
    for (members, expected) in [
        (json!({ "exp": START + 1 }), Accepted),
        (json!({ "exp": START }), Rejected),
        (json!({ "exp": START - 1 }), Rejected),
        (json!({ "nbf": START }), Accepted),
        (json!({ "nbf": START - 1 }), Accepted),
        // The leeway is 5 s.
        (json!({ "nbf": START + 5 }), Accepted),
        (json!({ "nbf": START + 6 }), Rejected),
        (json!({ "nbf": START - 1, "exp": START + 1 }), Accepted),
        (json!({ "nbf": START + 6, "exp": START + 7 }), Rejected),
        (json!({ "iat": START - 1 }), Accepted),
        (json!({ "iat": START + 5 }), Accepted),
        (json!({ "iat": START + 6 }), Rejected),
    ] {
        assert_eq!(
            outcome_of(&members, default_settings).await,
            expected,
            "{members}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn rounds_fractional_times_toward_rejection() {
    let default_settings = |builder| builder;
    let fraction = |seconds| Duration::from_secs(seconds).as_secs_f64() + 0.5;
    for (members, expected) in [
        (json!({ "exp": fraction(START) }), Rejected),
        (json!({ "exp": fraction(START + 1) }), Accepted),
        (json!({ "nbf": fraction(START + 4) }), Accepted),
        (json!({ "nbf": fraction(START + 5) }), Rejected),
        (json!({ "iat": fraction(START + 4) }), Accepted),
        (json!({ "iat": fraction(START + 5) }), Rejected),
        (json!({ "exp": -0.5 }), Rejected),
        (json!({ "nbf": -0.5, "iat": -1e300 }), Accepted),
    ] {
        assert_eq!(
            outcome_of(&members, default_settings).await,
            expected,
            "{members}"
        );
    }
    let upstream = upstream_with(&json!({ "exp": fraction(START + 60) }));
    let service = ProtectedService::new(&upstream, &clock());
    let principal = service.principal("token").await;
    assert_eq!(principal.expires_at(), Some(at(START + 60)));
}

#[tokio::test(start_paused = true)]
async fn leeway_is_configurable_up_to_five_minutes() {
    let no_leeway = |builder: IntrospectionBuilder| {
        builder
            .with_expiry_leeway(Duration::ZERO)
            .with_start_leeway(Duration::ZERO)
    };
    let one_minute = |builder: IntrospectionBuilder| {
        builder
            .with_expiry_leeway(60 * SECOND)
            .with_start_leeway(60 * SECOND)
    };
    // A leeway compensates for clock skew, so it is at most five minutes.
    let max_leeway = |builder: IntrospectionBuilder| {
        builder
            .with_expiry_leeway(Duration::MAX)
            .with_start_leeway(Duration::MAX)
    };
    for (members, expected) in [
        (json!({ "exp": START }), [Rejected, Accepted, Accepted]),
        (json!({ "exp": START - 59 }), [Rejected, Accepted, Accepted]),
        (json!({ "exp": START - 60 }), [Rejected, Rejected, Accepted]),
        (
            json!({ "exp": START - 300 }),
            [Rejected, Rejected, Rejected],
        ),
        (json!({ "exp": 0 }), [Rejected, Rejected, Rejected]),
        (json!({ "exp": u64::MAX }), [Accepted, Accepted, Accepted]),
        (
            json!({ "nbf": 0, "iat": 0 }),
            [Accepted, Accepted, Accepted],
        ),
        (json!({ "nbf": START + 1 }), [Rejected, Accepted, Accepted]),
        (json!({ "nbf": START + 60 }), [Rejected, Accepted, Accepted]),
        (json!({ "nbf": START + 61 }), [Rejected, Rejected, Accepted]),
        (
            json!({ "nbf": START + 301 }),
            [Rejected, Rejected, Rejected],
        ),
        (json!({ "nbf": u64::MAX }), [Rejected, Rejected, Rejected]),
        (json!({ "iat": START + 1 }), [Rejected, Accepted, Accepted]),
        (json!({ "iat": START + 61 }), [Rejected, Rejected, Accepted]),
        (json!({ "iat": u64::MAX }), [Rejected, Rejected, Rejected]),
    ] {
        let [zero, one, five] = expected;
        assert_eq!(outcome_of(&members, no_leeway).await, zero, "{members}");
        assert_eq!(outcome_of(&members, one_minute).await, one, "{members}");
        assert_eq!(outcome_of(&members, max_leeway).await, five, "{members}");
    }
}

/// A cache in front of the store checks the times of the record, so they include the leeway.
#[tokio::test(start_paused = true)]
async fn record_times_include_the_leeway() {
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
        (json!({ "aud": "other" }), Rejected),
        (json!({ "aud": "api2" }), Rejected),
        (json!({ "aud": "API" }), Rejected),
        (json!({ "aud": "api other" }), Rejected),
        (json!({ "aud": ["other"] }), Rejected),
        (json!({ "aud": [] }), Rejected),
        (json!({ "aud": "" }), Rejected),
        (json!({ "aud": null }), Rejected),
        (json!({}), Rejected),
    ] {
        let with_audience = |builder: IntrospectionBuilder| builder.with_audience("api");
        assert_eq!(
            outcome_of(&members, with_audience).await,
            expected,
            "{members}"
        );
        assert_eq!(outcome_of(&members, |builder| builder).await, Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_tokens_of_another_or_missing_issuer() {
    const ISSUER: &str = "https://auth.example";
    for (members, expected, if_required) in [
        (json!({ "iss": ISSUER }), Accepted, Accepted),
        (
            json!({ "iss": "https://auth.example/" }),
            Rejected,
            Rejected,
        ),
        (json!({ "iss": "https://AUTH.example" }), Rejected, Rejected),
        (json!({ "iss": "https://evil.example" }), Rejected, Rejected),
        (json!({ "iss": "" }), Rejected, Rejected),
        (json!({}), Accepted, Rejected),
        (json!({ "iss": null }), Accepted, Rejected),
    ] {
        let with_issuer = |builder: IntrospectionBuilder| builder.with_issuer(ISSUER);
        let required = |builder| with_issuer(builder).require_issuer();
        assert_eq!(
            outcome_of(&members, with_issuer).await,
            expected,
            "{members}"
        );
        assert_eq!(
            outcome_of(&members, required).await,
            if_required,
            "{members}"
        );
        assert_eq!(outcome_of(&members, |builder| builder).await, Accepted);
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
        (json!({ "token_type": "DPoP" }), Rejected),
        (json!({ "token_type": "dpop" }), Rejected),
        (json!({ "token_type": "refresh_token" }), Rejected),
        (json!({ "token_type": "id_token" }), Rejected),
        (json!({ "token_type": "PoP" }), Rejected),
        (json!({ "token_type": "mac" }), Rejected),
        (json!({ "token_type": "Bearer " }), Rejected),
        (json!({ "cnf": { "jkt": "x" } }), Rejected),
        (json!({ "cnf": { "x5t#S256": "x" } }), Rejected),
        (json!({ "cnf": {} }), Rejected),
        (json!({ "cnf": "x" }), Rejected),
        (
            json!({ "token_type": "Bearer", "cnf": { "jkt": "x" } }),
            Rejected,
        ),
    ] {
        assert_eq!(
            outcome_of(&members, |builder| builder).await,
            expected,
            "{members}"
        );
        let lenient = |builder: IntrospectionBuilder| builder.lenient();
        assert_eq!(outcome_of(&members, lenient).await, expected, "{members}");
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_tokens_without_subject_unless_allowed() {
    for (response, subject) in [
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
        let upstream = Upstream::responding(MockResponse::from_json(&response));
        let service = ProtectedService::new(&upstream, &clock());
        let lenient = ProtectedService::with(&upstream, &clock(), |builder| {
            builder.allow_missing_subject()
        });
        assert_eq!(
            lenient.principal("token").await.subject(),
            subject,
            "{response}"
        );
        if subject.is_none() {
            assert_eq!(service.authenticate("token").await, Rejected, "{response}");
        } else {
            assert_eq!(
                service.principal("token").await.subject(),
                subject,
                "{response}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn empty_subject_counts_as_missing() {
    for members in [json!({ "sub": "" }), json!({ "sub": "", "client_id": "" })] {
        assert_eq!(
            outcome_of(&members, |builder| builder).await,
            Rejected,
            "{members}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn reads_roles_only_from_the_configured_claim() {
    let roles_at = |members: Value, path: &'static str| async move {
        let service = ProtectedService::with(&upstream_with(&members), &clock(), |builder| {
            builder.with_role_claim(path)
        });
        let principal = service.principal("token").await;
        let mut roles: Vec<_> = principal.roles().iter().map(str::to_owned).collect();
        roles.sort_unstable();
        roles
    };
    let no_roles: [&str; 0] = [];
    let realm = json!({ "realm_access": { "roles": ["a", "b"] }, "roles": ["c"] });
    assert_eq!(
        roles_at(realm.clone(), "realm_access.roles").await,
        ["a", "b"]
    );
    assert_eq!(roles_at(realm.clone(), "roles").await, ["c"]);
    assert_eq!(roles_at(realm.clone(), "realm_access").await, no_roles);
    assert_eq!(
        roles_at(realm.clone(), "realm_access.roles.a").await,
        no_roles
    );
    assert_eq!(
        roles_at(realm.clone(), "realm_access.other").await,
        no_roles
    );
    assert_eq!(roles_at(realm, "missing.roles").await, no_roles);
    for (value, expected) in [
        (json!(["a", "b"]), &["a", "b"][..]),
        (json!("a b"), &["a", "b"]),
        (json!("  b   a "), &["a", "b"]),
        (json!(""), &no_roles),
        (json!([]), &no_roles),
        (json!(null), &no_roles),
        (json!(1), &no_roles),
        (json!(true), &no_roles),
        (json!({ "a": true }), &no_roles),
        (json!([1, 2]), &no_roles),
        (json!([["a"]]), &no_roles),
    ] {
        let members = json!({ "roles": value });
        assert_eq!(roles_at(members, "roles").await, expected, "{value}");
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
    let all_dropped = ProtectedService::with(
        &upstream_with(&json!({ "scope": "a:x" })),
        &clock(),
        |builder| builder.with_scope_mapping(|_| None),
    );
    assert!(all_dropped.principal("token").await.scopes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn cached_entry_expires_at_exp_by_the_wall_clock() {
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
    assert_eq!(service.authenticate("token").await, Rejected);
    // The server may have extended the token.
    upstream.respond_with(MockResponse::from_json(&active_with(
        &json!({ "exp": START + 50 }),
    )));
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
    assert_eq!(service.authenticate("token").await, Rejected);
    clock.set(at(START - 5));
    assert_eq!(service.authenticate("token").await, Accepted);
}

#[tokio::test(start_paused = true)]
async fn cached_token_becomes_valid_at_nbf() {
    let clock = clock();
    let upstream = upstream_with(&json!({ "nbf": START + 6 }));
    let service = ProtectedService::new(&upstream, &clock);
    assert_eq!(service.authenticate("token").await, Rejected);
    clock.advance(just_before(SECOND));
    assert_eq!(service.authenticate("token").await, Rejected);
    clock.advance(MILLISECOND);
    assert_eq!(service.authenticate("token").await, Accepted);
}
