use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::metrics::{self, LookupMetrics};
use crate::clock::earliest;
use crate::digest::TokenDigest;
use crate::single_flight::{Entries, Entry, EntryKind, Lookup, Policy, SingleFlight};
use crate::store::{Credential, StoreError, TokenRecord, TokenStore, verdict};

/// How often a lookup reads its token again because the token was changed meanwhile.
const MAX_ATTEMPTS: usize = 8;

pub(super) type LookupResult = Result<Option<TokenRecord>, StoreError>;

pub(super) type CachedLookups = SingleFlight<Option<TokenRecord>, LookupResult>;

/// Looks the credential up, caches the result and sends it to the callers that wait for it.
pub(super) async fn run<S: TokenStore>(
    store: Arc<S>,
    credential: Credential<'static>,
    mut lookup: Lookup<Option<TokenRecord>, LookupResult>,
    mut metrics: LookupMetrics,
) {
    let limit = lookup.policy().timeout;
    let found = timeout(limit, find_current(&*store, &credential, &mut lookup)).await;
    // Before callers are woken: they expect that no copy of the secret is left.
    drop(credential);
    let (outcome, result) = match found {
        Ok(Ok(found)) => ("completed", Ok(found)),
        Ok(Err(error)) => ("failed", Err(error)),
        Err(_) => {
            let error = StoreError::unavailable("the lookup timed out");
            ("timed_out", Err(error))
        }
    };
    metrics.outcome = outcome;
    lookup.finish(result);
}

async fn find_current(
    store: &impl TokenStore,
    credential: &Credential<'static>,
    lookup: &mut Lookup<Option<TokenRecord>, LookupResult>,
) -> LookupResult {
    for _ in 0..MAX_ATTEMPTS {
        let found = store.find(credential).await?;
        let entry = entry(lookup.policy(), found.as_ref(), credential, lookup.started);
        let insert = |entries: &Entries<_>, key| {
            if let Some(entry) = entry {
                entries.insert(key, entry);
            }
        };
        if lookup.complete(insert) {
            return Ok(found);
        }
        metrics::lookup_restarted();
        lookup.restart();
    }
    let why = "the token was changed during each of several lookups";
    Err(StoreError::unavailable(why))
}

/// Creates the entry for the result of a lookup, unless the result is already out of date.
///
/// The [verdict] determines the kind of the entry. The layer judges each hit again.
fn entry(
    policy: &Policy<Option<TokenRecord>>,
    found: Option<&TokenRecord>,
    credential: &Credential<'_>,
    started: Duration,
) -> Option<Entry<Option<TokenRecord>>> {
    let is_valid = verdict(found.cloned(), credential, &policy.clock).is_ok();
    let (kind, ttl) = match found {
        Some(_) if is_valid => (EntryKind::Positive, policy.ttl),
        // The token may become valid, and is then stale for no longer than any other.
        Some(_) => (EntryKind::Negative, policy.negative_ttl.min(policy.ttl)),
        None => (EntryKind::Negative, policy.negative_ttl),
    };
    let mut expires_at = started.saturating_add(ttl);
    // In this order: a pause between the two shortens the life of the entry.
    let (now, wall) = (policy.clock.monotonic(), policy.clock.now());
    let valid = found.filter(|_| is_valid);
    if let Some(end) = valid.and_then(|record| secret_expiry(record, credential.digest())) {
        let remaining = end.duration_since(wall).unwrap_or_default();
        expires_at = expires_at.min(now.saturating_add(remaining));
    }
    let value = found.cloned();
    (now < expires_at).then_some(Entry {
        value,
        kind,
        expires_at,
    })
}

/// Returns when the presented secret stops working: at the token's expiry or at the end of the grace
/// period.
fn secret_expiry(record: &TokenRecord, presented: &TokenDigest) -> Option<SystemTime> {
    let is_current = record.digest() == presented;
    let grace = record.grace_ends_at().filter(|_| !is_current);
    earliest(record.expires_at(), grace)
}
