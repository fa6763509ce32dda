use std::collections::{BTreeMap, BTreeSet};

use super::columns::{self, Attribute, columns, json, millis};
use super::failure::Failure;
use super::session::{self, NamedColumns, Session, Value};
use crate::digest::TokenDigest;
use crate::registry::{RegistryError, Write};
use crate::store::TokenRecord;
use crate::token::TokenId;

const INSERT: &str = concat!(
    "INSERT INTO service_tokens (",
    columns!(),
    ", reserved_name) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
     $16, $17, $18, $19, $20, $21, $22, $23)"
);

/// Keeps a reserved name while the token has that name and owner and is not revoked. Does not change
/// the last use.
const UPDATE: &str = "UPDATE service_tokens SET \
     digest = $2, previous_digest = $3, grace_ends_at = $4, state = $5, name = $6, \
     description = $7, subject = $8, roles = $9, scopes = $10, labels = $11, created_at = $12, \
     created_by = $13, updated_at = $14, rotated_at = $15, expires_at = $16, not_before = $17, \
     revision = $18, hint = $19, rotation_key = $20, owner = $21, \
     reserved_name = COALESCE($22, CASE WHEN $5 < 2 AND reserved_name = $23 THEN reserved_name END) \
     WHERE id = $1";

const CONFLICT: &str = "SELECT CASE \
     WHEN EXISTS (SELECT 1 FROM service_tokens WHERE reserved_name = $2 AND id <> $1) THEN 'name' \
     WHEN EXISTS (SELECT 1 FROM service_tokens WHERE digest IN ($3, $4) AND id <> $1) \
       OR EXISTS (SELECT 1 FROM service_tokens WHERE previous_digest IN ($3, $4) AND id <> $1) \
     THEN 'digest' \
     WHEN EXISTS (SELECT 1 FROM service_tokens WHERE id % 10000000000000 = $5 AND id <> $1) \
     THEN 'number' END AS conflict";

const COUNT_LIVE: &str = "SELECT COUNT(*) AS count FROM \
     (SELECT 1 FROM service_tokens WHERE state IN (0, 1) LIMIT $1) AS live";

/// Uses the index on the owner: most tokens are not revoked.
const COUNT_LIVE_OF_OWNER: &str = "SELECT COUNT(*) AS count FROM \
     (SELECT 1 FROM service_tokens WHERE owner = $2 AND +state < 2 LIMIT $1) AS live";

/// Returns a row if a token other than `$1` may administer tokens at `$2`. The scopes are those that
/// cover `service-tokens:admin`.
const HAS_OTHER_ADMIN: &str = "SELECT 1 FROM service_token_attributes a \
     JOIN service_tokens t ON t.id = a.token_id \
     WHERE a.kind = 2 AND a.value IN \
     ('service-tokens:admin', 'service-tokens:*', 'service-tokens:**', '*', '**') \
     AND t.id <> $1 AND t.state = 0 AND t.owner IS NULL AND (t.expires_at IS NULL OR t.expires_at > $2) \
     AND (t.not_before IS NULL OR t.not_before <= $2) LIMIT 1";

const DELETE: &str = "DELETE FROM service_tokens WHERE id = $1";

const DELETE_ATTRIBUTES: &str = "DELETE FROM service_token_attributes WHERE token_id = $1";

/// Serializes creations with a limit on the number of tokens.
const TOKEN_COUNT_LOCK: i64 = 0x7365_7276_746f_6b01;

/// The domain of the locks that do the same for one owner each.
const OWNER_LOCK: &str = "tower-service-token/owner/1";

/// Serializes changes that could end the last administrator.
const ADMIN_LOCK: i64 = 0x7365_7276_746f_6b03;

/// The record before and after a write.
pub(super) struct Written {
    pub(super) before: Option<TokenRecord>,
    pub(super) after: Option<TokenRecord>,
}

