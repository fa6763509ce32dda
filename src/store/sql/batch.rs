//! Several updates in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::columns::{
    self, COUNT, EncodedLists, LAST_USED_AT, REVISION, STATE, UPDATED_AT, millis,
};
use super::failure::Failure;
use super::session::Session;
use super::write::{self, Written};
use crate::registry::{RegistryError, Write};
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

/// What became of one of the updates.
pub(super) type Outcome = Result<Written, RegistryError>;

/// Makes the updates. One that fails does not affect the others. Those that only revoke are written
/// by one statement.
pub(super) async fn update_many(
    session: &mut Session<'_>,
    writes: &[Write],
) -> Result<Vec<Outcome>, Failure> {
    if writes
        .iter()
        .any(|write| write.last_admin_check().is_some())
    {
        session.lock_admins().await?;
    }
    let mut records = read_and_lock(session, writes).await?;
    let mut revoked = Vec::new();
    let mut outcomes = Vec::with_capacity(writes.len());
    for write in writes {
        let outcome = match check_write(&records, write) {
            Err(error) => Err(error),
            Ok(known) if write.last_admin_check().is_none() && is_revocation(known, write) => {
                let after = write::updated_record(write, known);
                revoked.push((after.id().as_i64(), after.updated_at().map(millis)));
                Ok(Written {
                    before: Some(known.clone()),
                    after: Some(after),
                })
            }
            Ok(_) => {
                revoke(session, &mut revoked).await?;
                match write::update(session, write).await {
                    Err(Failure::Refused(error)) => Err(error),
                    written => Ok(written?),
                }
            }
        };
        if let Ok(Written {
            after: Some(after), ..
        }) = &outcome
        {
            records.insert(after.id(), after.clone());
        }
        outcomes.push(outcome);
    }
    revoke(session, &mut revoked).await?;
    Ok(outcomes)
}

/// The records that the writes replace and those of their actors.
async fn read_and_lock(
    session: &mut Session<'_>,
    writes: &[Write],
) -> Result<BTreeMap<TokenId, TokenRecord>, Failure> {
    let targets = writes.iter().map(|write| write.record().id());
    let actors = writes.iter().filter_map(Write::actor_id);
    let ids: BTreeSet<i64> = targets.chain(actors).map(TokenId::as_i64).collect();
    let ids = serde_json::to_string(&ids).expect("numbers make JSON");
    let rows = session.get_many(&ids).await?;
    let records = rows.iter().map(columns::decode);
    let records = records.map(|record| record.map(|record| (record.id(), record)));
    Ok(records.collect::<Result<_, _>>()?)
}

fn check_write<'r>(
    records: &'r BTreeMap<TokenId, TokenRecord>,
    write: &Write,
) -> Result<&'r TokenRecord, RegistryError> {
    let known = records.get(&write.record().id());
    let known = known.ok_or(RegistryError::UnknownId)?;
    if known.revision() != write.record().revision() {
        return Err(RegistryError::RevisionMismatch);
    }
    let actor = write.actor_id().and_then(|id| records.get(&id));
    write.authorize(actor, Some(known))?;
    Ok(known)
}

/// Whether the write changes the state to revoked, and nothing else that an update stores. A second
/// revocation of one token in a call is an update like any other: one statement would count only
/// one of the two.
fn is_revocation(known: &TokenRecord, write: &Write) -> bool {
    let record = write.record();
    let is_revoked = |record: &TokenRecord| record.state() == TokenState::Revoked;
    if is_revoked(known) || !is_revoked(record) {
        return false;
    }
    let (known_lists, lists) = (EncodedLists::of(known), EncodedLists::of(record));
    let known = columns::encode(known, &known_lists);
    let written = columns::encode(record, &lists);
    // No update stores the last use: a token that is used meanwhile is revoked like the others.
    let changes = [STATE, UPDATED_AT, LAST_USED_AT, REVISION];
    let is_kept = |column: &usize| !changes.contains(column);
    (0..COUNT)
        .filter(is_kept)
        .all(|column| known[column] == written[column])
}

async fn revoke(
    session: &mut Session<'_>,
    revoked: &mut Vec<(i64, Option<i64>)>,
) -> Result<(), sqlx::Error> {
    if revoked.is_empty() {
        return Ok(());
    }
    let tokens = serde_json::to_string(&revoked).expect("numbers make JSON");
    revoked.clear();
    session.revoke_many(&tokens).await
}
