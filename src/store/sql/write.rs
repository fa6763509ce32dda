use std::fmt::Write as _;

use sqlx::AssertSqlSafe;

use super::columns::{self, Attribute, COUNT, EncodedLists, LAST_USED_AT, columns, millis};
use super::failure::Failure;
use super::session::{Row, Session, Statement, Value};
use crate::digest::TokenDigest;
use crate::registry::{RegistryError, Write};
use crate::store::TokenRecord;
use crate::token::TokenId;

pub(super) const GET: &str = concat!("SELECT ", columns!(), " FROM service_tokens WHERE id = $1");

const GET_AND_LOCK: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM service_tokens WHERE id = $1 FOR UPDATE"
);

/// What nearly every lookup is answered by.
pub(super) const FIND_CURRENT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM service_tokens WHERE digest = $1"
);

/// For those that are not, in one statement: a secret that is just being rotated is one of both.
pub(super) const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM service_tokens WHERE digest = $1 UNION ALL SELECT ",
    columns!(),
    " FROM service_tokens WHERE previous_digest = $1 LIMIT 1"
);

const INSERT: &str = concat!(
    "INSERT INTO service_tokens (",
    columns!(),
    ", reserved_name) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
     $16, $17, $18, $19, $20, $21)"
);

/// A name that was reserved stays so while it is the token's and the token is not revoked. The
/// last use is not written.
const UPDATE: &str = "UPDATE service_tokens SET \
     digest = $2, previous_digest = $3, grace_ends_at = $4, state = $5, name = $6, \
     description = $7, subject = $8, roles = $9, scopes = $10, labels = $11, created_at = $12, \
     created_by = $13, updated_at = $14, rotated_at = $15, expires_at = $16, not_before = $17, \
     revision = $18, hint = $19, \
     reserved_name = COALESCE($20, CASE WHEN $5 < 2 AND reserved_name = $6 THEN reserved_name END) \
     WHERE id = $1";

const FIND_CONFLICT: &str = "SELECT CASE \
     WHEN EXISTS (SELECT 1 FROM service_tokens WHERE reserved_name = $2 AND id <> $1) THEN 'name' \
     WHEN EXISTS (SELECT 1 FROM service_tokens WHERE digest IN ($3, $4) AND id <> $1) \
       OR EXISTS (SELECT 1 FROM service_tokens WHERE previous_digest IN ($3, $4) AND id <> $1) \
     THEN 'digest' END";

const COUNT_LIVE: &str = "SELECT COUNT(*) FROM \
     (SELECT 1 FROM service_tokens WHERE state IN (0, 1) LIMIT $1) AS live";

/// Whether a token other than $1 may administer tokens at $2. The scopes are those that cover
/// `service-tokens:admin`.
const HAS_OTHER_ADMIN: &str = "SELECT 1 FROM service_token_attributes a \
     JOIN service_tokens t ON t.id = a.token_id \
     WHERE a.kind = 2 AND a.value IN \
     ('service-tokens:admin', 'service-tokens:*', 'service-tokens:**', '*', '**') \
     AND t.id <> $1 AND t.state = 0 AND (t.expires_at IS NULL OR t.expires_at > $2) \
     AND (t.not_before IS NULL OR t.not_before <= $2) LIMIT 1";

const HAS_ID: &str = "SELECT 1 FROM service_tokens WHERE id = $1";

const DELETE: &str = "DELETE FROM service_tokens WHERE id = $1";

const DELETE_ATTRIBUTES: &str = "DELETE FROM service_token_attributes WHERE token_id = $1";

/// What a write found and left.
pub(super) struct Written {
    pub(super) before: Option<TokenRecord>,
    pub(super) after: Option<TokenRecord>,
}

