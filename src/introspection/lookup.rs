use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::breaker::{CallPermit, Health};
use super::client::Client;
use super::config::Config;
use super::error::IntrospectionError;
use super::metrics::{self, CallMetrics};
use super::response::{Failure, Reply};
use super::rules::{ActiveToken, Answer};
use crate::digest::TokenDigest;
use crate::single_flight::{Entry, EntryKind, Lookup, SharedResult, SingleFlight};
use crate::store::Credential;

pub(super) type Lookups = SingleFlight<Answer, LookupResponse>;

/// The result of a call, for all requests that wait for it.
#[derive(Clone)]
pub(super) enum LookupResponse {
    Found(Answer),
    Failed(IntrospectionError, SharedRetry),
    /// The token was invalidated during the call. The requests look it up again.
    Invalidated,
}

/// The one retry that all requests share that waited for a failed call.
pub(super) type SharedRetry = Arc<OnceCell<LookupSource>>;

/// How a request gets its answer.
#[derive(Clone)]
pub(super) enum LookupSource {
    Cached(Answer),
    Joined(SharedResult<LookupResponse>),
    Started(SharedResult<LookupResponse>),
}

/// Calls the server, caches its answer and sends it to the requests that wait for it.
pub(super) async fn run(
    client: Arc<Client>,
    credential: Credential<'static>,
    mut lookup: Lookup<Answer, LookupResponse>,
    permit: CallPermit,
    mut metrics: CallMetrics,
) {
    let reply = timeout(
        client.config.policy.timeout,
        client.introspect(credential.token()),
    )
    .await;
    let digest = *credential.digest();
    // Before requests are woken: they expect that no copy of the secret is left.
    drop(credential);
    let has_timed_out = reply.is_err();
    let reply = reply.unwrap_or_else(|_| {
        let error = IntrospectionError::timed_out();
        Err(Failure::new(error, Health::Bad))
    });
    let health = reply.as_ref().map_or_else(|it| it.health, |_| Health::Good);
    permit.record(health, client.config.policy.clock.monotonic());
    let response = match reply {
        Ok(reply) => {
            metrics.outcome = match reply {
                Reply::Active(_) => "active",
                Reply::Inactive => "inactive",
                Reply::Unsupported => "unsupported_token",
            };
            complete(&client, &mut lookup, reply, digest)
        }
        Err(Failure { error, .. }) => {
            let outcome = metrics::call_failed(&error);
            metrics.outcome = if has_timed_out { "timed_out" } else { outcome };
            LookupResponse::Failed(error, SharedRetry::default())
        }
    };
    lookup.finish(response);
}

/// Caches active and inactive tokens. Any other answer evicts the token, so that no earlier answer is
/// used as a stale one.
fn complete(
    client: &Client,
    lookup: &mut Lookup<Answer, LookupResponse>,
    reply: Reply,
    digest: TokenDigest,
) -> LookupResponse {
    let Config { policy, rules, .. } = &client.config;
    let (kind, ttl, answer) = match reply {
        Reply::Active(claims) => {
            let record = rules.record(&claims, digest);
            let answer = ActiveToken {
                claims: *claims,
                record,
            };
            (EntryKind::Positive, policy.ttl, Some(Arc::new(answer)))
        }
        Reply::Inactive => (EntryKind::Negative, policy.negative_ttl, None),
        Reply::Unsupported => (EntryKind::Negative, Duration::ZERO, None),
    };
    let is_current = answer
        .as_ref()
        .is_none_or(|it| it.is_current(&*policy.clock));
    let is_cacheable = is_current && !ttl.is_zero() && !policy.ttl.is_zero();
    let entry = is_cacheable.then(|| Entry {
        kind,
        value: answer.clone(),
        expires_at: lookup.started.saturating_add(ttl),
    });
    let is_complete = lookup.complete(|entries, key| match entry {
        Some(entry) => entries.insert(key, entry),
        None => entries.remove(&key),
    });
    if is_complete {
        LookupResponse::Found(answer)
    } else {
        LookupResponse::Invalidated
    }
}
