//! Several updates in one transaction.

use super::columns::{self, json, millis};
use super::failure::Failure;
use super::session::Session;
use super::write::{self, Written};
use crate::registry::{RegistryError, Write};
use crate::store::{TokenRecord, TokenState};

/// The result of one update.
pub(super) type Outcome = Result<Written, RegistryError>;

/// The columns that a revocation changes, and the one that no update writes: a token that is used
/// meanwhile is revoked like the others.
const OF_REVOCATION: [&str; 4] = ["state", "updated_at", "revision", "last_used_at"];

/// Makes the updates. One that fails does not affect the others. One statement writes all those that
/// only revoke.
pub(super) async fn update_many(
    session: &mut impl Session,
    writes: &[Write],
) -> Result<Vec<Outcome>, Failure> {
    if writes.iter().any(|it| it.last_admin_check().is_some()) {
        write::lock_admins(session).await?;
    }
    let mut records = write::read_and_lock(session, writes).await?;
    let mut revoked = Vec::new();
    let mut outcomes = Vec::with_capacity(writes.len());
    for write in writes {
        let outcome = match write::authorize(&records, write) {
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
                    Err(Failure::Rejected(error)) => Err(error),
                    written => Ok(written?),
                }
            }
        };
        let after = outcome.as_ref().ok().and_then(|it| it.after.as_ref());
        if let Some(after) = after {
            records.insert(after.id(), after.clone());
        }
        outcomes.push(outcome);
    }
    revoke(session, &mut revoked).await?;
    Ok(outcomes)
}

/// Returns whether the write changes the state to revoked and nothing else. A second revocation of
/// the same token is an ordinary update: one statement would count only one of the two.
fn is_revocation(known: &TokenRecord, write: &Write) -> bool {
    let record = write.record();
    if known.state() == TokenState::Revoked || record.state() != TokenState::Revoked {
        return false;
    }
    let mut columns = columns::values(known)
        .into_iter()
        .zip(columns::values(record));
    columns.all(|(known, written)| OF_REVOCATION.contains(&known.0) || known == written)
}

async fn revoke(
    session: &mut impl Session,
    revoked: &mut Vec<(i64, Option<i64>)>,
) -> Result<(), sqlx::Error> {
    if revoked.is_empty() {
        return Ok(());
    }
    let tokens = json(&std::mem::take(revoked)).into();
    let statement = session.dialect().revoke_many;
    session.execute(statement, &[tokens]).await?;
    Ok(())
}