pub(super) async fn insert(session: &mut Session<'_>, write: &Write) -> Result<Written, Failure> {
    let record = write.record();
    let id = Value::Int(Some(record.id().as_i64()));
    let limit = write.max_tokens().and_then(|max| i64::try_from(max).ok());
    if limit.is_some() {
        session.lock_token_count().await?;
    }
    // Rows before digests, as an update takes them.
    let actor = match write.actor_id() {
        Some(id) => read_and_lock(session, id).await?,
        None => None,
    };
    write.authorize(actor.as_ref(), None)?;
    session.lock_digests(record.digests()).await?;
    if !session.rows(HAS_ID, &[id]).await?.is_empty() {
        return Err(RegistryError::DuplicateId.into());
    }
    check_conflicts(session, write).await?;
    if let Some(limit) = limit {
        let live = session.rows(COUNT_LIVE, &[Value::Int(Some(limit))]).await?;
        if first(&live)
            .map_or(Ok(None), |row| row.int(0))?
            .is_none_or(|live| live >= limit)
        {
            return Err(RegistryError::TooManyTokens.into());
        }
    }
    let lists = EncodedLists::of(record);
    let mut values = columns::encode(record, &lists).to_vec();
    values.push(Value::Text(write.reserved_name()));
    session.execute(INSERT, &values).await?;
    insert_attributes(session, record).await?;
    Ok(Written {
        before: None,
        after: Some(record.clone()),
    })
}

