use std::fmt;

use super::record::{TokenRecord, TokenState};
use super::token_store::Credential;
use crate::clock::{Clock, UnixMillis};
use crate::digest::TokenDigest;
use crate::principal::Principal;
use crate::token::{DisplayId, TokenId};

/// Decides whether a credential is accepted, given what a store found. Every store uses this
/// function.
///
/// 1. Digests are compared in constant time, the previous one included. If nothing was found, the
///    credential is compared with a digest that no token has, so that timing reveals nothing.
/// 2. Then, in this order: revoked, disabled, expired, superseded, not yet valid. A token expires
///    *at* its expiry and is valid *from* its start; its previous secret stops working *at* the end
///    of the grace period.
/// 3. The clock is read only if there is a time to compare.
///
/// # Errors
///
/// Returns a [`Denial`] with the reason, and with the token's id only if the digest matched.
///
/// ```
/// use tower_service_token::clock::SystemClock;
/// use tower_service_token::store::{Credential, DenialKind, TokenRecord, TokenState, verdict};
/// use tower_service_token::token::TokenFormat;
///
/// let token = TokenFormat::default().mint()?;
/// let record = TokenRecord::from(&token).with_state(TokenState::Revoked);
/// let presented = Credential::new(token.presented());
///
/// let denial = verdict(Some(record), &presented, &SystemClock).unwrap_err();
/// assert_eq!(denial.kind(), DenialKind::Revoked);
/// assert_eq!(denial.token_id(), Some(token.id()));
/// # Ok::<_, tower_service_token::token::MintError>(())
/// ```
#[inline]
pub fn verdict(
    found: Option<TokenRecord>,
    credential: &Credential<'_>,
    clock: &(impl Clock + ?Sized),
) -> Result<Principal, Denial> {
    verdict_again(found, credential.digest(), clock)
}

/// Decides as [`verdict`] does, for the digest of a credential, which may have been presented earlier.
#[expect(
    clippy::inline_always,
    reason = "the result of each call in a row is copied: 60 instructions of an accepted request"
)]
#[inline(always)]
pub(crate) fn verdict_again(
    found: Option<TokenRecord>,
    presented: &TokenDigest,
    clock: &(impl Clock + ?Sized),
) -> Result<Principal, Denial> {
    let known = found
        .as_ref()
        .map_or(&TokenDigest::NONE, TokenRecord::digest);
    let is_current = known == presented;
    let Some(record) = found else {
        return Err(Denial {
            kind: DenialKind::Unknown,
            token_id: None,
            display_id: None,
        });
    };
    match check(&record, presented, is_current, clock) {
        Ok(()) => Ok(Principal::new(record, !is_current)),
        Err(kind) => Err(Denial::new(kind, &record)),
    }
}

/// Decides as [`verdict`] does, for a digest that was presented before. Returns whether it is the
/// previous digest.
pub(crate) fn verdict_of_digest(
    record: &TokenRecord,
    presented: &TokenDigest,
    clock: &(impl Clock + ?Sized),
) -> Result<bool, DenialKind> {
    let is_current = record.digest() == presented;
    check(record, presented, is_current, clock)?;
    Ok(!is_current)
}

#[inline]
fn check(
    record: &TokenRecord,
    presented: &TokenDigest,
    is_current: bool,
    clock: &(impl Clock + ?Sized),
) -> Result<(), DenialKind> {
    let grace_end = if is_current {
        None
    } else {
        Some(grace_end(record, presented).ok_or(DenialKind::WrongDigest)?)
    };
    match record.state() {
        TokenState::Revoked => return Err(DenialKind::Revoked),
        TokenState::Disabled => return Err(DenialKind::Disabled),
        TokenState::Active => {}
    }
    let (start, expiry) = (record.start(), record.expiry());
    if start.is_none() && expiry.is_none() && grace_end.is_none() {
        return Ok(());
    }
    let now = UnixMillis::from(clock.now());
    if expiry.is_some_and(|expiry| now >= expiry) {
        Err(DenialKind::Expired)
    } else if grace_end.is_some_and(|end| now >= end) {
        Err(DenialKind::Superseded)
    } else if start.is_some_and(|start| now < start) {
        Err(DenialKind::NotYetValid)
    } else {
        Ok(())
    }
}

/// Returns the end of the grace period if the previous secret is presented.
fn grace_end(record: &TokenRecord, presented: &TokenDigest) -> Option<UnixMillis> {
    let previous = record.previous()?;
    (previous.digest == *presented).then_some(previous.until)
}

/// The reason why a credential is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct Denial {
    kind: DenialKind,
    token_id: Option<TokenId>,
    /// `None` if the `token_id` is shown.
    display_id: Option<DisplayId>,
}

/// The kind of a [`Denial`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DenialKind {
    /// No store knows the token.
    Unknown,
    /// The record has another digest.
    WrongDigest,
    /// The token was revoked.
    Revoked,
    /// The token is disabled.
    Disabled,
    /// The token has expired.
    Expired,
    /// The secret was replaced by a rotation, and its grace period has ended.
    Superseded,
    /// The token is not valid yet.
    NotYetValid,
}

