//! A process that creates and changes tokens until it is killed.

use std::error::Error;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tower_service_token::ServiceTokens;
use tower_service_token::audit::{AuditAction, AuditEvent};
use tower_service_token::lifecycle::{LifecycleError, NewToken, TokenUpdate};
use tower_service_token::registry::{TokenRegistry, Write};
use tower_service_token::store::{TokenRecord, TokenState};
use tower_service_token::token::TokenId;

use crate::process_config::{ProcessConfig, print_line};

/// How many workers run at the same time. Each changes only tokens that it created.
const WORKERS: u32 = 3;

/// The output of a mutator.
#[derive(Serialize, Deserialize)]
pub(crate) enum MutatorMessage {
    /// A worker starts a step. Whether it is stored is unknown until it is acknowledged.
    Started { worker: u32, step: Step },
    /// The worker's step is acknowledged. Contains the resulting token, or `None` after a deletion.
    Completed { worker: u32, token: Option<Token> },
    /// A worker stopped at an error. The outcome of its last step is unknown.
    GaveUp { error: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    Create { name: String },
    Update { id: i64, number: u32 },
    Rotate { id: i64, has_grace: bool },
    Revoke { id: i64 },
    Delete { id: i64 },
}

/// The fields of a token that the test compares.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) id: i64,
    pub(crate) revision: u64,
    pub(crate) is_revoked: bool,
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) previous: Option<String>,
    /// The description, which names the last update.
    pub(crate) update: Option<String>,
    /// Roles, scopes and labels, each with its kind in the attribute table.
    pub(crate) attributes: Vec<(i64, String)>,
}

impl Token {
    pub(crate) fn from_record(record: &TokenRecord) -> Self {
        let label = |(key, value)| serde_json::to_string(&[key, value]).unwrap();
        let roles = record.roles().iter().map(|role| (1, role.to_owned()));
        let scopes = record.scopes().iter().map(|scope| (2, scope.to_owned()));
        let labels = record.labels().map(|pair| (3, label(pair)));
        let mut attributes: Vec<_> = roles.chain(scopes).chain(labels).collect();
        attributes.sort_unstable();
        Self {
            id: record.id().as_i64(),
            revision: record.revision(),
            is_revoked: record.state() == TokenState::Revoked,
            name: record.name().to_owned(),
            digest: record.digest().to_string(),
            previous: record.previous_digest().map(ToString::to_string),
            update: record.description().map(str::to_owned),
            attributes,
        }
    }
}

/// Returns the attributes that the update with this number writes.
pub(crate) fn attributes(number: u32) -> Vec<(i64, String)> {
    vec![
        (1, "always".to_owned()),
        (1, format!("role-{number}")),
        (2, format!("scope:{number}")),
        (3, format!(r#"["update","{number}"]"#)),
    ]
}

pub(crate) async fn run(process_config: &ProcessConfig) {
    let registry = process_config.open().await;
    let workers = (0..WORKERS).map(|number| {
        let tokens = ServiceTokens::new(registry.clone());
        let registry = registry.clone();
        tokio::spawn(async move {
            let mut worker = Worker { number, tokens };
            loop {
                if let Err(error) = worker.run_token_lifecycle(&*registry).await {
                    let error = format!("{error}: {:?}", error.source());
                    return print_line(
                        &serde_json::to_string(&MutatorMessage::GaveUp { error }).unwrap(),
                    );
                }
            }
        })
    });
    futures::future::join_all(workers).await;
}

struct Worker {
    number: u32,
    tokens: ServiceTokens,
}

impl Worker {
    async fn run_token_lifecycle(
        &mut self,
        registry: &dyn TokenRegistry,
    ) -> Result<(), LifecycleError> {
        let name = format!("token-{}-{:08x}", self.number, getrandom::u32().unwrap());
        self.report_start(Step::Create { name: name.clone() });
        let new = NewToken::new(name)
            .with_description("update 0")
            .with_roles(["always", "role-0"])
            .with_scopes(["scope:0"])
            .with_label("update", "0");
        let record = self.tokens.create(new).await?.record().clone();
        self.report_completion(Some(&record));
        let id = record.id();
        self.update(id, 1).await?;
        self.rotate(id, true).await?;
        self.update(id, 2).await?;
        self.rotate(id, true).await?;
        self.rotate(id, false).await?;
        self.update(id, 3).await?;

        self.report_start(Step::Revoke { id: id.as_i64() });
        let revoked = self.tokens.revoke(id).await?.record;
        self.report_completion(Some(&revoked));
        if getrandom::u32().unwrap().is_multiple_of(2) {
            self.report_start(Step::Delete { id: id.as_i64() });
            let now = SystemTime::now();
            let event = AuditEvent::new(now, "mutator", AuditAction::Purged, id);
            registry.delete(&Write::new(revoked, event)).await?;
            self.report_completion(None);
        }
        Ok(())
    }

    async fn update(&self, id: TokenId, number: u32) -> Result<(), LifecycleError> {
        let step = Step::Update {
            id: id.as_i64(),
            number,
        };
        self.report_start(step);
        let update = TokenUpdate::new()
            .with_description(format!("update {number}"))
            .with_roles(["always".to_owned(), format!("role-{number}")])
            .with_scopes([format!("scope:{number}")])
            .with_label("update", number.to_string());
        self.report_completion(Some(&self.tokens.update(id, update).await?.record));
        Ok(())
    }

    async fn rotate(&self, id: TokenId, has_grace: bool) -> Result<(), LifecycleError> {
        let step = Step::Rotate {
            id: id.as_i64(),
            has_grace,
        };
        self.report_start(step);
        let grace = Duration::from_secs(if has_grace { 3600 } else { 0 });
        self.report_completion(Some(self.tokens.rotate(id, grace).await?.record()));
        Ok(())
    }

    fn report_start(&self, step: Step) {
        let worker = self.number;
        print_line(&serde_json::to_string(&MutatorMessage::Started { worker, step }).unwrap());
    }

    fn report_completion(&self, record: Option<&TokenRecord>) {
        let (worker, token) = (self.number, record.map(Token::from_record));
        print_line(&serde_json::to_string(&MutatorMessage::Completed { worker, token }).unwrap());
    }
}
