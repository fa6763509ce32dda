//! Audit events: who changed which token, and which requests were rejected.
//!
//! [`ServiceTokens`](crate::ServiceTokens) and [`ServiceTokenLayer`](crate::ServiceTokenLayer) send
//! an [`AuditEvent`] to an [`AuditSink`]. The default sink is [`TracingAuditSink`].

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::SystemTime;

use auto_impl::auto_impl;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::store::DenialKind;
use crate::text::redact_tokens;
use crate::token::{DisplayId, TokenId};

/// An audit event: who did what to which token.
///
/// It contains no secret and no digest: a text in it that looks like a service token is replaced by
/// `***`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct AuditEvent {
    at: UnixMillis,
    actor: Box<str>,
    action: AuditAction,
    token_id: TokenId,
    display_id: DisplayId,
    client_address: Option<IpAddr>,
    changes: Vec<FieldChange>,
}

/// The action of an [`AuditEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditAction {
    /// A token was minted.
    Created,
    /// A token minted elsewhere was imported by its digest.
    Imported,
    /// The record was changed.
    Updated,
    /// The secret was replaced.
    Rotated,
    /// The token was disabled.
    Disabled,
    /// The token was enabled.
    Enabled,
    /// The token was revoked.
    Revoked,
    /// The record of a revoked or expired token was deleted.
    Purged,
    /// A request presented the token's secret and was rejected.
    Rejected(DenialKind),
}

/// A changed field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field's name, as in `roles`.
    pub field: Cow<'static, str>,
    /// The previous value, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The new value, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl AuditEvent {
    /// Creates an event without changed fields. The time is rounded down to the millisecond.
    pub fn new(
        at: SystemTime,
        actor: impl Into<Box<str>>,
        action: AuditAction,
        token_id: TokenId,
    ) -> Self {
        Self::from_redacted(at, without_tokens(actor.into()), action, token_id)
    }

    /// Creates the event of a rejected token. The actor is the token itself.
    pub(crate) fn rejected(
        at: SystemTime,
        kind: DenialKind,
        token_id: TokenId,
        display_id: DisplayId,
    ) -> Self {
        let mut actor = String::with_capacity("token:0123456789".len());
        actor.push_str("token:");
        display_id.push_to(&mut actor);
        // `DisplayId::new` rejects a text that looks like a token.
        let event = Self::from_redacted(at, actor.into(), AuditAction::Rejected(kind), token_id);
        event.with_display_id(display_id)
    }

    fn from_redacted(
        at: SystemTime,
        actor: Box<str>,
        action: AuditAction,
        token_id: TokenId,
    ) -> Self {
        Self {
            at: at.into(),
            actor,
            action,
            token_id,
            display_id: token_id.into(),
            client_address: None,
            changes: Vec::new(),
        }
    }

    /// Sets the id of the token that is [shown](Self::display_id). The default is the `TokenId`, which is
    /// also shown instead of the text of another one.
    pub fn with_display_id(mut self, id: DisplayId) -> Self {
        if id.may_show(self.token_id) {
            self.display_id = id;
        }
        self
    }

    /// Sets the address of the client whose request caused the event. The default is none.
    pub fn with_client_address(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.client_address = address.into();
        self
    }

    /// Adds a changed field.
    pub fn with_change(mut self, mut change: FieldChange) -> Self {
        change.before = change.before.map(without_tokens);
        change.after = change.after.map(without_tokens);
        self.changes.push(change);
        self
    }

    /// Returns the time of the event.
    pub fn at(&self) -> SystemTime {
        self.at.into()
    }

    /// Returns the [name](crate::lifecycle::Actor::name) of the actor: `operator:` and a name, or
    /// `token:` and its [displayed id](crate::store::TokenRecord::display_id).
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Returns the action.
    pub fn action(&self) -> AuditAction {
        self.action
    }

    /// Returns the id of the token.
    pub fn token_id(&self) -> TokenId {
        self.token_id
    }

    /// Returns the id of the token to show: the one that its store
    /// [set](crate::store::TokenRecord::with_display_id), or else the [`TokenId`](Self::token_id). The
    /// audit trails of the SQL stores do not keep it.
    pub fn display_id(&self) -> &DisplayId {
        &self.display_id
    }

    /// Returns the address of the client whose request caused the event, if it is known.
    pub fn client_address(&self) -> Option<IpAddr> {
        self.client_address
    }

    /// Returns the changed fields.
    pub fn changes(&self) -> &[FieldChange] {
        &self.changes
    }
}

