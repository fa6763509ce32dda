use sha2::{Digest, Sha256};

use crate::principal::Principal;

/// Returns a hash of the rights of a caller: roles, scopes, subject, owner and labels. The name is none.
pub(super) fn rights(principal: &Principal) -> [u8; 32] {
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
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::{Credential, TokenRecord, verdict};
    use crate::token::TokenFormat;

    fn rights_of(change: impl FnOnce(TokenRecord) -> TokenRecord) -> [u8; 32] {
        let token = TokenFormat::default().mint().expect("random bytes");
        let record = change(TokenRecord::from(&token).with_roles(["a", "b"]));
        let credential = Credential::new(token.presented());
        rights(&verdict(Some(record), &credential, &SystemClock).expect("accepted"))
    }

    #[test]
    fn every_right_changes_the_hash_and_nothing_else_does() {
        let unchanged = rights_of(|record| record);
        assert_eq!(unchanged, rights_of(|it| it.with_name("other")));
        assert_eq!(unchanged, rights_of(|it| it.with_roles(["b", "a"])));
        let changed = [
            rights_of(|it| it.with_roles(["a"])),
            rights_of(|it| it.with_roles(["ab"])),
            rights_of(|it| it.with_roles(["a", "b", "c"])),
            rights_of(|it| it.with_roles(["a"]).with_scopes(["b"])),
            rights_of(|it| it.with_scopes(["jobs:read"])),
            rights_of(|it| it.with_subject("ci")),
            rights_of(|it| it.with_owner("ci")),
            rights_of(|it| it.with_label("team", "ci")),
            rights_of(|it| it.with_label("ci", "team")),
        ];
        for (place, hash) in changed.iter().enumerate() {
            assert_ne!(*hash, unchanged, "{place}");
            assert!(!changed[..place].contains(hash), "{place}");
        }
    }
}
