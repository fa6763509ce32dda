use std::fmt;

use sha2::{Digest, Sha256};

use super::principal::Principal;

/// A digest of the rights of a principal: its roles, scopes, subject, owner and labels.
///
/// A ticket is rejected, and a stream ends, if the digest has changed since. The order of names does not
/// count. The name of the token and its [data](crate::store::TokenRecord::with_data) do not count
/// either: data may have any type, so it cannot be hashed. If a stream must end when a value changes,
/// such as the tenant, set that as the [owner](crate::store::TokenRecord::with_owner) or a label as well.
///
/// A store of tickets keeps the bytes. Their meaning may change between releases, after which tickets
/// that were issued before are rejected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RightsDigest([u8; 32]);

impl RightsDigest {
    /// Returns the digest of the rights of this principal.
    pub fn of(principal: &Principal) -> Self {
        let mut hash = Sha256::new();
        let mut add = |names: &[&str]| {
            hash.update((names.len() as u64).to_be_bytes());
            for name in names {
                hash.update((name.len() as u64).to_be_bytes());
                hash.update(name);
            }
        };
        // Sorted, because a store may return them in another order.
        let sorted = |mut names: Vec<_>| {
            names.sort_unstable();
            names
        };
        add(&sorted(principal.roles().iter().collect()));
        add(&sorted(principal.scopes().iter().collect()));
        add(&principal.subject().into_iter().collect::<Vec<_>>());
        add(&principal.owner().into_iter().collect::<Vec<_>>());
        let labels = principal.labels().flat_map(|(key, value)| [key, value]);
        add(&labels.collect::<Vec<_>>());
        Self(hash.finalize().into())
    }

    /// Creates a digest from the bytes that a store kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, for a store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for RightsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RightsDigest").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::{Credential, TokenRecord, verdict};
    use crate::token::TokenFormat;

    fn rights_of(change: impl FnOnce(TokenRecord) -> TokenRecord) -> RightsDigest {
        let token = TokenFormat::default().mint().expect("random bytes");
        let record = change(TokenRecord::from(&token).with_roles(["a", "b"]));
        let credential = Credential::new(token.presented());
        RightsDigest::of(&verdict(Some(record), &credential, &SystemClock).expect("accepted"))
    }

    #[test]
    fn every_right_changes_the_digest_and_nothing_else_does() {
        let unchanged = rights_of(|record| record);
        assert_eq!(unchanged, rights_of(|it| it.with_name("other")));
        assert_eq!(unchanged, rights_of(|it| it.with_data("tenant")));
        assert_eq!(unchanged, rights_of(|it| it.with_roles(["b", "a"])));
        let changed = [
            rights_of(|it| it.with_roles(["a"])),
            rights_of(|it| it.with_roles(["ab"])),
            rights_of(|it| it.with_roles(["a", "b", "c"])),
            rights_of(|it| it.with_roles(["a"]).with_scopes(["b"])),
            rights_of(|it| it.with_scopes(["jobs:read"])),
            rights_of(|it| it.with_subject("ci")),
            rights_of(|it| it.with_owner("ci")),
            rights_of(|it| it.with_owner("ci/2")),
            rights_of(|it| it.with_label("team", "ci")),
            rights_of(|it| it.with_label("ci", "team")),
        ];
        for (place, digest) in changed.iter().enumerate() {
            assert_ne!(*digest, unchanged, "{place}");
            assert!(!changed[..place].contains(digest), "{place}");
        }
    }
}
