//! Nobody comes by a role or a scope that was not given to them, by whatever steps.
//!
//! [`grants`]: someone holds one token, the root. With it, and with all tokens that are made on the
//! way, they create, update, rotate, disable and enable tokens, their own and those of others, who
//! hold more.
//!
//! [`histories`]: several hold tokens with and without an expiry, and their rights end between the
//! check of a request and its change.
//!
//! What a token is good for is asked of it: whether it allows each of many concrete scopes.

#[path = "support/managed.rs"]
mod managed;

#[path = "escalation/commits.rs"]
mod commits;
#[path = "escalation/grants.rs"]
mod grants;
#[path = "escalation/histories.rs"]
mod histories;
#[path = "escalation/invariants.rs"]
mod invariants;
#[path = "escalation/power.rs"]
mod power;
#[path = "escalation/steps.rs"]
mod steps;

use futures::executor::block_on;
use tower_service_token::ServiceTokens;
use tower_service_token::lifecycle::{LifecycleError, NewToken, TokenUpdate};
use tower_service_token::principal::Roles;
use tower_service_token::store::{TokenFilter, TokenState};

use self::commits::Commits;
use self::grants::{Way, try_to_escalate};
use self::power::Power;

#[test]
fn no_steps_of_a_holder_escalate() {
    try_to_escalate(Way::Acting, 200);
}

#[test]
fn no_calls_of_the_management_api_escalate() {
    try_to_escalate(Way::Management, 100);
}

#[test]
fn no_calls_of_the_pipeops_api_escalate() {
    try_to_escalate(Way::PipeOps, 100);
}

#[test]
fn no_history_of_holders_and_interferences_escalates() {
    histories::run(400);
}

#[test]
fn bulk_revocation_does_not_end_an_administrator_that_became_the_last_meanwhile() {
    let admin_scopes = ["service-tokens:admin"];
    block_on(async {
        let registry = Commits::new();
        let tokens = ServiceTokens::new(registry.clone());
        let admin = NewToken::new("admin").with_scopes(admin_scopes);
        let admin = tokens.create(admin).await.unwrap().record().id();
        let heir = tokens.create(NewToken::new("heir")).await.unwrap();
        let heir = heir.record().id();
        let operator = ServiceTokens::new(registry.store.clone());
        registry.interfere(Box::pin(async move {
            let update = TokenUpdate::new().with_scopes(admin_scopes);
            operator.update(heir, update).await.unwrap();
            operator.revoke(admin).await.unwrap();
        }));
        let filter = TokenFilter::new().with_name("heir");
        let refused = tokens.revoke_where(filter, 1).await.unwrap_err();
        assert!(matches!(refused, LifecycleError::LastAdmin), "{refused}");
        let heir = tokens.get(heir).await.unwrap();
        assert_eq!(heir.state(), TokenState::Active);
    });
}

#[test]
fn what_a_wildcard_reaches_is_seen() {
    let power = |scopes: &[&str]| Power::of(&Roles::default(), &scopes.iter().collect());
    for (narrow, wide) in [
        (&["a:read", "a:write"][..], &["a:*"][..]),
        (&["a:*"], &["a:**"]),
        (&["a:*", "b:*"], &["*:*"]),
        (&["*:*"], &["**"]),
        (&["service-tokens:write"], &["service-tokens:*"]),
        (&["vault:open"], &["vault:*"]),
    ] {
        let (narrow, wide) = (power(narrow), power(wide));
        assert!(narrow.is_within(&wide) && !wide.is_within(&narrow));
    }
}
