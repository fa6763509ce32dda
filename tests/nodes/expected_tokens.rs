//! The acknowledgements of mutators, compared with the contents of a database.

use std::collections::BTreeMap;
use std::mem;

use tower_service_token::registry::{ListRequest, TokenFilter, TokenRegistry};

use crate::database::TestDatabase;
use crate::mutator::{MutatorMessage, Step, Token, attributes};

/// Every token of every mutator so far.
#[derive(Default)]
pub(crate) struct ExpectedTokens {
    tokens: BTreeMap<i64, Entry>,
    /// What each worker of the running mutator has begun.
    begun: BTreeMap<u32, Step>,
    pub(crate) acknowledged: usize,
    /// Steps that were made without an acknowledgement.
    pub(crate) unacknowledged: usize,
    /// Steps that were begun and not done at all.
    pub(crate) undone: usize,
    /// Why workers gave up.
    pub(crate) errors: Vec<String>,
}

#[derive(Clone)]
struct Entry {
    /// The token, unless it was deleted.
    token: Option<Token>,
    /// How often it was changed, creation and deletion included.
    changes: usize,
}

impl ExpectedTokens {
    pub(crate) fn record(&mut self, line: &str) {
        match serde_json::from_str(line).unwrap() {
            MutatorMessage::Begun { worker, step } => {
                let before = self.begun.insert(worker, step);
                assert!(before.is_none(), "a step has no end");
            }
            MutatorMessage::Done { worker, token } => {
                let step = self.begun.remove(&worker).expect("a step has a beginning");
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
            "{step:?} was acknowledged with something else"
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

    /// Everything that was acknowledged is there, and of what was only begun all or nothing. From
    /// here on that is what was done.
    pub(crate) async fn check(&mut self, database: &TestDatabase) {
        let tables = database.tables().await;
        tables.check_integrity().await;
        let stored = stored(&*database.open().await).await;
        for step in mem::take(&mut self.begun).into_values() {
            let after = match &step {
                Step::Create { name } => stored.values().find(|token| token.name == *name),
                _ => self.before(&step).and_then(|it| stored.get(&it.id)),
            };
            let is_undone = after == self.before(&step).as_ref();
            if is_undone {
                self.undone += 1;
            } else {
                self.unacknowledged += 1;
                // Asserts that this is the step, and all of it.
                self.apply(&step, after.cloned());
            }
        }
        for (id, entry) in &self.tokens {
            let same = stored.get(id) == entry.token.as_ref();
            assert!(same, "token {id} is not as it was acknowledged");
        }
        let known = self.tokens.values().filter(|entry| entry.token.is_some());
        assert_eq!(stored.len(), known.count(), "tokens that nobody created");

        let mut kept: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        let statement = "SELECT token_id, kind, value FROM service_token_attributes";
        for (id, kind, value) in tables.rows(statement).await {
            kept.entry(id).or_default().push((kind, value));
        }
        for attributes in kept.values_mut() {
            attributes.sort_unstable();
        }
        let expected = stored.iter().map(|(id, it)| (*id, it.attributes.clone()));
        assert!(kept == expected.collect(), "rows of attributes differ");

        let changes: BTreeMap<_, _> = self.changes().collect();
        let statement = "SELECT token_id, COUNT(*), '' FROM service_token_events GROUP BY token_id";
        let events = tables.rows(statement).await.into_iter();
        let events: BTreeMap<_, _> = events.map(|(id, count, _)| (id, count)).collect();
        assert!(events == changes, "the audit trail differs");
        if !database.is_postgres() {
            let statement = "SELECT seq, seq, change FROM service_token_changes";
            let mut logged = BTreeMap::new();
            for (_, _, change) in tables.rows(statement).await {
                let id = change.split(' ').next().unwrap().parse().unwrap();
                *logged.entry(id).or_insert(0) += 1;
            }
            assert!(logged == changes, "the log of changes differs");
        }
    }

    fn changes(&self) -> impl Iterator<Item = (i64, i64)> {
        let entries = self.tokens.iter();
        entries.map(|(id, entry)| (*id, i64::try_from(entry.changes).unwrap()))
    }

    pub(crate) fn show(&self) -> String {
        format!(
            "{} changes acknowledged, {} done without, {} not done; {} tokens",
            self.acknowledged,
            self.unacknowledged,
            self.undone,
            self.tokens.len()
        )
    }
}

/// Whether the step makes one of the other, and changes nothing else.
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

/// All tokens, by their ids.
async fn stored(registry: &dyn TokenRegistry) -> BTreeMap<i64, Token> {
    let now = std::time::SystemTime::now();
    let mut request = ListRequest::new(TokenFilter::new(), now).with_limit(ListRequest::MAX_LIMIT);
    let mut all = BTreeMap::new();
    loop {
        let page = registry.list(&request).await.unwrap();
        for record in &page.records {
            let token = Token::of(record);
            all.insert(token.id, token);
        }
        match page.next {
            Some(next) => request = request.with_cursor(next).unwrap(),
            None => return all,
        }
    }
}
