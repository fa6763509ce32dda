//! Checks that no sequence of steps gives a holder a role or a scope that was not granted.
//!
//! [`grants`]: a holder starts with one token, the root token. With it and all tokens obtained
//! along the way, the holder creates, updates, rotates, disables and enables tokens, including
//! tokens with more permissions.
//!
//! [`histories`]: several holders have tokens with and without an expiry, and an operator takes
//! permissions away between the authentication of a request and its change.
//!
//! The tests compare permissions by the concrete scopes that a token allows.

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

use self::grants::{Interface, check_random_steps};
use self::permissions::Permissions;
use self::recording_registry::RecordingRegistry;

#[test]
fn holders_cannot_escalate_through_the_library() {
    check_random_steps(Interface::Library, 200);
}

#[test]
fn holders_cannot_escalate_through_the_management_api() {
    check_random_steps(Interface::Management, 100);
}

#[test]
fn holders_cannot_escalate_through_the_pipeops_api() {
    check_random_steps(Interface::PipeOps, 100);
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
        let successor = tokens.create(NewToken::new("successor")).await.unwrap();
        let successor = successor.record().id();
        let operator = ServiceTokens::new(registry.store.clone());
        registry.schedule_change(Box::pin(async move {
            let update = TokenUpdate::new().with_scopes(admin_scopes);
            operator.update(successor, update).await.unwrap();
            operator.revoke(admin).await.unwrap();
        }));
        let filter = TokenFilter::new().with_name("successor");
        let error = tokens.revoke_where(filter, 1).await.unwrap_err();
        assert!(matches!(error, LifecycleError::LastAdmin), "{error}");
        let successor = tokens.get(successor).await.unwrap();
        assert_eq!(successor.state(), TokenState::Active);
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
