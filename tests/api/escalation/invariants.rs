//! Invariants that every write must satisfy.

use std::collections::BTreeSet;
use std::time::SystemTime;

use tower_service_token::Principal;
use tower_service_token::clock::ManualClock;
use tower_service_token::store::{Credential, TokenRecord, verdict};
use tower_service_token::token::TokenId;

use crate::escalation::permissions::Permissions;
use crate::escalation::recording_registry::{Commit, Snapshot};

/// A change that an actor attempted.
pub(crate) struct Attempt<'a> {
    pub(crate) description: String,
    pub(crate) actor: TokenId,
    pub(crate) credential: &'a Credential<'a>,
    pub(crate) clock: &'a ManualClock,
    pub(crate) now: SystemTime,
    /// The scope that the actor must hold at the time of the write, if any.
    pub(crate) required_scope: Option<&'static str>,
    /// The revision that the change is conditional on.
    pub(crate) revision: Option<u64>,
    pub(crate) allows_last_admin_removal: bool,
}

/// A token before and after one write.
struct Change<'a> {
    before: Option<&'a TokenRecord>,
    after: Option<&'a TokenRecord>,
}

impl Attempt<'_> {
    pub(crate) fn check(&self, commit: &Commit) {
        let changes = changes(commit);
        if changes.is_empty() {
            return;
        }
        let description = &self.description;
        assert_eq!(changes.len(), 1, "{description}: a write changes one token");
        let stored = commit.before.get(&self.actor);
        let outcome = verdict(stored.cloned(), self.credential, self.clock);
        let principal = outcome.unwrap_or_else(|denial| panic!("{description}: {denial}"));
        let actor = stored.expect("the verdict accepted it");
        let holds = |scope: &str| actor.scopes().allow(scope);
        if let Some(scope) = self.required_scope {
            let is_allowed = holds(scope) || holds("service-tokens:admin");
            assert!(is_allowed, "{description}: {actor:?} does not hold {scope}");
        }
        for change in &changes {
            self.check_revision(&principal, change);
            if !holds("service-tokens:admin") {
                self.check_permissions(actor, change);
                self.check_lifetime(actor, change);
            }
        }
        self.check_administrators(commit);
    }

    /// Asserts that a conditional change applies to its revision only, and that a previous secret
    /// rotates its token only conditionally.
    fn check_revision(&self, principal: &Principal, change: &Change<'_>) {
        let (Some(before), Some(after)) = (change.before, change.after) else {
            return;
        };
        let description = &self.description;
        if let Some(revision) = self.revision {
            assert_eq!(before.revision(), revision, "{description}");
        }
        let rotates_own = before.id() == self.actor && before.digest() != after.digest();
        let is_unconditional = principal.uses_previous_secret() && self.revision.is_none();
        assert!(
            !(rotates_own && is_unconditional),
            "{description}: rotated with a previous secret and without a revision"
        );
    }

    /// Asserts that the actor's permissions cover those of the token before and after the write.
    fn check_permissions(&self, actor: &TokenRecord, change: &Change<'_>) {
        let held = Permissions::of_record(actor);
        for record in change.before.iter().chain(&change.after) {
            let permissions = Permissions::of_record(record);
            let description = &self.description;
            assert!(
                permissions.is_within(&held),
                "{description}: {record:?} by {actor:?}"
            );
        }
    }

    /// Asserts that a token does not outlive the actor's token if the write creates it, extends it,
    /// adds permissions, or gives another holder its new secret.
    fn check_lifetime(&self, actor: &TokenRecord, change: &Change<'_>) {
        let (Some(actor_expiry), Some(after)) = (actor.expires_at(), change.after) else {
            return;
        };
        let must_not_outlive_actor = change.before.is_none_or(|before| {
            let is_extended = match (before.expires_at(), after.expires_at()) {
                (Some(before), Some(after)) => after > before,
                (before, after) => before.is_some() && after.is_none(),
            };
            let has_more_permissions =
                !Permissions::of_record(after).is_within(&Permissions::of_record(before));
            let is_rotated_by_another_actor =
                before.digest() != after.digest() && after.id() != actor.id();
            is_extended || has_more_permissions || is_rotated_by_another_actor
        });
        let outlives = after
            .expires_at()
            .is_none_or(|expiry| expiry > actor_expiry);
        let description = &self.description;
        assert!(
            !(must_not_outlive_actor && outlives),
            "{description}: {after:?} by {actor:?}"
        );
    }

    /// Asserts that the write does not remove the last administrator unless that is allowed.
    fn check_administrators(&self, commit: &Commit) {
        let has_admin = |tokens: &Snapshot| tokens.values().any(|it| it.may_administer(self.now));
        let removes_last_admin = has_admin(&commit.before) && !has_admin(&commit.after);
        assert!(
            !removes_last_admin || self.allows_last_admin_removal,
            "{}",
            self.description
        );
    }
}

/// Returns the tokens that a write created, changed or deleted.
fn changes(commit: &Commit) -> Vec<Change<'_>> {
    let ids = commit.before.keys().chain(commit.after.keys());
    let ids: BTreeSet<_> = ids.collect();
    let changes = ids.into_iter().map(|id| Change {
        before: commit.before.get(id),
        after: commit.after.get(id),
    });
    let is_change = |change: &Change<'_>| {
        let revision = |record: Option<&TokenRecord>| record.map(TokenRecord::revision);
        revision(change.before) != revision(change.after)
    };
    changes.filter(is_change).collect()
}
