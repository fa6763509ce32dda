use std::sync::{Arc, Mutex, PoisonError};

use super::calls::{expect_insert, insert};
use super::records::{at, digest, full_record, id, plain_record, write};
use crate::digest::TokenDigest;
use crate::registry::TokenRegistry;
use crate::store::{ChangeListener, TokenChange};
use crate::token::TokenId;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> R) {
    let registry = empty().await;
    insert(&registry, plain_record(4)).await;
    let seen = RecordedChanges::subscribe(&registry);

    insert(&registry, full_record(1)).await;
    seen.assert_published("an insertion", 1, &[1, 1001]);
    let rotated = full_record(1)
        .with_digest(digest(11))
        .with_previous_digest((digest(1), at(60)));
    let rotated = registry.update(&write(rotated)).await.expect("a rotation");
    seen.assert_published("a rotation", 1, &[1, 11, 1001]);
    // Of another token: a change may be published twice, the second time later.
    let touched = registry.touch(&[(id(4), at(900_000))]).await;
    touched.expect("a use is noted");
    let told = seen.take();
    let tells =
        |it: &TokenChange| matches!(it, TokenChange::Token { id: told, .. } if *told == id(4));
    assert!(!told.iter().any(tells), "a use is no change");
    let failed = registry.update(&write(plain_record(2))).await;
    assert!(failed.is_err());
    registry.delete(&write(rotated)).await.expect("a deletion");
    seen.assert_published("a deletion", 1, &[1, 11]);

    drop(seen);
    expect_insert(
        &registry,
        &write(plain_record(3)),
        "a dropped listener does not affect other listeners",
    )
    .await;
}

#[derive(Default)]
pub(super) struct RecordedChanges(Mutex<Vec<TokenChange>>);

impl ChangeListener for RecordedChanges {
    fn changed(&self, change: &TokenChange) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        changes.push(change.clone());
    }
}

impl RecordedChanges {
    /// Subscribes to the changes of the registry until it is dropped.
    pub(super) fn subscribe(registry: &impl TokenRegistry) -> Arc<Self> {
        let seen = Arc::new(Self::default());
        registry.subscribe(&(Arc::clone(&seen) as Arc<dyn ChangeListener>));
        seen
    }

    fn take(&self) -> Vec<TokenChange> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks that the changes published before the method returned cover this token under all
    /// these digests.
    fn assert_published(&self, what: &str, number: i64, digests: &[i64]) {
        self.assert_published_among(what, number, digests);
        self.take();
    }

    /// Checks as `assert_published` does, and keeps the changes for the next call.
    pub(super) fn assert_published_among(&self, what: &str, number: i64, digests: &[i64]) {
        let changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in digests.iter().copied().map(digest) {
            let covers = |change: &TokenChange| is_covered(change, id(number), &digest);
            assert!(
                changes.iter().any(covers),
                "{what} was not told to the subscribers by when it returned, for every digest"
            );
        }
    }
}

fn is_covered(change: &TokenChange, token: TokenId, digest: &TokenDigest) -> bool {
    match change {
        TokenChange::Everything => true,
        TokenChange::Token { id, digests } => *id == token && digests.contains(digest),
    }
}
