//! No sequence of steps gives a holder a role or a scope that was not granted.
//!
//! [`grants`]: someone holds one token, the root. With it, and with all tokens that are made on the
//! way, they create, update, rotate, disable and enable tokens, their own and those of others, who
//! hold more.
//!
//! [`histories`]: several hold tokens with and without an expiry, and their rights end between the
//! check of a request and its change.
//!
//! A token's rights are tested by whether it allows each of many concrete scopes.

mod grants;
mod histories;
mod invariants;
mod permissions;
mod recording_registry;
mod steps;

use futures::executor::block_on;
use tower_service_token::ServiceTokens;
use tower_service_token::lifecycle::{LifecycleError, NewToken, TokenUpdate};
use tower_service_token::principal::Roles;
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::TokenState;

use self::grants::{Interface, try_to_escalate};
use self::permissions::Permissions;
use self::recording_registry::RecordingRegistry;

#[test]
fn holders_cannot_escalate_through_the_library() {
    try_to_escalate(Interface::Acting, 200);
}

#[test]
fn holders_cannot_escalate_through_the_management_api() {
    try_to_escalate(Interface::Management, 100);
}

#[test]
fn holders_cannot_escalate_through_the_pipeops_api() {
    try_to_escalate(Interface::PipeOps, 100);
}

#[test]
fn holders_cannot_escalate_under_concurrent_changes() {
    histories::run(400);
}

#[test]
fn bulk_revocation_rejects_revoking_a_new_last_administrator() {
    let admin_scopes = ["service-tokens:admin"];
    block_on(async {
        let registry = RecordingRegistry::new();
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
fn permissions_distinguish_wildcard_reach() {
    let permissions =
        |scopes: &[&str]| Permissions::of(&Roles::default(), &scopes.iter().collect());
    for (narrow, wide) in [
        (&["a:read", "a:write"][..], &["a:*"][..]),
        (&["a:*"], &["a:**"]),
        (&["a:*", "b:*"], &["*:*"]),
        (&["*:*"], &["**"]),
        (&["service-tokens:write"], &["service-tokens:*"]),
        (&["vault:open"], &["vault:*"]),
    ] {
        let (narrow, wide) = (permissions(narrow), permissions(wide));
        assert!(narrow.is_within(&wide) && !wide.is_within(&narrow));
    }
}
