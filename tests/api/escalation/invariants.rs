//! Invariants of each write, for every actor at any time.

use std::collections::BTreeSet;
use std::time::SystemTime;

use tower_service_token::Principal;
use tower_service_token::clock::ManualClock;
use tower_service_token::store::{Credential, TokenRecord, verdict};
use tower_service_token::token::TokenId;

use crate::escalation::permissions::Permissions;
use crate::escalation::recording_registry::{Commit, Snapshot};

/// What was attempted.
pub(crate) struct Attempt<'a> {
    pub(crate) what: String,
    pub(crate) actor: TokenId,
    pub(crate) credential: &'a Credential<'a>,
    pub(crate) clock: &'a ManualClock,
    pub(crate) now: SystemTime,
    /// The scope that the actor must hold at the moment of the write, if any.
    pub(crate) needs: Option<&'static str>,
    /// The revision that the change is limited to.
    pub(crate) revision: Option<u64>,
    pub(crate) allows_last_admin_removal: bool,
}

/// What one write did to one token.
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
        let what = &self.what;
        assert_eq!(changes.len(), 1, "{what}: one write is for one token");
        let stored = commit.before.get(&self.actor);
        let judged = verdict(stored.cloned(), self.credential, self.clock);
        let principal = judged.unwrap_or_else(|denial| panic!("{what}: {denial}"));
        let actor = stored.expect("it was judged");
        let holds = |scope: &str| actor.scopes().allow(scope);
        if let Some(scope) = self.needs {
            let is_allowed = holds(scope) || holds("service-tokens:admin");
            assert!(is_allowed, "{what}: {actor:?} does not hold {scope}");
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

    /// A named revision is the one that is changed, and a previous secret rotates at one only.
    fn check_revision(&self, principal: &Principal, change: &Change<'_>) {
        let (Some(before), Some(after)) = (change.before, change.after) else {
            return;
        };
        let what = &self.what;
        if let Some(revision) = self.revision {
            assert_eq!(before.revision(), revision, "{what}");
        }
        let rotates_own = before.id() == self.actor && before.digest() != after.digest();
        let is_blind = principal.uses_previous_secret() && self.revision.is_none();
        assert!(!(rotates_own && is_blind), "{what}: by a previous secret");
    }

    /// The actor covers the token as it was and as it is.
    fn check_permissions(&self, actor: &TokenRecord, change: &Change<'_>) {
        let held = Permissions::of_record(actor);
        for record in change.before.iter().chain(&change.after) {
            let permissions = Permissions::of_record(record);
            let what = &self.what;
            assert!(
                permissions.is_within(&held),
                "{what}: {record:?} by {actor:?}"
            );
        }
    }

    /// What is made, extended, given more rights, or handed out does not outlive the actor.
    fn check_lifetime(&self, actor: &TokenRecord, change: &Change<'_>) {
        let (Some(latest), Some(after)) = (actor.expires_at(), change.after) else {
            return;
        };
        let is_bounded = change.before.is_none_or(|before| {
            let is_extended = match (before.expires_at(), after.expires_at()) {
                (Some(before), Some(after)) => after > before,
                (before, after) => before.is_some() && after.is_none(),
            };
            let has_more =
                !Permissions::of_record(after).is_within(&Permissions::of_record(before));
            let is_handed_out = before.digest() != after.digest() && after.id() != actor.id();
            is_extended || has_more || is_handed_out
        });
        let outlives = after.expires_at().is_none_or(|expiry| expiry > latest);
        let what = &self.what;
        assert!(!(is_bounded && outlives), "{what}: {after:?} by {actor:?}");
    }

    /// Some token may administer afterwards, if one did before.
    fn check_administrators(&self, commit: &Commit) {
        let has_one = |tokens: &Snapshot| tokens.values().any(|it| it.may_administer(self.now));
        let is_ended = has_one(&commit.before) && !has_one(&commit.after);
        assert!(!is_ended || self.allows_last_admin_removal, "{}", self.what);
    }
}

/// The tokens that a write made, changed or deleted.
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
