//! A process that changes the same tokens as another process, at the same time.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tower_service_token::ServiceTokens;
use tower_service_token::lifecycle::{LifecycleError, NewToken, TokenPolicy, TokenUpdate};
use tower_service_token::token::TokenId;

use crate::process_config::{ProcessConfig, Role, print_line, stdin_lines};

pub(crate) const WORKERS: usize = 2;

/// How many labels each worker sets on each shared token.
pub(crate) const LABELS: usize = 8;

/// How many unique names each process tries to use, once each.
pub(crate) const NAMES: usize = 20;

/// The acknowledged changes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ContenderReport {
    /// The created tokens, and whether each was revoked.
    pub(crate) created: Vec<(i64, bool)>,
    /// The labels that were set on shared tokens.
    pub(crate) labels: Vec<(i64, String)>,
    /// The unique names that this process used.
    pub(crate) names: Vec<String>,
}

/// Prints `ready` and `done`, and continues after each when it reads a line from stdin.
pub(crate) async fn run(process_config: &ProcessConfig) {
    let Role::Contender { name, shared } = &process_config.role else {
        unreachable!("this configuration has another role");
    };
    let shared = shared.iter().map(|id| TokenId::from_i64(*id).unwrap());
    let shared: Arc<[TokenId]> = shared.collect();
    let tokens = ServiceTokens::new(process_config.open().await);
    let mut lines = stdin_lines();
    print_line("ready");
    lines
        .recv()
        .await
        .expect("stdin is open until the test ends");

    let workers = (0..WORKERS).map(|number| {
        let (tokens, shared) = (tokens.clone(), Arc::clone(&shared));
        tokio::spawn(run_worker(tokens, format!("{name}-{number}"), shared))
    });
    let mut report = ContenderReport::default();
    for worker_report in futures::future::join_all(workers).await {
        let worker_report = worker_report.unwrap().unwrap();
        report.created.extend(worker_report.created);
        report.labels.extend(worker_report.labels);
    }
    report.names = create_unique_names(&tokens).await.unwrap();

    // A revoked token accepts no further changes.
    print_line("done");
    lines
        .recv()
        .await
        .expect("stdin is open until the test ends");
    for id in shared.iter() {
        tokens.revoke(*id).await.unwrap();
    }
    print_line(&serde_json::to_string(&report).unwrap());
}

async fn run_worker(
    tokens: ServiceTokens,
    name: String,
    shared: Arc<[TokenId]>,
) -> Result<ContenderReport, LifecycleError> {
    let mut report = ContenderReport::default();
    for number in 0..LABELS {
        for id in &*shared {
            let label = format!("{name}-{number}");
            let update = TokenUpdate::new().with_label(&*label, "given");
            tokens.update(*id, update).await?;
            report.labels.push((id.as_i64(), label));
        }
        let new = NewToken::new(format!("{name}-{number}")).with_roles(["contender"]);
        let id = tokens.create(new).await?.record().id();
        let is_revoked = number % 2 == 0;
        if is_revoked {
            tokens.revoke(id).await?;
        }
        report.created.push((id.as_i64(), is_revoked));
    }
    Ok(report)
}

async fn create_unique_names(tokens: &ServiceTokens) -> Result<Vec<String>, LifecycleError> {
    let tokens = tokens
        .clone()
        .with_policy(TokenPolicy::new().require_unique_names());
    let mut names = Vec::new();
    for number in 0..NAMES {
        let name = format!("unique-{number}");
        match tokens.create(NewToken::new(&*name)).await {
            Ok(_) => names.push(name),
            Err(LifecycleError::NameTaken) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}
