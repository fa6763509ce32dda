use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::columns::{DecodeError, millis, time};
use super::failure::Failure;
use super::session::{Row, Session, Value};
use super::tables::Tables;
use crate::audit::{AuditEvent, FieldChange};
use crate::store::StoreError;
use crate::token::TokenId;

/// The most events that are read at once.
const MAX_LIMIT: usize = 1000;

const APPEND: &str = "INSERT INTO service_token_events \
     (at, actor, action, token_id, changes, client_address) VALUES ($1, $2, $3, $4, $5, $6)";

const SELECT_ALL: &str = "SELECT at, actor, action, token_id, changes, client_address \
     FROM service_token_events ORDER BY seq DESC LIMIT $1";

const SELECT_BY_TOKEN: &str = "SELECT at, actor, action, token_id, changes, client_address \
     FROM service_token_events WHERE token_id = $2 ORDER BY seq DESC LIMIT $1";

#[derive(Serialize, Deserialize)]
struct Change<'a> {
    field: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Cow<'a, str>>,
}

pub(super) async fn append(
    session: &mut Session<'_>,
    event: &AuditEvent,
) -> Result<(), sqlx::Error> {
    let changes = changes(event);
    let address = event.client_address().map(|address| address.to_string());
    let values = [
        Value::Int(Some(millis(event.at()))),
        Value::Text(Some(event.actor())),
        Value::Text(Some(event.action().as_str())),
        Value::Int(Some(event.token_id().as_i64())),
        Value::Text(Some(&changes)),
        Value::Text(address.as_deref()),
    ];
    session.execute(APPEND, &values).await?;
    Ok(())
}

pub(super) async fn append_many<'e>(
    session: &mut Session<'_>,
    events: impl Iterator<Item = &'e AuditEvent> + Send,
) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = events
        .map(|event| {
            let (actor, action) = (event.actor(), event.action().as_str());
            let id = event.token_id().as_i64();
            let (changes, address) = (changes(event), event.client_address());
            (millis(event.at()), actor, action, id, changes, address)
        })
        .collect();
    let rows = serde_json::to_string(&rows).expect("texts and numbers make JSON");
    session.append_many(&rows).await
}

fn changes(event: &AuditEvent) -> String {
    let changes: Vec<_> = event
        .changes()
        .iter()
        .map(|change| Change {
            field: Cow::Borrowed(&change.field),
            before: change.before.as_deref().map(Cow::Borrowed),
            after: change.after.as_deref().map(Cow::Borrowed),
        })
        .collect();
    serde_json::to_string(&changes).expect("texts make JSON")
}

fn read(row: &Row) -> Result<AuditEvent, DecodeError> {
    let id = row.int(3)?.and_then(TokenId::from_i64);
    let id = id.ok_or(DecodeError::Column("token_id", None))?;
    let bad = |column| DecodeError::Column(column, Some(id));
    let at = row.int(0)?.ok_or(bad("at"))?;
    let actor = row.text(1)?.ok_or(bad("actor"))?;
    let action = row.text(2)?.and_then(|action| action.parse().ok());
    let address = row.text(5)?.map(str::parse::<IpAddr>).transpose();
    let address = address.map_err(|_| bad("client_address"))?;
    let mut event = AuditEvent::new(time(at), actor, action.ok_or(bad("action"))?, id)
        .with_client_address(address);
    let changes: Option<Vec<Change<'_>>> = row
        .text(4)?
        .and_then(|changes| serde_json::from_str(changes).ok());
    for change in changes.ok_or(bad("changes"))? {
        event = event.with_change(FieldChange {
            field: Cow::Owned(change.field.into_owned()),
            before: change.before.map(Cow::into_owned),
            after: change.after.map(Cow::into_owned),
        });
    }
    Ok(event)
}

impl Tables {
    pub(super) async fn audit_trail(
        &self,
        id: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        let limit = i64::try_from(limit.min(MAX_LIMIT)).unwrap_or(i64::MAX);
        let limit = Value::Int(Some(limit));
        let rows = match id {
            Some(id) => {
                let values = [limit, Value::Int(Some(id.as_i64()))];
                self.read(|| SELECT_BY_TOKEN.into(), &values).await?
            }
            None => self.read(|| SELECT_ALL.into(), &[limit]).await?,
        };
        let events = rows.iter().map(read).collect::<Result<_, _>>();
        Ok(events.map_err(Failure::from)?)
    }
}
