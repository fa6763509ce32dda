use std::net::IpAddr;

use super::columns::{DecodeError, json, millis, time};
use super::session::{NamedColumns, Session};
use crate::audit::{AuditEvent, FieldChange};
use crate::token::TokenId;

pub(super) const LATEST: &str = "SELECT at, actor, action, token_id, changes, client_address \
     FROM service_token_events ORDER BY seq DESC LIMIT $1";

pub(super) const LATEST_OF_TOKEN: &str = "SELECT at, actor, action, token_id, changes, client_address \
     FROM service_token_events WHERE token_id = $2 ORDER BY seq DESC LIMIT $1";

/// Appends events.
pub(super) async fn append<'e>(
    session: &mut impl Session,
    events: impl Iterator<Item = &'e AuditEvent> + Send,
) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = events
        .map(|event| {
            let (actor, action) = (event.actor(), event.action().as_str());
            let id = event.token_id().as_i64();
            let (changes, address) = (json(&event.changes()), event.client_address());
            (millis(event.at()), actor, action, id, changes, address)
        })
        .collect();
    let statement = session.dialect().append_events;
    session.execute(statement, &[json(&rows).into()]).await?;
    Ok(())
}

/// Reads an event.
pub(super) fn read(row: &impl NamedColumns) -> Result<AuditEvent, DecodeError> {
    let id = row.int("token_id")?.and_then(TokenId::from_i64);
    let id = id.ok_or(DecodeError::Id("token_id"))?;
    let invalid = |column| DecodeError::Column(column, id);
    let at = row.int("at")?.ok_or(invalid("at"))?;
    let actor = row.text("actor")?.ok_or(invalid("actor"))?;
    let action = row.text("action")?.and_then(|action| action.parse().ok());
    let action = action.ok_or(invalid("action"))?;
    let address = row.text("client_address")?.map(str::parse::<IpAddr>);
    let address = address.transpose().map_err(|_| invalid("client_address"))?;
    let changes: Option<Vec<FieldChange>> = row
        .text("changes")?
        .and_then(|changes| serde_json::from_str(changes).ok());
    let event = AuditEvent::new(time(at), actor, action, id).with_client_address(address);
    let changes = changes.ok_or(invalid("changes"))?;
    Ok(changes.into_iter().fold(event, AuditEvent::with_change))
}