/// Returns the text without the secrets of service tokens, which people put into names by mistake.
fn without_tokens<T: AsRef<str> + From<String>>(text: T) -> T {
    match redact_tokens(text.as_ref()) {
        Cow::Borrowed(_) => text,
        Cow::Owned(clean) => clean.into(),
    }
}

impl AuditAction {
    /// All actions with their names, except the rejection of unknown tokens, which has no event.
    const NAMES: [(Self, &'static str); 13] = [
        (Self::Created, "created"),
        (Self::Imported, "imported"),
        (Self::Updated, "updated"),
        (Self::Rotated, "rotated"),
        (Self::Disabled, "disabled"),
        (Self::Enabled, "enabled"),
        (Self::Revoked, "revoked"),
        (Self::Purged, "purged"),
        (Self::Rejected(DenialKind::Revoked), "refused_revoked"),
        (Self::Rejected(DenialKind::Disabled), "refused_disabled"),
        (Self::Rejected(DenialKind::Expired), "refused_expired"),
        (Self::Rejected(DenialKind::Superseded), "refused_superseded"),
        (
            Self::Rejected(DenialKind::NotYetValid),
            "refused_not_yet_valid",
        ),
    ];

    /// Returns the name of the action.
    pub fn as_str(self) -> &'static str {
        let mut names = Self::NAMES.into_iter();
        names
            .find(|(action, _)| *action == self)
            .map_or("refused", |(_, name)| name)
    }
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AuditAction {
    type Err = ParseAuditActionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut names = Self::NAMES.into_iter();
        names
            .find(|(_, name)| *name == text)
            .map(|(action, _)| action)
            .ok_or(ParseAuditActionError(()))
    }
}

/// A text is not an [`AuditAction`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown audit action")]
pub struct ParseAuditActionError(());

/// Receives audit events.
///
/// ```
/// use std::sync::Mutex;
/// use tower_service_token::audit::{AuditEvent, AuditSink};
///
/// #[derive(Default)]
/// struct MemorySink(Mutex<Vec<AuditEvent>>);
///
/// impl AuditSink for MemorySink {
///     fn record(&self, event: &AuditEvent) {
///         self.0.lock().expect("no writer panics").push(event.clone());
///     }
/// }
/// ```
#[auto_impl(Arc)]
pub trait AuditSink: Send + Sync + 'static {
    /// Records an event, after the change or the rejection. It must not block, because rejections
    /// are recorded on the request path.
    fn record(&self, event: &AuditEvent);
}

/// The default [`AuditSink`]. With the feature `tracing` it logs each event at level `INFO`, with
/// target `tower_service_token::audit` and fields `action`, `actor`, `token_id`, `client` and
/// `changes`. Without the feature it does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingAuditSink;

impl AuditSink for TracingAuditSink {
    fn record(&self, event: &AuditEvent) {
        #[cfg(feature = "tracing")]
        tracing::info!(
            target: "tower_service_token::audit",
            action = event.action.as_str(),
            actor = &*event.actor,
            token_id = %event.display_id,
            client = event.client_address.map(tracing::field::display),
            changes = (!event.changes.is_empty()).then(|| tracing::field::display(describe_changes(&event.changes))),
            "service token",
        );
        let _ = event;
    }
}

/// Formats changes as `name: "old" to "new", description: none to "nightly"`.
#[cfg(feature = "tracing")]
fn describe_changes(changes: &[FieldChange]) -> String {
    let quoted = |value: &Option<String>| match value {
        None => "none".to_owned(),
        Some(value) => {
            let value = value.replace('\\', r"\\").replace('"', "\\\"");
            format!("\"{}\"", crate::text::escape_invisible(&value))
        }
    };
    let changes = changes.iter().map(|change| {
        let (before, after) = (quoted(&change.before), quoted(&change.after));
        format!("{}: {before} to {after}", change.field)
    });
    changes.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_has_the_same_actor_as_a_redacted_text() {
        let id: TokenId = "7Hq2mX9bTe".parse().expect("an id");
        let longest = "x".repeat(DisplayId::MAX_LENGTH);
        let own = ["a/b", "a%2Fb-c_d", "<tenant/7>:{key},100%", &longest];
        let own = own.map(|text| DisplayId::new(text).expect("visible"));
        for display_id in own.into_iter().chain([id.into()]) {
            let (at, kind) = (SystemTime::UNIX_EPOCH, DenialKind::Expired);
            let actor = format!("token:{display_id}");
            let redacted = AuditEvent::new(at, actor, AuditAction::Rejected(kind), id)
                .with_display_id(display_id.clone());
            assert_eq!(AuditEvent::rejected(at, kind, id, display_id), redacted);
        }
    }
}
