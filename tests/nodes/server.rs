//! A node: a protected route, and commands on stdin that manage its tokens.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{NewToken, TokenUpdate};
use tower_service_token::registry::TokenRegistry;
use tower_service_token::store::{Cached, CachedStore, Credential};
use tower_service_token::token::{PresentedToken, TokenId};
use tower_service_token::{Principal, ServiceTokenLayer, ServiceTokens, TokenStore};

use crate::process_config::{ProcessConfig, print_line, stdin_lines};

type Outcome = Result<String, Box<dyn Error>>;

/// Prints its address. Prints one line for each command, which starts with `ok` or `error`.
pub(crate) async fn serve(process_config: ProcessConfig) {
    let store = CachedStore::new(process_config.open().await)
        .with_ttl(process_config.ttl)
        .with_negative_ttl(process_config.negative_ttl);
    let tokens = ServiceTokens::new(store.clone());
    let app = Router::new()
        .route("/whoami", get(whoami))
        .route_layer(ServiceTokenLayer::new(store.clone()));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    print_line(&listener.local_addr().unwrap().to_string());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let mut commands = stdin_lines();
    while let Some(command) = commands.recv().await {
        let outcome = run_command(&tokens, &store, &command).await;
        print_line(&match outcome {
            Ok(output) => format!("ok {output}"),
            Err(error) => format!("error {error}: {:?}", error.source()),
        });
    }
}

async fn whoami(principal: Principal) -> String {
    let roles: Vec<_> = principal.roles().iter().collect();
    roles.join(",")
}

async fn run_command<S: TokenStore>(
    tokens: &ServiceTokens,
    store: &CachedStore<S>,
    command: &str,
) -> Outcome
where
    CachedStore<S>: TokenRegistry,
{
    let arguments: Vec<&str> = command.split(' ').collect();
    let changed = match arguments[..] {
        ["create", name, roles] => {
            let issued = tokens.create(new_token(name, roles)).await?;
            return Ok(format!(
                "{} {}",
                issued.record().id(),
                issued.expose_secret()
            ));
        }
        ["import", name, roles, secret] => {
            let digest = TokenDigest::of(secret);
            let record = tokens.import(new_token(name, roles), digest).await?;
            return Ok(record.id().to_string());
        }
        ["rotate", id, grace] => {
            let grace = Duration::from_millis(grace.parse()?);
            let issued = tokens.rotate(parse_id(id)?, grace).await?;
            return Ok(issued.expose_secret().to_owned());
        }
        // Whether the cache has an entry that accepts this token.
        ["is_cached", secret] => {
            let credential = Credential::new(PresentedToken::new(secret).ok_or("not a token")?);
            let is_cached = matches!(store.find_cached(&credential), Cached::Found(_));
            return Ok(is_cached.to_string());
        }
        ["revoke", id] => tokens.revoke(parse_id(id)?).await?,
        ["disable", id] => tokens.disable(parse_id(id)?).await?,
        ["enable", id] => tokens.enable(parse_id(id)?).await?,
        ["roles", id, roles] => {
            let update = TokenUpdate::new().with_roles(roles.split(','));
            tokens.update(parse_id(id)?, update).await?
        }
        _ => return Err(format!("unknown command '{command}'").into()),
    };
    Ok(changed.effective_within.as_millis().to_string())
}

fn new_token(name: &str, roles: &str) -> NewToken {
    NewToken::new(name).with_roles(roles.split(','))
}

fn parse_id(text: &str) -> Result<TokenId, Box<dyn Error>> {
    Ok(text.parse()?)
}
