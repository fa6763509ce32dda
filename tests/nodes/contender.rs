//! A process that changes what another one changes at the same time.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tower_service_token::ServiceTokens;
use tower_service_token::lifecycle::{LifecycleError, NewToken, Policy, TokenUpdate};
use tower_service_token::token::TokenId;

use crate::orders::{Orders, Role, heard, say};

pub(crate) const WORKERS: usize = 2;

/// How many labels each worker gives to each of the tokens that all share.
pub(crate) const LABELS: usize = 8;

/// How many names all try to take, each name once in each process.
pub(crate) const NAMES: usize = 20;

/// What was acknowledged.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Tokens that were created, and whether they were revoked.
    pub(crate) created: Vec<(i64, bool)>,
    /// Labels that shared tokens were given.
    pub(crate) labels: Vec<(i64, String)>,
    /// Names that were taken here.
    pub(crate) names: Vec<String>,
}

/// Says that it is ready, and that it is done, and is told to go on by anything it hears.
pub(crate) async fn run(orders: &Orders) {
    let Role::Contender { name, shared } = &orders.role else {
        unreachable!("these orders are for others");
    };
    let shared = shared.iter().map(|id| TokenId::from_i64(*id).unwrap());
    let shared: Arc<[TokenId]> = shared.collect();
    let tokens = ServiceTokens::new(orders.open().await);
    let mut told = heard();
    say("ready");
    told.recv().await.expect("the test is there");

    let workers = (0..WORKERS).map(|number| {
        let (tokens, shared) = (tokens.clone(), Arc::clone(&shared));
        tokio::spawn(contend(tokens, format!("{name}-{number}"), shared))
    });
    let mut account = Account::default();
    for done in futures::future::join_all(workers).await {
        let done = done.unwrap().unwrap();
        account.created.extend(done.created);
        account.labels.extend(done.labels);
    }
    account.names = take_names(&tokens).await.unwrap();

    // A revocation is final, so it comes when nobody has anything else to do.
    say("done");
    told.recv().await.expect("the test is there");
    for id in shared.iter() {
        tokens.revoke(*id).await.unwrap();
    }
    say(&serde_json::to_string(&account).unwrap());
}

async fn contend(
    tokens: ServiceTokens,
    name: String,
    shared: Arc<[TokenId]>,
) -> Result<Account, LifecycleError> {
    let mut account = Account::default();
    for number in 0..LABELS {
        for id in &*shared {
            let label = format!("{name}-{number}");
            let update = TokenUpdate::new().with_label(&*label, "given");
            tokens.update(*id, update).await?;
            account.labels.push((id.as_i64(), label));
        }
        let new = NewToken::new(format!("{name}-{number}")).with_roles(["contender"]);
        let id = tokens.create(new).await?.record().id();
        let is_revoked = number % 2 == 0;
        if is_revoked {
            tokens.revoke(id).await?;
        }
        account.created.push((id.as_i64(), is_revoked));
    }
    Ok(account)
}

async fn take_names(tokens: &ServiceTokens) -> Result<Vec<String>, LifecycleError> {
    let tokens = tokens
        .clone()
        .with_policy(Policy::new().with_unique_names());
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