pub(super) async fn insert(session: &mut impl Session, write: &Write) -> Result<Written, Failure> {
    let record = write.record();
    lock_counts(session, write).await?;
    // Rows before digests, in the same order as an update.
    let records = read_and_lock(session, std::slice::from_ref(write)).await?;
    let actor = write.actor_id().and_then(|id| records.get(&id));
    write.authorize(actor, None)?;
    let number = record.id().number();
    lock_keys(session, record.digests(), Some(number)).await?;
    if records.contains_key(&record.id()) {
        return Err(RegistryError::DuplicateId.into());
    }
    check_conflicts(session, write, Some(number)).await?;
    check_counts(session, write).await?;
    let columns = columns::values(record).map(|(_, value)| value);
    let mut values = Vec::from(columns);
    let reserved_name = write.reserved_name();
    values.push(reserved_name.as_deref().into());
    session.execute(INSERT, &values).await?;
    insert_attributes(session, record).await?;
    Ok(Written {
        before: None,
        after: Some(record.clone()),
    })
}

/// Makes other insertions that count the same tokens wait until this transaction ends.
async fn lock_counts(session: &mut impl Session, write: &Write) -> Result<(), sqlx::Error> {
    if write.max_tokens().is_some() {
        session::lock(session, TOKEN_COUNT_LOCK).await?;
    }
    if let (Some(owner), Some(_)) = (write.record().owner(), write.max_tokens_of_owner()) {
        let hash = TokenDigest::of(&[OWNER_LOCK, owner].join("\0"));
        session::lock(session, hash.index().cast_signed()).await?;
    }
    Ok(())
}

/// Returns an error if the insertion exceeds a maximum number of tokens.
async fn check_counts(session: &mut impl Session, write: &Write) -> Result<(), Failure> {
    let limit = |max: Option<u64>| max.and_then(|max| i64::try_from(max).ok());
    let mut counts = Vec::new();
    if let Some(limit) = limit(write.max_tokens()) {
        counts.push((COUNT_LIVE, limit, vec![limit.into()]));
    }
    if let Some(limit) = limit(write.max_tokens_of_owner()) {
        let values = vec![limit.into(), write.record().owner().into()];
        counts.push((COUNT_LIVE_OF_OWNER, limit, values));
    }
    for (statement, limit, values) in counts {
        let row = session.row(statement.into(), &values).await?;
        let live = row.map_or(Ok(None), |row| row.int("count"))?;
        if live.is_none_or(|live| live >= limit) {
            return Err(RegistryError::TooManyTokens.into());
        }
    }
    Ok(())
}

pub(super) async fn update(session: &mut impl Session, write: &Write) -> Result<Written, Failure> {
    let known = lock(session, write).await?;
    let record = updated_record(write, &known);
    let is_new = |digest: &&TokenDigest| known.digests().all(|held| held != *digest);
    lock_keys(session, record.digests().filter(is_new), None).await?;
    check_conflicts(session, write, None).await?;
    let columns = columns::values(&record).map(|(_, value)| value);
    let mut values = Vec::from(columns);
    // Replaces the last use.
    values.pop();
    let reserved_name = write.reserved_name();
    values.push(reserved_name.as_deref().into());
    let name_key = write.name_key();
    values.push((*name_key).into());
    session.execute(UPDATE, &values).await?;
    if Attribute::all(&known) != Attribute::all(&record)
        || known.created_at() != record.created_at()
    {
        let id = [record.id().as_i64().into()];
        session.execute(DELETE_ATTRIBUTES, &id).await?;
        insert_attributes(session, &record).await?;
    }
    Ok(Written {
        before: Some(known),
        after: Some(record),
    })
}

/// Returns the record that a write stores.
pub(super) fn updated_record(write: &Write, known: &TokenRecord) -> TokenRecord {
    let record = write.record().clone();
    record
        .with_revision(known.revision() + 1)
        .with_last_used_at(known.last_used_at())
}

pub(super) async fn delete(session: &mut impl Session, write: &Write) -> Result<Written, Failure> {
    let known = lock(session, write).await?;
    let id = [known.id().as_i64().into()];
    session.execute(DELETE_ATTRIBUTES, &id).await?;
    session.execute(DELETE, &id).await?;
    Ok(Written {
        before: Some(known),
        after: None,
    })
}

/// Makes other transactions that could end an administrator wait until this one ends.
pub(super) async fn lock_admins(session: &mut impl Session) -> Result<(), sqlx::Error> {
    session::lock(session, ADMIN_LOCK).await
}

