//! Compares the acknowledged changes of mutators with the contents of a database.

use std::collections::BTreeMap;
use std::mem;

use tower_service_token::registry::{ListRequest, TokenFilter, TokenRegistry};

use crate::database::TestDatabase;
use crate::mutator::{MutatorMessage, Step, Token, attributes};

/// The tokens of all mutators so far.
#[derive(Default)]
pub(crate) struct ExpectedTokens {
    tokens: BTreeMap<i64, Entry>,
    /// The step that each worker of the running mutator has started.
    started_steps: BTreeMap<u32, Step>,
    pub(crate) acknowledged: usize,
    /// Steps that were stored without an acknowledgement.
    pub(crate) unacknowledged: usize,
    /// Steps that were started and not stored.
    pub(crate) not_stored: usize,
    /// The errors at which workers stopped.
    pub(crate) errors: Vec<String>,
}

#[derive(Clone)]
struct Entry {
    /// The token, unless it was deleted.
    token: Option<Token>,
    /// The number of changes, creation and deletion included.
    changes: usize,
}

impl ExpectedTokens {
    pub(crate) fn record(&mut self, line: &str) {
        match serde_json::from_str(line).unwrap() {
            MutatorMessage::Started { worker, step } => {
                let before = self.started_steps.insert(worker, step);
                assert!(before.is_none(), "a worker started two steps");
            }
            MutatorMessage::Completed { worker, token } => {
                let step = self
                    .started_steps
                    .remove(&worker)
                    .expect("a completed step was started before");
                self.acknowledged += 1;
                self.apply(&step, token);
            }
            MutatorMessage::GaveUp { error } => self.errors.push(error),
        }
    }

    fn apply(&mut self, step: &Step, token: Option<Token>) {
        let before = self.before(step);
        assert!(
            is_result_of(before.as_ref(), step, token.as_ref()),
            "{step:?} was acknowledged with another result"
        );
        let id = token.as_ref().or(before.as_ref()).unwrap().id;
        let changes = self.tokens.get(&id).map_or(0, |entry| entry.changes) + 1;
        self.tokens.insert(id, Entry { token, changes });
    }

    fn before(&self, step: &Step) -> Option<Token> {
        let (Step::Update { id, .. }
        | Step::Rotate { id, .. }
        | Step::Revoke { id }
        | Step::Delete { id }) = step
        else {
            return None;
        };
        self.tokens.get(id)?.token.clone()
    }

    /// Asserts that every acknowledged step is stored, and that each other started step is stored
    /// completely or not at all. A stored step counts as expected from then on.
    pub(crate) async fn check(&mut self, database: &TestDatabase) {
        let tables = database.tables().await;
        tables.check_integrity().await;
        let stored = stored(&*database.open().await).await;
        for step in mem::take(&mut self.started_steps).into_values() {
            let after = match &step {
                Step::Create { name } => stored.values().find(|token| token.name == *name),
                _ => self.before(&step).and_then(|it| stored.get(&it.id)),
            };
            let is_stored = after != self.before(&step).as_ref();
            if is_stored {
                self.unacknowledged += 1;
                // Asserts that the stored token is the complete result of the step.
                self.apply(&step, after.cloned());
            } else {
                self.not_stored += 1;
            }
        }
        for (id, entry) in &self.tokens {
            let matches = stored.get(id) == entry.token.as_ref();
            assert!(matches, "token {id} differs from its acknowledged state");
        }
        let existing = self.tokens.values().filter(|entry| entry.token.is_some());
        assert_eq!(
            stored.len(),
            existing.count(),
            "the database has tokens that no step created"
        );

        let mut stored_attributes: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        let statement = "SELECT token_id, kind, value FROM service_token_attributes";
        for (id, kind, value) in tables.rows(statement).await {
            stored_attributes.entry(id).or_default().push((kind, value));
        }
        for attributes in stored_attributes.values_mut() {
            attributes.sort_unstable();
        }
        let expected = stored.iter().map(|(id, it)| (*id, it.attributes.clone()));
        assert!(
            stored_attributes == expected.collect(),
            "the rows of attributes differ"
        );

        let changes: BTreeMap<_, _> = self.changes().collect();
        let statement = "SELECT token_id, COUNT(*), '' FROM service_token_events GROUP BY token_id";
        let events = tables.rows(statement).await.into_iter();
        let events: BTreeMap<_, _> = events.map(|(id, count, _)| (id, count)).collect();
        assert!(events == changes, "the audit trail differs");
        if !database.is_postgres() {
            let statement = "SELECT seq, seq, change FROM service_token_changes";
            let mut counted = BTreeMap::new();
            for (_, _, change) in tables.rows(statement).await {
                let id = change.split(' ').next().unwrap().parse().unwrap();
                *counted.entry(id).or_insert(0) += 1;
            }
            assert!(counted == changes, "the change log differs");
        }
    }

    fn changes(&self) -> impl Iterator<Item = (i64, i64)> {
        let entries = self.tokens.iter();
        entries.map(|(id, entry)| (*id, i64::try_from(entry.changes).unwrap()))
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "{} changes acknowledged, {} stored without acknowledgement, {} not stored; {} tokens",
            self.acknowledged,
            self.unacknowledged,
            self.not_stored,
            self.tokens.len()
        )
    }
}

/// Returns whether the step turns `before` into `after` and changes nothing else.
fn is_result_of(before: Option<&Token>, step: &Step, after: Option<&Token>) -> bool {
    let expected = match (before, step, after) {
        (None, Step::Create { name }, Some(after)) => Token {
            id: after.id,
            revision: 1,
            is_revoked: false,
            name: name.clone(),
            digest: after.digest.clone(),
            previous: None,
            update: Some("update 0".to_owned()),
            attributes: attributes(0),
        },
        (Some(before), Step::Update { number, .. }, Some(_)) => Token {
            revision: before.revision + 1,
            update: Some(format!("update {number}")),
            attributes: attributes(*number),
            ..before.clone()
        },
        (Some(before), Step::Rotate { has_grace, .. }, Some(after)) => {
            if after.digest == before.digest {
                return false;
            }
            Token {
                revision: before.revision + 1,
                digest: after.digest.clone(),
                previous: has_grace.then(|| before.digest.clone()),
                ..before.clone()
            }
        }
        (Some(before), Step::Revoke { .. }, Some(_)) => Token {
            revision: before.revision + 1,
            is_revoked: true,
            ..before.clone()
        },
        (Some(before), Step::Delete { .. }, None) => return before.is_revoked,
        _ => return false,
    };
    after == Some(&expected)
}

/// Lists all stored tokens by id.
async fn stored(registry: &dyn TokenRegistry) -> BTreeMap<i64, Token> {
    let now = std::time::SystemTime::now();
    let mut request = ListRequest::new(TokenFilter::new(), now).with_limit(ListRequest::MAX_LIMIT);
    let mut all = BTreeMap::new();
    loop {
        let page = registry.list(&request).await.unwrap();
        for record in &page.records {
            let token = Token::from_record(record);
            all.insert(token.id, token);
        }
        match page.next {
            Some(next) => request = request.with_cursor(next).unwrap(),
            None => return all,
        }
    }
}
