use super::batch::{self, Outcome};
use super::failure::Failure;
use super::session::{Session, Value};
use super::write;
use crate::registry::Write;

/// What is done in one transaction.
#[derive(Clone, Copy)]
pub(super) enum Operation<'a> {
    Insert(&'a Write),
    Update(&'a Write),
    UpdateMany(&'a [Write]),
    Delete(&'a Write),
    Touch(&'a str),
    PruneAuditLog { before: i64, limit: i64 },
    Execute(&'static str, &'a [Value<'a>]),
}

/// What a transaction did.
#[derive(Default)]
pub(super) struct OperationResult {
    /// One for each write.
    pub(super) outcomes: Vec<Outcome>,
    /// Rows that a statement without writes changed.
    pub(super) rows: u64,
}

impl<'a> Operation<'a> {
    /// The writes that become events and notices.
    pub(super) fn writes(self) -> &'a [Write] {
        match self {
            Self::Insert(write) | Self::Update(write) | Self::Delete(write) => {
                std::slice::from_ref(write)
            }
            Self::UpdateMany(writes) => writes,
            Self::Touch(_) | Self::PruneAuditLog { .. } | Self::Execute(..) => &[],
        }
    }

    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<OperationResult, Failure> {
        let mut changed = OperationResult::default();
        match self {
            Self::Insert(write) => {
                changed.outcomes = vec![Ok(write::insert(session, write).await?)];
            }
            Self::Update(write) => {
                changed.outcomes = vec![Ok(write::update(session, write).await?)];
            }
            Self::UpdateMany(writes) => {
                changed.outcomes = batch::update_many(session, writes).await?;
            }
            Self::Delete(write) => {
                changed.outcomes = vec![Ok(write::delete(session, write).await?)];
            }
            Self::Touch(uses) => session.touch(uses).await?,
            Self::PruneAuditLog { before, limit } => {
                changed.rows = session.prune_audit_log(before, limit).await?;
            }
            Self::Execute(statement, values) => {
                changed.rows = session.execute(statement, values).await?;
            }
        }
        Ok(changed)
    }
}
