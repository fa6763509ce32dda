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
pub(super) struct Answers {
    /// Of tokens that let their bearer pass.
    passing: Map,
    /// All others: there is no such token, or it is no longer or not yet good.
    refused: Map,
}

type Map = Cache<Key, Entry, UnitWeighter, RandomState>;

/// What is remembered of one credential, and until when by the monotonic clock.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) answer: Option<TokenRecord>,
    pub(super) until: Duration,
}

/// Which of the two maps an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Passing,
    Refused,
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
    ) -> Option<(Sort, Self)> {
        let clock = &*settings.clock;
        // In this order: a pause between the two shortens the life of the entry.
        let (now, wall) = (clock.monotonic(), clock.now());
        let passes = verdict(found.cloned(), credential, clock).is_ok();
        let (sort, life) = match found {
            Some(_) if passes => (Sort::Passing, settings.ttl),
            // It may be good later, and then must not have been remembered longer than a good one.
            Some(_) => (Sort::Refused, settings.negative_ttl.min(settings.ttl)),
            None => (Sort::Refused, settings.negative_ttl),
        };
        let mut until = started.saturating_add(life);
        if let Some(end) = found.and_then(|record| end(record, credential.digest())) {
            match end.duration_since(wall) {
                Ok(left) if !left.is_zero() => until = until.min(now.saturating_add(left)),
                _ if passes => return None,
                _ => {}
            }
        }
        let answer = found.cloned();
        (now < until).then_some((sort, Self { answer, until }))
    }
}

/// When a secret stops working, by the expiry of its token or the end of its grace.
fn end(record: &TokenRecord, presented: &TokenDigest) -> Option<SystemTime> {
    let is_current = record.digest() == presented;
    let grace = record.grace_ends_at().filter(|_| !is_current);
    record.expires_at().into_iter().chain(grace).min()
}

impl Answers {
    pub(super) fn new(passing: usize, refused: usize) -> Self {
        Self {
            passing: map(passing),
            refused: map(refused),
        }
    }

    /// What is known at this time.
    pub(super) fn get(&self, key: &Key, now: Duration) -> Option<(Sort, Option<TokenRecord>)> {
        if let Some(entry) = self.passing.get(key)
            && now < entry.until
        {
            return Some((Sort::Passing, entry.answer));
        }
        let entry = self.refused.get(key)?;
        (now < entry.until).then_some((Sort::Refused, entry.answer))
    }

    pub(super) fn keep(&self, key: Key, sort: Sort, entry: Entry) {
        let (of_this_sort, other) = match sort {
            Sort::Passing => (&self.passing, &self.refused),
            Sort::Refused => (&self.refused, &self.passing),
        };
        other.remove(&key);
        of_this_sort.insert(key, entry);
    }

    pub(super) fn forget(&self, key: &Key) {
        self.passing.remove(key);
        self.refused.remove(key);
    }

    pub(super) fn clear(&self) {
        self.passing.clear();
        self.refused.clear();
    }

    /// How many entries there are of each sort, outdated ones included.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.passing.len(), self.refused.len())
    }
}

fn map(capacity: usize) -> Map {
    let (hasher, lifecycle) = (RandomState::new(), DefaultLifecycle::default());
    Cache::with(capacity, capacity as u64, UnitWeighter, hasher, lifecycle)
}
