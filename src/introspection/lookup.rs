use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::breaker::{CallPermit, Health};
use super::client::Client;
use super::config::Config;
use super::error::IntrospectionError;
use super::metrics::{self, CallMetrics};
use super::response::{Failure, IntrospectionResponse};
use super::rules::CachedToken;
use crate::digest::TokenDigest;
use crate::single_flight::{Entry, EntryKind, Lookup, SharedResult, SingleFlight};
use crate::store::Credential;

pub(super) type IntrospectionLookups = SingleFlight<CachedToken, LookupOutcome>;

/// The result of a call, for all requests that wait for it.
#[derive(Clone)]
pub(super) enum LookupOutcome {
    Found(CachedToken),
    Failed(IntrospectionError, SharedRetry),
    /// The token was invalidated during the call. The waiting requests retry.
    Invalidated,
}

/// The one retry that all requests share that waited for a failed call.
pub(super) type SharedRetry = Arc<OnceCell<LookupSource>>;

/// How a request gets its token.
#[derive(Clone)]
pub(super) enum LookupSource {
    Cached(CachedToken),
    Joined(SharedResult<LookupOutcome>),
    Started(SharedResult<LookupOutcome>),
}

/// Calls the server, caches the token and sends it to the requests that wait for it.
pub(super) async fn run(
    client: Arc<Client>,
    credential: Credential<'static>,
    mut lookup: Lookup<CachedToken, LookupOutcome>,
    permit: CallPermit,
    mut metrics: CallMetrics,
) {
    let response = timeout(
        client.config.policy.timeout,
        client.introspect(credential.token()),
    )
    .await;
    let digest = *credential.digest();
    // Before requests are woken: they expect that no copy of the secret is left.
    drop(credential);
    let has_timed_out = response.is_err();
    let response = response.unwrap_or_else(|_| {
        let error = IntrospectionError::timed_out();
        Err(Failure::new(error, Health::Bad))
    });
    let health = response
        .as_ref()
        .map_or_else(|it| it.health, |_| Health::Good);
    permit.record(health, client.config.policy.clock.monotonic());
    let outcome = match response {
        Ok(response) => {
            metrics.outcome = match response {
                IntrospectionResponse::Active(_) => "active",
                IntrospectionResponse::Inactive => "inactive",
                IntrospectionResponse::Unsupported => "unsupported_token",
            };
            complete(&client, &mut lookup, response, digest)
        }
        Err(Failure { error, .. }) => {
            let label = metrics::call_failed(&error);
            metrics.outcome = if has_timed_out { "timed_out" } else { label };
            LookupOutcome::Failed(error, SharedRetry::default())
        }
    };
    lookup.finish(outcome);
}

/// Caches active and inactive tokens. Any other response evicts the token, so that no earlier one is
/// used as a stale one.
fn complete(
    client: &Client,
    lookup: &mut Lookup<CachedToken, LookupOutcome>,
    response: IntrospectionResponse,
    digest: TokenDigest,
) -> LookupOutcome {
    let Config { policy, rules, .. } = &client.config;
    let (kind, ttl, token) = match response {
        IntrospectionResponse::Active(claims) => {
            let token = CachedToken::active(*claims, digest, rules, policy.clock.now());
            (EntryKind::Positive, policy.ttl, token)
        }
        IntrospectionResponse::Inactive => {
            let inactive = CachedToken::Inactive;
            (EntryKind::Negative, policy.negative_ttl, inactive)
        }
        IntrospectionResponse::Unsupported => {
            (EntryKind::Negative, Duration::ZERO, CachedToken::Inactive)
        }
    };
    let is_current = token.is_current(&*policy.clock);
    let is_cacheable = is_current && !ttl.is_zero() && !policy.ttl.is_zero();
    let entry = is_cacheable.then(|| Entry {
        kind,
        value: token.clone(),
        expires_at: lookup.started.saturating_add(ttl),
    });
    let is_complete = lookup.complete(|entries, key| match entry {
        Some(entry) => entries.insert(key, entry),
        None => entries.remove(&key),
    });
    if is_complete {
        LookupOutcome::Found(token)
    } else {
        LookupOutcome::Invalidated
    }
}
