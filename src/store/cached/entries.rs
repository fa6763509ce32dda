use std::hash::RandomState;
use std::time::{Duration, SystemTime};

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::settings::Settings;
use crate::digest::TokenDigest;
use crate::store::key::Key;
use crate::store::{Credential, TokenRecord, verdict};

/// What is remembered, in two bounded maps, so that no number of answers of one sort makes room
/// for itself among the other.
pub(super) struct EntryMaps {
    /// Of tokens that let their bearer pass.
    positive: Map,
    /// All others: there is no such token, or it is no longer or not yet good.
    negative: Map,
}

type Map = Cache<Key, Entry, UnitWeighter, RandomState>;

/// What is remembered of one credential, and until when by the monotonic clock.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) record: Option<TokenRecord>,
    pub(super) expires_at: Duration,
}

/// Which of the two maps an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Positive,
    Negative,
}

impl Entry {
    /// What to remember of an answer that was looked for since `started`, if it is not outdated.
    ///
    /// Which sort it is, the [verdict] says, which is asked again at every hit.
    pub(super) fn of(
        found: Option<&TokenRecord>,
        credential: &Credential<'_>,
        started: Duration,
        settings: &Settings,
    ) -> Option<(EntryKind, Self)> {
        let clock = &*settings.clock;
        // In this order: a pause between the two shortens the life of the entry.
        let (now, wall) = (clock.monotonic(), clock.now());
        let passes = verdict(found.cloned(), credential, clock).is_ok();
        let (kind, life) = match found {
            Some(_) if passes => (EntryKind::Positive, settings.ttl),
            // It may be good later, and then must not have been remembered longer than a good one.
            Some(_) => (EntryKind::Negative, settings.negative_ttl.min(settings.ttl)),
            None => (EntryKind::Negative, settings.negative_ttl),
        };
        let mut expires_at = started.saturating_add(life);
        if let Some(end) = found.and_then(|record| secret_expiry(record, credential.digest())) {
            match end.duration_since(wall) {
                Ok(left) if !left.is_zero() => {
                    expires_at = expires_at.min(now.saturating_add(left));
                }
                _ if passes => return None,
                _ => {}
            }
        }
        let record = found.cloned();
        (now < expires_at).then_some((kind, Self { record, expires_at }))
    }
}

/// When a secret stops working, by the expiry of its token or the end of its grace.
fn secret_expiry(record: &TokenRecord, presented: &TokenDigest) -> Option<SystemTime> {
    let is_current = record.digest() == presented;
    let grace = record.grace_ends_at().filter(|_| !is_current);
    record.expires_at().into_iter().chain(grace).min()
}

impl EntryMaps {
    pub(super) fn new(positive: usize, negative: usize) -> Self {
        Self {
            positive: map(positive),
            negative: map(negative),
        }
    }

    /// What is known at this time.
    pub(super) fn get(&self, key: &Key, now: Duration) -> Option<(EntryKind, Option<TokenRecord>)> {
        if let Some(entry) = self.positive.get(key)
            && now < entry.expires_at
        {
            return Some((EntryKind::Positive, entry.record));
        }
        let entry = self.negative.get(key)?;
        (now < entry.expires_at).then_some((EntryKind::Negative, entry.record))
    }

    pub(super) fn insert(&self, key: Key, kind: EntryKind, entry: Entry) {
        let (target, other) = match kind {
            EntryKind::Positive => (&self.positive, &self.negative),
            EntryKind::Negative => (&self.negative, &self.positive),
        };
        other.remove(&key);
        target.insert(key, entry);
    }

    pub(super) fn invalidate(&self, key: &Key) {
        self.positive.remove(key);
        self.negative.remove(key);
    }

    pub(super) fn clear(&self) {
        self.positive.clear();
        self.negative.clear();
    }

    /// How many entries there are of each sort, outdated ones included.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.positive.len(), self.negative.len())
    }
}

fn map(capacity: usize) -> Map {
    let (hasher, lifecycle) = (RandomState::new(), DefaultLifecycle::default());
    Cache::with(capacity, capacity as u64, UnitWeighter, hasher, lifecycle)
}