pub(super) async fn update(session: &mut Session<'_>, write: &Write) -> Result<Written, Failure> {
    let known = lock(session, write).await?;
    let record = updated_record(write, &known);
    let is_new = |digest: &&TokenDigest| known.digests().all(|held| held != *digest);
    session
        .lock_digests(record.digests().filter(is_new))
        .await?;
    check_conflicts(session, write).await?;
    let lists = EncodedLists::of(&record);
    let all: [Value<'_>; COUNT] = columns::encode(&record, &lists);
    let mut values = all[..LAST_USED_AT].to_vec();
    values.extend_from_slice(&all[LAST_USED_AT + 1..]);
    values.push(Value::Text(write.reserved_name()));
    session.execute(UPDATE, &values).await?;
    let (before, after) = (Attribute::all(&known), Attribute::all(&record));
    if before != after || known.created_at() != record.created_at() {
        delete_attributes(session, record.id()).await?;
        insert_attributes(session, &record).await?;
    }
    Ok(Written {
        before: Some(known),
        after: Some(record),
    })
}

/// The record as it is stored after the write.
pub(super) fn updated_record(write: &Write, known: &TokenRecord) -> TokenRecord {
    let record = write.record().clone();
    record
        .with_revision(known.revision() + 1)
        .with_last_used_at(known.last_used_at())
}

pub(super) async fn delete(session: &mut Session<'_>, write: &Write) -> Result<Written, Failure> {
    let known = lock(session, write).await?;
    delete_attributes(session, known.id()).await?;
    let id = Value::Int(Some(known.id().as_i64()));
    session.execute(DELETE, &[id]).await?;
    Ok(Written {
        before: Some(known),
        after: None,
    })
}

/// Returns the stored record if it is still at the revision of the written one and the change may
/// be made. Locks it and the actor's token until the transaction ends.
async fn lock(session: &mut Session<'_>, write: &Write) -> Result<TokenRecord, Failure> {
    let id = write.record().id();
    if write.last_admin_check().is_some() {
        session.lock_admins().await?;
    }
    let actor_id = write.actor_id().filter(|actor_id| *actor_id != id);
    // In the order of their ids, so that two changes cannot wait for each other.
    let (known, actor) = match actor_id {
        Some(actor_id) if actor_id < id => {
            let actor = read_and_lock(session, actor_id).await?;
            (read_and_lock(session, id).await?, actor)
        }
        Some(actor_id) => {
            let known = read_and_lock(session, id).await?;
            (known, read_and_lock(session, actor_id).await?)
        }
        None => {
            let known = read_and_lock(session, id).await?;
            (known.clone(), known)
        }
    };
    let known = known.ok_or(RegistryError::UnknownId)?;
    if known.revision() != write.record().revision() {
        return Err(RegistryError::RevisionMismatch.into());
    }
    write.authorize(actor.as_ref(), Some(&known))?;
    if let Some(now) = write.last_admin_check() {
        let values = [Value::Int(Some(id.as_i64())), Value::Int(Some(millis(now)))];
        if session.rows(HAS_OTHER_ADMIN, &values).await?.is_empty() {
            return Err(RegistryError::LastAdmin.into());
        }
    }
    Ok(known)
}

/// Reads a record and locks its row until the transaction ends.
///
/// The row of the actor, too, is locked for one transaction alone. PostgreSQL lets shared locks
/// pass an exclusive one that waits, so that the holder of a token could keep it from being revoked
/// by writing all the time.
async fn read_and_lock(
    session: &mut Session<'_>,
    id: TokenId,
) -> Result<Option<TokenRecord>, Failure> {
    let statement = if session.locks_rows() {
        GET_AND_LOCK
    } else {
        GET
    };
    let rows = session
        .rows(statement, &[Value::Int(Some(id.as_i64()))])
        .await?;
    Ok(first(&rows).map(columns::decode).transpose()?)
}

async fn check_conflicts(session: &mut Session<'_>, write: &Write) -> Result<(), Failure> {
    let record = write.record();
    let values = [
        Value::Int(Some(record.id().as_i64())),
        Value::Text(write.reserved_name()),
        Value::Bytes(Some(record.digest().as_bytes())),
        Value::Bytes(
            record
                .previous_digest()
                .map(|digest| &digest.as_bytes()[..]),
        ),
    ];
    let rows = session.rows(FIND_CONFLICT, &values).await?;
    match first(&rows).map_or(Ok(None), |row| row.text(0))? {
        None => Ok(()),
        Some("name") => Err(RegistryError::NameTaken.into()),
        Some(_) => Err(RegistryError::DuplicateDigest.into()),
    }
}

/// Rows that are inserted by one statement.
const ATTRIBUTES_PER_INSERT: usize = 16;

async fn insert_attributes(
    session: &mut Session<'_>,
    record: &TokenRecord,
) -> Result<(), sqlx::Error> {
    let listed_at = record.created_at().map_or(0, millis);
    for attributes in Attribute::all(record).chunks(ATTRIBUTES_PER_INSERT) {
        let mut values = vec![
            Value::Int(Some(record.id().as_i64())),
            Value::Int(Some(listed_at)),
        ];
        let mut sql = "INSERT INTO service_token_attributes (token_id, listed_at, kind, value) \
                       VALUES"
            .to_owned();
        for attribute in attributes {
            let (comma, place) = (if values.len() > 2 { "," } else { "" }, values.len());
            write!(sql, "{comma} ($1, $2, ${}, ${})", place + 1, place + 2)
                .expect("a text takes any text");
            values.push(Value::Int(Some(attribute.kind)));
            values.push(Value::Text(Some(&attribute.value)));
        }
        let statement = Statement::unprepared(AssertSqlSafe(sql));
        session.execute(statement, &values).await?;
    }
    Ok(())
}

async fn delete_attributes(session: &mut Session<'_>, id: TokenId) -> Result<(), sqlx::Error> {
    let id = Value::Int(Some(id.as_i64()));
    session.execute(DELETE_ATTRIBUTES, &[id]).await?;
    Ok(())
}

fn first(rows: &[Row]) -> Option<&Row> {
    rows.first()
}

#[cfg(test)]
mod tests {
    use super::HAS_OTHER_ADMIN;
    use crate::store::ADMIN_SCOPES;

    #[test]
    fn admin_query_lists_every_admin_scope() {
        let scopes = ADMIN_SCOPES.map(|scope| format!("'{scope}'"));
        let list = format!("({})", scopes.join(", "));
        assert!(HAS_OTHER_ADMIN.contains(&list), "{HAS_OTHER_ADMIN}");
    }
}
