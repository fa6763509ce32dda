use std::hash::{BuildHasher, Hash, Hasher, RandomState};
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

/// The hash of a key in a map, keyed at random: a client picks its tokens, and so could pick digests
/// that share a bucket.
///
/// It is NH, as in UMAC (RFC 4418 §5.2) with words of 64 bits. Any two digests have the same NH, of 128
/// bits, under at most one key in 2^64. Its halves are combined into 64 bits, for which there is no such
/// bound. The digests are uniformly distributed already, so the hash only has to hide the buckets.
#[derive(Clone)]
pub(super) struct KeyHash([u64; 4]);

/// The hasher of a [`KeyHash`].
pub(super) struct KeyHasher {
    key: [u64; 4],
    hash: u64,
}

impl KeyHash {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self([0, 1, 2, 3].map(|number: u64| random.hash_one(number)))
    }
}

impl BuildHasher for KeyHash {
    type Hasher = KeyHasher;

    #[inline]
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher {
            key: self.0,
            hash: 0,
        }
    }
}

impl Hasher for KeyHasher {
    #[inline]
    fn write(&mut self, digest: &[u8]) {
        let (words, _) = digest.as_chunks();
        let words: &[[u8; 8]; 4] = words.try_into().expect("32 bytes");
        let sum = |place: usize| self.key[place].wrapping_add(u64::from_ne_bytes(words[place]));
        let product = |place| u128::from(sum(place)) * u128::from(sum(place + 1));
        let nh = product(0).wrapping_add(product(2)).to_ne_bytes();
        let (halves, _) = nh.as_chunks();
        self.hash = u64::from_ne_bytes(halves[0]) ^ u64::from_ne_bytes(halves[1]);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.hash
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
            let lifecycle = DefaultLifecycle::default();
            Cache::with(items, weight as u64, weighter, KeyHash::new(), lifecycle)
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u64; 4] = [u64::MAX, 3, 0x0123_4567_89ab_cdef, 1 << 63];

    fn hash(key: [u64; 4], words: [u64; 4]) -> u64 {
        let digest: [u8; 32] = words.map(u64::to_ne_bytes).concat().try_into().unwrap();
        KeyHash(key).hash_one(CacheKey::from(&TokenDigest::from_bytes(digest)))
    }

    /// Multiplies by adding, as the definition says, modulo 2^128.
    fn reference(key: [u64; 4], words: [u64; 4]) -> u64 {
        let mut sum = 0_u128;
        for place in [0, 2] {
            let a = (u128::from(key[place]) + u128::from(words[place])) % (1 << 64);
            let b = (u128::from(key[place + 1]) + u128::from(words[place + 1])) % (1 << 64);
            for bit in (0..64).filter(|bit| b >> bit & 1 == 1) {
                sum = sum.wrapping_add(a << bit);
            }
        }
        u64::try_from(sum >> 64).unwrap() ^ u64::try_from(sum % (1 << 64)).unwrap()
    }

    #[test]
    fn key_hash_matches_the_reference_implementation() {
        let all = [u64::MAX; 4];
        for words in [[0; 4], all, [1, 2, 3, 4], [1 << 63, 0, u64::MAX, 7]] {
            for key in [KEY, [0; 4], all] {
                assert_eq!(hash(key, words), reference(key, words), "{words:?} {key:?}");
            }
        }
    }

    #[test]
    fn key_hash_depends_on_each_bit_of_the_digest_and_on_the_key() {
        let words = [5, 6, 7, 8];
        for (place, bit) in (0..4).flat_map(|place| (0..64).map(move |bit| (place, bit))) {
            let mut other = words;
            other[place] ^= 1 << bit;
            assert_ne!(
                hash(KEY, other),
                hash(KEY, words),
                "word {place}, bit {bit}"
            );
        }
        let digest = CacheKey::from(&TokenDigest::of("token"));
        assert_ne!(
            KeyHash::new().hash_one(digest),
            KeyHash::new().hash_one(digest)
        );
    }
}
