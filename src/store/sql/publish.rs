use super::batch::Outcome;
use super::session::Session;
use super::write::Written;
use super::{audit_log, notification};
use crate::registry::Write;
use crate::store::{ChangeFeed, TokenChange};

/// Appends the changes to the audit trail, if one is kept, and notifies the other nodes of them.
pub(super) async fn record(
    session: &mut Session<'_>,
    writes: &[Write],
    outcomes: &[Outcome],
    keeps_audit_log: bool,
) -> Result<Vec<TokenChange>, sqlx::Error> {
    let done = writes.iter().zip(outcomes);
    let done = done.filter_map(|(write, outcome)| Some((write, outcome.as_ref().ok()?)));
    let change =
        |written: &Written| TokenChange::between(written.before.as_ref(), written.after.as_ref());
    let changes: Vec<_> = done.clone().map(|(_, written)| change(written)).collect();
    let mut events = done.map(|(write, _)| write.event());
    match &changes[..] {
        [] => {}
        [change] => {
            if let Some(event) = events.next().filter(|_| keeps_audit_log) {
                audit_log::append(session, event).await?;
            }
            session.notify(&notification::encode(change)).await?;
        }
        changes => {
            if keeps_audit_log {
                audit_log::append_many(session, events).await?;
            }
            let notifications: Vec<_> = changes.iter().map(notification::encode).collect();
            let notifications = serde_json::to_string(&notifications).expect("texts make JSON");
            session.notify_many(&notifications).await?;
        }
    }
    Ok(changes)
}

/// Publishes the changes when dropped, also if the caller stopped waiting for the commit.
pub(super) struct PublishOnDrop<'a> {
    feed: &'a ChangeFeed,
    changes: Vec<TokenChange>,
}

impl<'a> PublishOnDrop<'a> {
    pub(super) fn new(feed: &'a ChangeFeed, changes: Vec<TokenChange>) -> Self {
        Self { feed, changes }
    }
}

impl Drop for PublishOnDrop<'_> {
    fn drop(&mut self) {
        for change in &self.changes {
            self.feed.publish(change);
        }
    }
}
