use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fixture::Fixture;
use super::records::{at, digest, full_record, id, plain_record, write};
use crate::digest::TokenDigest;
use crate::registry::TokenRegistry;
use crate::store::{ChangeListener, TokenChange};
use crate::token::TokenId;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> Fixture<R>) {
    let store = empty().await;
    store.insert([plain_record(4)]).await;
    let changes = RecordedChanges::subscribe(&store.0);

    store.insert([full_record(1)]).await;
    changes.assert_published("an insertion", 1, &[1, 1001]);
    let rotated = full_record(1).with_digest(digest(11));
    let rotated = rotated.with_previous_digest((digest(1), at(60)));
    let rotated = store.update(rotated).await;
    changes.assert_published("a rotation", 1, &[1, 11, 1001]);
    // Touches another token, because a store may publish a change a second time later.
    let touched = store.0.touch(&[(id(4), at(900_000))]).await;
    touched.expect("a last use");
    let is_of_touched =
        |change: &TokenChange| matches!(change, TokenChange::Token { id: it, .. } if *it == id(4));
    assert!(
        !changes.take().iter().any(is_of_touched),
        "a last use was published as a change"
    );
    let failed = store.0.update(&write(plain_record(2))).await;
    assert!(failed.is_err());
    store.delete(rotated).await;
    changes.assert_published("a deletion", 1, &[1, 11]);

    drop(changes);
    // A dropped listener does not affect the store.
    store.insert([plain_record(3)]).await;
}

#[derive(Default)]
pub(super) struct RecordedChanges(Mutex<Vec<TokenChange>>);

impl ChangeListener for RecordedChanges {
    fn changed(&self, change: &TokenChange) {
        self.lock().push(change.clone());
    }
}

impl RecordedChanges {
    /// Records the changes of the registry until this is dropped.
    pub(super) fn subscribe(registry: &impl TokenRegistry) -> Arc<Self> {
        let changes = Arc::new(Self::default());
        registry.subscribe(&(Arc::clone(&changes) as Arc<dyn ChangeListener>));
        changes
    }

    /// Checks that the changes published before the method returned cover this token under all
    /// these digests, and removes them.
    fn assert_published(&self, what: &str, number: i64, digests: &[i64]) {
        self.assert_published_among(what, number, digests);
        self.take();
    }

    /// Checks as `assert_published` does, and retains the changes for the next call.
    pub(super) fn assert_published_among(&self, what: &str, number: i64, digests: &[i64]) {
        let changes = self.lock();
        for digest in digests.iter().copied().map(digest) {
            let covers = |change: &TokenChange| is_covered(change, id(number), &digest);
            assert!(
                changes.iter().any(covers),
                "{what} was not published for every digest before it returned"
            );
        }
    }

    fn take(&self) -> Vec<TokenChange> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<TokenChange>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_covered(change: &TokenChange, token: TokenId, digest: &TokenDigest) -> bool {
    match change {
        TokenChange::Everything => true,
        TokenChange::Token { id, digests } => {
            *id == token && (digests.is_empty() || digests.contains(digest))
        }
    }
}