impl Denial {
    fn new(kind: DenialKind, record: &TokenRecord) -> Self {
        let presented = (kind != DenialKind::WrongDigest).then_some(record);
        Self {
            kind,
            token_id: presented.map(TokenRecord::id),
            display_id: presented.and_then(|record| record.own_display_id().cloned()),
        }
    }

    /// Returns the kind of the denial.
    pub fn kind(&self) -> DenialKind {
        self.kind
    }

    /// Returns the id of the token, only if its secret was presented.
    pub fn token_id(&self) -> Option<TokenId> {
        self.token_id
    }

    /// Returns the displayed id, if the store set one.
    pub(crate) fn own_display_id(&self) -> Option<&DisplayId> {
        self.display_id.as_ref()
    }

    /// Returns the id of the token as it is [shown](TokenRecord::display_id), only if its secret was
    /// presented.
    pub fn display_id(&self) -> Option<DisplayId> {
        let own = self.display_id.clone();
        own.or_else(|| self.token_id.map(DisplayId::from))
    }
}

impl fmt::Display for DenialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown | Self::WrongDigest => "the token is not valid",
            Self::Revoked => "the token was revoked",
            Self::Disabled => "the token is disabled",
            Self::Expired => "the token has expired",
            Self::Superseded => "the token was rotated",
            Self::NotYetValid => "the token is not valid yet",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::clock::ManualClock;
    use crate::token::PresentedToken;

    fn record() -> TokenRecord {
        let id = TokenId::from_i64(7).expect("in range");
        TokenRecord::new(id, TokenDigest::of("a-token")).with_name("ci")
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn denial_of(
        found: Option<TokenRecord>,
        token: &str,
        clock: &impl Clock,
    ) -> Option<DenialKind> {
        let credential = Credential::new(PresentedToken::new(token).expect("visible ASCII"));
        verdict(found, &credential, clock).err().map(|d| d.kind())
    }

    #[test]
    fn accepts_from_start_inclusive_until_expiry_exclusive() {
        let record = record().with_not_before(at(10)).with_expires_at(at(20));
        for (now, denial) in [
            (at(9), Some(DenialKind::NotYetValid)),
            (at(10), None),
            (at(20) - Duration::from_millis(1), None),
            (at(20), Some(DenialKind::Expired)),
            (at(21), Some(DenialKind::Expired)),
        ] {
            let clock = ManualClock::new(now);
            assert_eq!(denial_of(Some(record.clone()), "a-token", &clock), denial);
        }
    }

    #[test]
    fn reports_the_most_final_denial() {
        let clock = ManualClock::new(at(30));
        let expired = record().with_expires_at(at(20)).with_not_before(at(40));
        let denial_of = |record| denial_of(Some(record), "a-token", &clock);
        assert_eq!(denial_of(expired.clone()), Some(DenialKind::Expired));
        let disabled = expired.with_state(TokenState::Disabled);
        assert_eq!(denial_of(disabled.clone()), Some(DenialKind::Disabled));
        let revoked = disabled.with_state(TokenState::Revoked);
        assert_eq!(denial_of(revoked), Some(DenialKind::Revoked));
    }

    #[test]
    fn accepts_previous_secret_until_grace_period_ends() {
        let previous = (TokenDigest::of("before"), at(20));
        let record = record().with_previous_digest(previous);
        let clock = ManualClock::new(at(19));
        for (token, is_previous) in [("a-token", false), ("before", true)] {
            let credential = Credential::new(PresentedToken::new(token).expect("visible ASCII"));
            let principal = verdict(Some(record.clone()), &credential, &clock).expect("good");
            assert_eq!(principal.uses_previous_secret(), is_previous);
        }
        clock.set(at(20));
        let denial_of = |token| denial_of(Some(record.clone()), token, &clock);
        assert_eq!(denial_of("before"), Some(DenialKind::Superseded));
        assert_eq!(denial_of("a-token"), None);
        assert_eq!(denial_of("another"), Some(DenialKind::WrongDigest));
    }

    #[test]
    fn grace_period_ends_with_token_expiry() {
        let record = record()
            .with_previous_digest((TokenDigest::of("before"), at(30)))
            .with_expires_at(at(20));
        let clock = ManualClock::new(at(20));
        assert_eq!(
            denial_of(Some(record), "before", &clock),
            Some(DenialKind::Expired)
        );
    }

    #[test]
    fn hides_token_state_without_matching_secret() {
        let clock = ManualClock::new(at(30));
        let revoked = record().with_state(TokenState::Revoked);
        assert_eq!(
            denial_of(Some(revoked), "another", &clock),
            Some(DenialKind::WrongDigest)
        );
        assert_eq!(
            denial_of(None, "another", &clock),
            Some(DenialKind::Unknown)
        );
    }

    #[test]
    fn reads_clock_only_for_records_with_times() {
        struct Counting(AtomicUsize);
        impl Clock for Counting {
            fn now(&self) -> SystemTime {
                self.0.fetch_add(1, Ordering::SeqCst);
                at(15)
            }
        }
        let clock = Counting(AtomicUsize::new(0));
        assert_eq!(denial_of(Some(record()), "a-token", &clock), None);
        assert_eq!(clock.0.load(Ordering::SeqCst), 0);
        let timed = record().with_expires_at(at(20));
        assert_eq!(denial_of(Some(timed), "a-token", &clock), None);
        assert_eq!(clock.0.load(Ordering::SeqCst), 1);
    }
}
