use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use super::DenialKind;
use crate::clock::Timestamp;
use crate::token::TokenId;

/// Something that happened to a token, for the record: who did what to which token.
///
/// It never holds a secret or a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct AuditEvent {
    at: Timestamp,
    actor: Box<str>,
    action: AuditAction,
    token_id: TokenId,
    client_address: Option<IpAddr>,
    changes: Vec<FieldChange>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditAction {
    /// A token was minted.
    Created,
    /// A token minted elsewhere was taken over by its digest.
    Imported,
    /// What is known about the token was changed.
    Updated,
    /// The secret was replaced.
    Rotated,
    /// The token was switched off.
    Disabled,
    /// The token was switched on again.
    Enabled,
    /// The token was revoked.
    Revoked,
    /// The record of a token that no longer worked was deleted.
    Purged,
    /// A request presented the token's secret and was refused.
    Refused(DenialKind),
}

/// One field that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// The field's name, as in `roles`.
    pub field: Cow<'static, str>,
    /// What it was, if anything.
    pub before: Option<String>,
    /// What it is, if anything.
    pub after: Option<String>,
}

impl AuditEvent {
    /// An event in which no field changed. The time is kept to the millisecond.
    pub fn new(
        at: SystemTime,
        actor: impl Into<Box<str>>,
        action: AuditAction,
        token_id: TokenId,
    ) -> Self {
        Self {
            at: at.into(),
            actor: actor.into(),
            action,
            token_id,
            client_address: None,
            changes: Vec::new(),
        }
    }

    /// Sets the address of the client whose request caused the event. The default is none.
    pub fn with_client_address(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.client_address = address.into();
        self
    }

    /// Adds a field that was changed.
    pub fn with_change(mut self, change: FieldChange) -> Self {
        self.changes.push(change);
        self
    }

    /// When it happened.
    pub fn at(&self) -> SystemTime {
        self.at.into()
    }

    /// The [name](crate::lifecycle::Actor::name) of the actor: `operator:` and a name, or `token:`
    /// and an id.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// What happened.
    pub fn action(&self) -> AuditAction {
        self.action
    }

    /// The token it happened to.
    pub fn token_id(&self) -> TokenId {
        self.token_id
    }

    /// Returns the address of the client whose request caused the event, if it is known.
    pub fn client_address(&self) -> Option<IpAddr> {
        self.client_address
    }

    /// The fields that were changed.
    pub fn changes(&self) -> &[FieldChange] {
        &self.changes
    }
}

impl AuditAction {
    const ALL: [Self; 13] = [
        Self::Created,
        Self::Imported,
        Self::Updated,
        Self::Rotated,
        Self::Disabled,
        Self::Enabled,
        Self::Revoked,
        Self::Purged,
        Self::Refused(DenialKind::Revoked),
        Self::Refused(DenialKind::Disabled),
        Self::Refused(DenialKind::Expired),
        Self::Refused(DenialKind::Superseded),
        Self::Refused(DenialKind::NotYetValid),
    ];

    /// The action as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Imported => "imported",
            Self::Updated => "updated",
            Self::Rotated => "rotated",
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Revoked => "revoked",
            Self::Purged => "purged",
            Self::Refused(DenialKind::Revoked) => "refused_revoked",
            Self::Refused(DenialKind::Disabled) => "refused_disabled",
            Self::Refused(DenialKind::Expired) => "refused_expired",
            Self::Refused(DenialKind::Superseded) => "refused_superseded",
            Self::Refused(DenialKind::NotYetValid) => "refused_not_yet_valid",
            Self::Refused(DenialKind::Unknown | DenialKind::WrongDigest) => "refused",
        }
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
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or(ParseAuditActionError(()))
    }
}

/// A text is not an [`AuditAction`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an action that is audited")]
pub struct ParseAuditActionError(());

/// Is told what happened to tokens.
///
/// ```
/// use std::sync::Mutex;
/// use tower_service_token::store::{AuditEvent, AuditSink};
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
pub trait AuditSink: Send + Sync + 'static {
    /// Called after the change was made, or the request refused. Must not block: refusals are told
    /// on the request path.
    fn record(&self, event: &AuditEvent);
}

impl<S: AuditSink + ?Sized> AuditSink for Arc<S> {
    fn record(&self, event: &AuditEvent) {
        (**self).record(event);
    }
}

/// The default [`AuditSink`]: with the feature `tracing`, one event for each, at level `INFO` with
/// target `tower_service_token::audit` and fields `action`, `actor`, `token_id`, `client` and
/// `changes`; without it, nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingAuditSink;

impl AuditSink for TracingAuditSink {
    #[cfg(not(feature = "tracing"))]
    fn record(&self, _: &AuditEvent) {}

    #[cfg(feature = "tracing")]
    fn record(&self, event: &AuditEvent) {
        tracing::info!(
            target: "tower_service_token::audit",
            action = event.action.as_str(),
            actor = &*event.actor,
            token_id = %event.token_id,
            client = event.client_address.map(tracing::field::display),
            changes = (!event.changes.is_empty()).then(|| tracing::field::display(DisplayChanges(&event.changes))),
            "service token",
        );
    }
}

#[cfg(feature = "tracing")]
struct DisplayChanges<'a>(&'a [FieldChange]);

#[cfg(feature = "tracing")]
impl fmt::Display for DisplayChanges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, change) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let (before, after) = (&change.before, &change.after);
            write!(f, "{comma}{}: {before:?} to {after:?}", change.field)?;
        }
        Ok(())
    }
}