/// Locks and returns the stored record of a write that may be made.
async fn lock(session: &mut impl Session, write: &Write) -> Result<TokenRecord, Failure> {
    if write.last_admin_check().is_some() {
        lock_admins(session).await?;
    }
    let records = read_and_lock(session, std::slice::from_ref(write)).await?;
    let known = authorize(&records, write)?;
    if let Some(now) = write.last_admin_check() {
        let values = [known.id().as_i64().into(), millis(now).into()];
        let other = session.row(HAS_OTHER_ADMIN.into(), &values).await?;
        other.ok_or(RegistryError::LastAdmin)?;
    }
    Ok(known.clone())
}

/// Reads the records that the writes replace and those of their actors, and locks their rows until
/// the transaction ends.
///
/// The locks are exclusive for the rows of actors too. PostgreSQL grants shared locks ahead of an
/// exclusive one that waits, so a token's holder could prevent its revocation by writing all the time.
pub(super) async fn read_and_lock(
    session: &mut impl Session,
    writes: &[Write],
) -> Result<BTreeMap<TokenId, TokenRecord>, Failure> {
    let targets = writes.iter().map(|write| write.record().id());
    let actors = writes.iter().filter_map(Write::actor_id);
    let ids: BTreeSet<i64> = targets.chain(actors).map(TokenId::as_i64).collect();
    let statement = session.dialect().get_and_lock;
    let rows = session.rows(statement.into(), &[json(&ids).into()]).await?;
    let records = rows.iter().map(columns::decode);
    let records = records.map(|record| record.map(|record| (record.id(), record)));
    Ok(records.collect::<Result<_, _>>()?)
}

/// Returns the stored record if it has the revision of the write and the actor may make the change.
pub(super) fn authorize<'r>(
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

/// Prevents other transactions from storing these digests, and an id with this number, until this one
/// ends. A unique index does not compare the digest of one token with the previous digest of another,
/// and numbers of earlier releases are not unique.
async fn lock_keys(
    session: &mut impl Session,
    digests: impl Iterator<Item = &TokenDigest> + Send,
    number: Option<i64>,
) -> Result<(), sqlx::Error> {
    let digests = digests.map(|digest| digest.index().cast_signed());
    let mut keys: Vec<i64> = digests.chain(number).collect();
    // In order, so that two transactions do not deadlock.
    keys.sort_unstable();
    for key in keys {
        session::lock(session, key).await?;
    }
    Ok(())
}

/// Returns an error if another token has the reserved name, a digest, or an id with this number.
async fn check_conflicts(
    session: &mut impl Session,
    write: &Write,
    number: Option<i64>,
) -> Result<(), Failure> {
    let record = write.record();
    let previous = record.previous_digest();
    let reserved_name = write.reserved_name();
    let values = [
        record.id().as_i64().into(),
        reserved_name.as_deref().into(),
        Value::Bytes(Some(record.digest().as_bytes())),
        Value::Bytes(previous.map(|digest| &digest.as_bytes()[..])),
        number.into(),
    ];
    let row = session.row(CONFLICT.into(), &values).await?;
    match row.as_ref().map_or(Ok(None), |row| row.text("conflict"))? {
        None => Ok(()),
        Some("name") => Err(RegistryError::NameTaken.into()),
        Some("number") => Err(RegistryError::DuplicateNumber.into()),
        Some(_) => Err(RegistryError::DuplicateDigest.into()),
    }
}

async fn insert_attributes(
    session: &mut impl Session,
    record: &TokenRecord,
) -> Result<(), sqlx::Error> {
    let attributes = Attribute::all(record);
    if attributes.is_empty() {
        return Ok(());
    }
    let attributes: Vec<_> = attributes.iter().map(|it| (it.kind, &it.value)).collect();
    let values = [
        record.id().as_i64().into(),
        record.created_at().map_or(0, millis).into(),
        json(&attributes).into(),
    ];
    let statement = session.dialect().insert_attributes;
    session.execute(statement, &values).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::HAS_OTHER_ADMIN;
    use crate::store::ADMIN_SCOPES;

    #[test]
    fn admin_statement_lists_every_admin_scope() {
        let scopes = ADMIN_SCOPES.map(|scope| format!("'{scope}'"));
        let list = format!("({})", scopes.join(", "));
        assert!(HAS_OTHER_ADMIN.contains(&list), "{HAS_OTHER_ADMIN}");
    }
}
