use super::EntryKind;
use crate::counter::CachedCounter;

/// Counts the requests that a cache serves.
#[derive(Default)]
pub(crate) struct HitCounters {
    positive: CachedCounter,
    negative: CachedCounter,
}

impl HitCounters {
    /// Counts a hit under this name. Each call must have the same name.
    #[inline]
    pub(crate) fn increment(&self, name: &'static str, kind: EntryKind) {
        match kind {
            EntryKind::Positive => self.positive.increment(name, "outcome", "hit"),
            EntryKind::Negative => self.negative.increment(name, "outcome", "negative_hit"),
        }
    }
}
