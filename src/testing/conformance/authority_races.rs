//! Rule 7 when the actor's token is changed at the same time.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{join, join_all};

use super::authority::{actor, authority, authority_of, target, write_by};
use super::calls::{change, insert, stored};
use super::records::digest;
use crate::registry::{AuthorityError, RegistryError, TokenRegistry};
use crate::store::{DenialKind, TokenState};

const WRITERS: i64 = 8;

const ROUNDS: i64 = 10;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> R) {
    let registry = empty().await;
    for round in 1..=ROUNDS {
        accepts_one_of_concurrent_rotations_with_the_same_secret(&registry, round * 100).await;
    }
    let registry = empty().await;
    for round in 1..=ROUNDS {
        rejects_writes_that_begin_after_a_revocation(&registry, round * 100).await;
    }
}

/// Each writer reads the token again until its rotation is made or refused.
async fn accepts_one_of_concurrent_rotations_with_the_same_secret(
    registry: &impl TokenRegistry,
    number: i64,
) {
    insert(registry, actor(number)).await;
    let presented = authority_of(number, digest(number));
    let rotations = (1..=WRITERS).map(async |writer| {
        loop {
            let record = stored(registry, number).await;
            tokio::task::yield_now().await;
            let rotated = record.with_digest(digest(number + writer));
            match registry.update(&write_by(rotated, &presented)).await {
                Ok(_) => return Some(writer),
                Err(RegistryError::RevisionMismatch) => {}
                Err(RegistryError::Unauthorized(AuthorityError::ActorTokenRejected(
                    DenialKind::WrongDigest,
                ))) => return None,
                Err(error) => panic!("a rotation beside others: {error}"),
            }
        }
    });
    let rotated: Vec<i64> = join_all(rotations).await.into_iter().flatten().collect();
    let [winner] = rotated[..] else {
        panic!("of several rotations by one secret, {rotated:?} were made");
    };
    assert_eq!(
        *stored(registry, number).await.digest(),
        digest(number + winner),
        "the rotation that was made is not the one that is stored"
    );
}

async fn rejects_writes_that_begin_after_a_revocation(registry: &impl TokenRegistry, base: i64) {
    insert(registry, actor(base)).await;
    for number in base + 1..=base + WRITERS {
        insert(registry, target(number)).await;
    }
    let (presented, is_revoked) = (authority(base), AtomicBool::new(false));
    let writes = (base + 1..=base + WRITERS).map(async |number| {
        for writes in 0.. {
            let begins_late = is_revoked.load(Ordering::SeqCst);
            let next = stored(registry, number).await;
            let next = write_by(next.with_name(format!("write {writes}")), &presented);
            // Out of step, so that the revocation meets each stage of a write.
            for _ in 0..=number % 4 {
                tokio::task::yield_now().await;
            }
            match registry.update(&next).await {
                Ok(_) => assert!(
                    !begins_late,
                    "a write succeeded that began after its actor's token was revoked"
                ),
                Err(RegistryError::Unauthorized(AuthorityError::ActorTokenRejected(
                    DenialKind::Revoked,
                ))) => {
                    return;
                }
                Err(error) => panic!("a write beside a revocation: {error}"),
            }
        }
    });
    let revocation = async {
        tokio::task::yield_now().await;
        let record = stored(registry, base).await;
        change(registry, record.with_state(TokenState::Revoked)).await;
        // Until here a write may have come first; what is stored now is final.
        is_revoked.store(true, Ordering::SeqCst);
        let mut revisions = Vec::new();
        for number in base + 1..=base + WRITERS {
            revisions.push(stored(registry, number).await.revision());
        }
        revisions
    };
    let (_, revisions) = join(join_all(writes), revocation).await;
    for (number, revision) in (base + 1..).zip(revisions) {
        assert_eq!(
            stored(registry, number).await.revision(),
            revision,
            "a write was made after its actor's token was revoked"
        );
    }
}
