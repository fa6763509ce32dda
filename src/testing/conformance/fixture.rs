use std::fmt::{Debug, Display};
use std::mem::discriminant;

use super::records::{assert_same, credential, digest, id, records_are_equal, write};
use crate::registry::{AuthorityError, RegistryError, TokenRegistry, Write};
use crate::store::{Cached, TokenRecord, TokenStore};

/// A store under test. Most methods panic if a call fails.
pub(super) struct Fixture<S>(pub(super) S);

impl<S: TokenStore> Fixture<S> {
    /// Looks up the token with this secret. A result of `find_cached` must be the same.
    pub(super) async fn find(&self, number: i64) -> Option<TokenRecord> {
        let credential = credential(number);
        let found = self.0.find(&credential).await.expect("a lookup");
        match self.0.find_cached(&credential) {
            Cached::Miss => {}
            Cached::NotFound => assert!(
                found.is_none(),
                "`find_cached` denies a token that `find` returns"
            ),
            Cached::Found(cached) => {
                let found = found
                    .as_ref()
                    .expect("`find_cached` returns a token that `find` denies");
                assert!(
                    records_are_equal(&cached, found),
                    "`find_cached` and `find` return different records"
                );
            }
        }
        let has_digest = |record: &TokenRecord| record.digests().any(|it| *it == digest(number));
        assert!(
            found.as_ref().is_none_or(has_digest),
            "`find` returns a record with another digest"
        );
        self.assert_found_again(number, found.as_ref()).await;
        found
    }

    /// Checks that `find_again`, if the store implements it, returns what `find` returned.
    async fn assert_found_again(&self, number: i64, found: Option<&TokenRecord>) {
        let token = found.map_or(id(number), TokenRecord::id);
        let Ok(again) = self.0.find_again(token, &digest(number)).await else {
            return;
        };
        let is_same = match (&again, found) {
            (Some(again), Some(found)) => records_are_equal(again, found),
            (Some(again), None) => again.digests().all(|it| *it != digest(number)),
            (None, found) => found.is_none(),
        };
        assert!(is_same, "`find_again` and `find` return different records");
    }

    /// Checks that this secret finds this record.
    pub(super) async fn assert_found(&self, number: i64, expected: &TokenRecord) {
        let found = self.find(number).await;
        let found = found.unwrap_or_else(|| panic!("secret {number} does not find its token"));
        assert_same(&found, expected);
    }

    pub(super) async fn assert_not_found(&self, number: i64, what: &str) {
        assert!(self.find(number).await.is_none(), "{what} finds a token");
    }
}

impl<R: TokenRegistry> Fixture<R> {
    /// Inserts records without limits.
    pub(super) async fn insert(&self, records: impl IntoIterator<Item = TokenRecord>) {
        for record in records {
            self.insert_write(write(record), "an insertion").await;
        }
    }

    /// Makes an insertion that must succeed.
    pub(super) async fn insert_write(&self, write: Write, what: &str) {
        let inserted = self.0.insert(&write).await;
        inserted.unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    /// Makes an update that must succeed, and returns the stored record.
    pub(super) async fn update_write(&self, write: Write, what: &str) -> TokenRecord {
        let updated = self.0.update(&write).await;
        updated.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Updates a record without limits, and returns the stored record.
    pub(super) async fn update(&self, record: TokenRecord) -> TokenRecord {
        self.update_write(write(record), "an update at the stored revision")
            .await
    }

    /// Deletes a record without limits.
    pub(super) async fn delete(&self, record: TokenRecord) {
        let deleted = self.0.delete(&write(record)).await;
        deleted.expect("a deletion at the stored revision");
    }

    /// Checks that an update is rejected, alone and as a batch.
    pub(super) async fn assert_update_rejected(
        &self,
        write: &Write,
        reason: &RegistryError,
        what: &str,
    ) {
        let mut outcomes = self.0.update_many(std::slice::from_ref(write)).await;
        outcomes.push(self.0.update(write).await);
        for outcome in outcomes {
            assert_rejected(&outcome, reason, what);
        }
    }

    /// Returns the stored record of a token that must exist.
    pub(super) async fn stored(&self, number: i64) -> TokenRecord {
        let record = self.0.get(id(number)).await.expect("a lookup by id");
        record.unwrap_or_else(|| panic!("token {number} is not in the registry"))
    }

    /// Checks that the record is stored unchanged.
    pub(super) async fn assert_stored(&self, expected: &TokenRecord) {
        let stored = self.0.get(expected.id()).await.expect("a lookup by id");
        assert_same(&stored.expect("the token exists"), expected);
    }

    pub(super) async fn assert_absent(&self, number: i64) {
        let record = self.0.get(id(number)).await.expect("a lookup by id");
        assert!(record.is_none(), "token {number} is in the registry");
    }
}

/// Checks that a write was rejected for this reason. Ignores the names and times in an error.
pub(super) fn assert_rejected<T: Debug>(
    outcome: &Result<T, RegistryError>,
    reason: &RegistryError,
    what: impl Display,
) {
    use AuthorityError::ActorTokenRejected;
    use RegistryError::Unauthorized;

    let is_expected = |error: &RegistryError| match (error, reason) {
        (Unauthorized(ActorTokenRejected(error)), Unauthorized(ActorTokenRejected(reason))) => {
            error == reason
        }
        (Unauthorized(error), Unauthorized(reason)) => discriminant(error) == discriminant(reason),
        _ => discriminant(error) == discriminant(reason),
    };
    assert!(
        outcome.as_ref().is_err_and(is_expected),
        "{what}: {outcome:?}"
    );
}
