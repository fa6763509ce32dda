use super::audit_trail;
use super::batch::{self, Outcome};
use super::columns::json;
use super::failure::Failure;
use super::notification;
use super::session::{Session, Value};
use super::write::{self, Written};
use crate::registry::Write;
use crate::store::TokenChange;

/// The work of one transaction.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    Insert(&'a Write),
    Update(&'a Write),
    UpdateMany(&'a [Write]),
    Delete(&'a Write),
    Execute(&'static str, &'a [Value<'a>]),
}

/// The result of a transaction.
pub(super) struct OperationResult {
    /// One outcome per write.
    pub(super) outcomes: Vec<Outcome>,
    /// How many rows [`Change::Execute`] returned.
    pub(super) rows: usize,
}

impl<'a> Change<'a> {
    pub(super) async fn run(self, session: &mut impl Session) -> Result<OperationResult, Failure> {
        let outcomes = match self {
            Self::Insert(write) => vec![Ok(write::insert(session, write).await?)],
            Self::Update(write) => vec![Ok(write::update(session, write).await?)],
            Self::Delete(write) => vec![Ok(write::delete(session, write).await?)],
            Self::UpdateMany(writes) => batch::update_many(session, writes).await?,
            Self::Execute(statement, values) => {
                let rows = session.rows(statement.into(), values).await?.len();
                let outcomes = Vec::new();
                return Ok(OperationResult { outcomes, rows });
            }
        };
        Ok(OperationResult { outcomes, rows: 0 })
    }

    /// Appends the writes that succeeded to the audit trail, if it is on, and notifies other
    /// processes of the changes, which it returns.
    pub(super) async fn record(
        self,
        session: &mut impl Session,
        outcomes: &[Outcome],
        keeps_audit_trail: bool,
    ) -> Result<Vec<TokenChange>, sqlx::Error> {
        let done = self.writes().iter().zip(outcomes);
        let done = done.filter_map(|(write, outcome)| Some((write, outcome.as_ref().ok()?)));
        let changes = done.clone().map(|(_, Written { before, after })| {
            TokenChange::between(before.as_ref(), after.as_ref())
        });
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            return Ok(changes);
        }
        if keeps_audit_trail {
            audit_trail::append(session, done.map(|(write, _)| write.event())).await?;
        }
        let notifications: Vec<_> = changes.iter().map(notification::encode).collect();
        let dialect = session.dialect();
        let notifications = [json(&notifications).into()];
        session.execute(dialect.notify, &notifications).await?;
        if let Some(prune) = dialect.prune_notifications {
            session.execute(prune, &[]).await?;
        }
        Ok(changes)
    }

    fn writes(self) -> &'a [Write] {
        match self {
            Self::Insert(write) | Self::Update(write) | Self::Delete(write) => {
                std::slice::from_ref(write)
            }
            Self::UpdateMany(writes) => writes,
            Self::Execute(..) => &[],
        }
    }
}
