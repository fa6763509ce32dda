use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::policy::Policy;
use crate::digest::TokenDigest;

/// A whole digest as the key of a map.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheKey(TokenDigest);

impl From<&TokenDigest> for CacheKey {
    fn from(digest: &TokenDigest) -> Self {
        Self(*digest)
    }
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
    }
}

/// Cached values in two bounded maps, so that entries of one kind cannot evict those of the other.
pub(crate) struct Entries<T> {
    positive: Map<T>,
    negative: Map<T>,
}

type Map<T> = Cache<CacheKey, Entry<T>, EntryWeighter<T>, KeyHash>;

/// The hash of a key in a map. A client picks its tokens and so could pick digests that share a
/// bucket: the hash is keyed at random, unless the digest is.
#[derive(Clone)]
pub(super) enum KeyHash {
    Random(RandomState),
    /// The first bytes of the digest, which depends on a secret.
    Prefix,
}

/// The hasher of a [`KeyHash`].
pub(super) enum KeyHasher {
    Random(DefaultHasher),
    Prefix(u64),
}

impl KeyHash {
    pub(super) fn new(has_secret_keys: bool) -> Self {
        if has_secret_keys {
            Self::Prefix
        } else {
            Self::Random(RandomState::new())
        }
    }
}

impl BuildHasher for KeyHash {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        match self {
            Self::Random(state) => KeyHasher::Random(state.build_hasher()),
            Self::Prefix => KeyHasher::Prefix(0),
        }
    }
}

impl Hasher for KeyHasher {
    fn write(&mut self, digest: &[u8]) {
        match self {
            Self::Random(hasher) => hasher.write(digest),
            Self::Prefix(prefix) => {
                let (bytes, _) = digest.split_first_chunk().expect("32 bytes");
                *prefix = u64::from_ne_bytes(*bytes);
            }
        }
    }

    fn finish(&self) -> u64 {
        match self {
            Self::Random(hasher) => hasher.finish(),
            Self::Prefix(prefix) => *prefix,
        }
    }
}

/// A cached value.
#[derive(Clone)]
pub(crate) struct Entry<T> {
    pub(crate) value: T,
    pub(crate) kind: EntryKind,
    /// By the monotonic clock.
    pub(crate) expires_at: Duration,
}

/// The map that an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// The token is accepted.
    Positive,
    Negative,
}

impl<T: Clone> Entries<T> {
    pub(super) fn new(policy: &Policy<T>) -> Self {
        let map = |items: usize, weight: usize| {
            let weighter = EntryWeighter {
                // Bounds the number of entries too.
                min: (weight / items.max(1)).max(1),
                weigh: policy.weigh,
            };
            let hasher = KeyHash::new(policy.has_secret_keys);
            let lifecycle = DefaultLifecycle::default();
            Cache::with(items, weight as u64, weighter, hasher, lifecycle)
        };
        let max_weight = policy.max_weight.unwrap_or(policy.capacity);
        Self {
            positive: map(policy.capacity, max_weight),
            negative: map(policy.negative_capacity, policy.negative_capacity),
        }
    }

    pub(super) fn get(&self, key: &CacheKey, now: Duration) -> Option<Entry<T>> {
        let fresh = |map: &Map<T>| map.get(key).filter(|entry| now < entry.expires_at);
        fresh(&self.positive).or_else(|| fresh(&self.negative))
    }

    /// Returns the positive entry for `key`, even if it has expired.
    #[cfg(feature = "introspection")]
    pub(crate) fn last_positive(&self, key: &CacheKey) -> Option<Entry<T>> {
        self.positive.get(key)
    }

    /// Replaces the entry for `key`, of either kind.
    pub(crate) fn insert(&self, key: CacheKey, entry: Entry<T>) {
        let (map, other) = match entry.kind {
            EntryKind::Positive => (&self.positive, &self.negative),
            EntryKind::Negative => (&self.negative, &self.positive),
        };
        other.remove(&key);
        map.insert(key, entry);
    }

    pub(crate) fn remove(&self, key: &CacheKey) {
        self.positive.remove(key);
        self.negative.remove(key);
    }

    pub(super) fn retain(&self, is_kept: impl Fn(&T) -> bool) {
        let is_kept = |_: &CacheKey, entry: &Entry<T>| is_kept(&entry.value);
        self.positive.retain(is_kept);
        self.negative.retain(is_kept);
    }

    pub(super) fn clear(&self) {
        self.positive.clear();
        self.negative.clear();
    }

    /// Returns the number of positive and of negative entries, including expired ones.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.positive.len(), self.negative.len())
    }
}

#[derive(Clone)]
struct EntryWeighter<T> {
    min: usize,
    weigh: fn(&T) -> usize,
}

impl<T> Weighter<CacheKey, Entry<T>> for EntryWeighter<T> {
    fn weight(&self, _: &CacheKey, entry: &Entry<T>) -> u64 {
        self.min.max((self.weigh)(&entry.value)) as u64
    }
}
