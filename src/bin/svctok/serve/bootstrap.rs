//! Mints the first token of a store: the administrator's.
//!
//! 1. A store is empty if it lists no token. Revoked tokens count, so that a restart does not mint
//!    an administrator. `--bootstrap` must confirm an empty store that had an administrator before,
//!    and a store that is not the one of the last start.
//! 2. If several processes find a store empty, one of them mints: the store inserts the token only
//!    if no valid token exists, in one transaction.
//! 3. A token file is written and synced before the token is inserted. A failure leaves no unknown
//!    token, and at worst a file whose token is invalid.
//! 4. A token that cannot be written to stdout is deleted again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tower_service_token::audit::{
    AuditAction, AuditEvent, AuditSink, FieldChange, TracingAuditSink,
};
use tower_service_token::internal::create_private_file;
use tower_service_token::registry::{RegistryError, Write};
use tower_service_token::store::TokenRecord;
use tower_service_token::token::{MintedToken, TokenFormat};

use super::startup_state::{StartupState, is_empty};
use crate::failure::{Failure, FailureKind};
use crate::marker::Marker;
use crate::output;
use crate::store_handle::StoreHandle;

const NAME: &str = "administrator";

const SCOPES: [&str; 2] = ["service-tokens:admin", "introspect"];

/// The actor in the audit trail.
const ACTOR: &str = "operator:svctok serve";

/// How long another process may take from writing its file to inserting its token.
const INSERT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long stdout may block.
const STDOUT_TIMEOUT: Duration = Duration::from_secs(10);

const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Mints the administrator's token if the store is new, and writes it to stdout or the file.
///
/// `marker` is that of a SQLite database. `is_confirmed` is whether `--bootstrap` confirms a store
/// that lost its tokens.
pub(super) async fn bootstrap(
    store: &Arc<dyn StoreHandle>,
    file: Option<&Path>,
    marker: Option<&Marker>,
    is_confirmed: bool,
) -> Result<(), Failure> {
    let found = StartupState::read(&**store, marker).await?;
    found.check(is_confirmed)?;
    if found.is_empty() {
        mint(store, file).await?;
    }
    found.record(&**store, marker).await;
    Ok(())
}

async fn mint(store: &Arc<dyn StoreHandle>, file: Option<&Path>) -> Result<(), Failure> {
    let minted = TokenFormat::default().mint();
    let secret = minted
        .map_err(|error| Failure::context(FailureKind::Rejected, "cannot mint a token", &error))?;
    match file {
        Some(file) => mint_to_file(store, &secret, file).await,
        None => mint_to_stdout(store, &secret).await,
    }
}

async fn mint_to_file(
    registry: &Arc<dyn StoreHandle>,
    secret: &MintedToken,
    path: &Path,
) -> Result<(), Failure> {
    let write_error = |error: &io::Error| {
        let tried = format!("cannot write the bootstrap token to {}", path.display());
        Failure::context(FailureKind::Rejected, tried, error)
    };
    let file = match create_private_file(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return handle_existing_file(registry, path).await;
        }
        Err(error) => return Err(write_error(&error)),
    };
    let remove_file = || {
        let removed = fs::remove_file(path);
        if let Err(error) = removed {
            tracing::error!(%error, file = %path.display(), "cannot remove the file of an invalid token");
        }
    };
    if let Err(error) = write(file, secret) {
        remove_file();
        return Err(write_error(&error));
    }
    match insert(registry, secret).await {
        Ok(true) => {
            tracing::info!(file = %path.display(), token_id = %secret.id(), "minted the administrator's token");
            Ok(())
        }
        Ok(false) => {
            remove_file();
            Ok(())
        }
        // The file stays, because the store may have the token.
        Err(error) => Err(uncertain_insert(&error).with_hint(format!(
            "start again; if that fails because {} exists, remove it",
            path.display()
        ))),
    }
}

/// Handles a file that exists: another process has just written it, or it must not be overwritten.
async fn handle_existing_file(registry: &Arc<dyn StoreHandle>, path: &Path) -> Result<(), Failure> {
    let begun = Instant::now();
    while begun.elapsed() < INSERT_TIMEOUT {
        if !is_empty(&**registry).await? {
            return Ok(());
        }
        sleep(RETRY_INTERVAL).await;
    }
    let message = format!("{} exists, but the store has no token", path.display());
    Err(Failure::rejected(message).with_hint("remove the file, or specify another one"))
}

async fn mint_to_stdout(
    registry: &Arc<dyn StoreHandle>,
    secret: &MintedToken,
) -> Result<(), Failure> {
    let inserted = insert(registry, secret).await;
    if let Ok(false) = inserted {
        return Ok(());
    }
    let line = format!("bootstrap token: {}", secret.expose_secret());
    let shown = spawn_blocking(move || output::print_within(STDOUT_TIMEOUT, &line)).await;
    let shown = shown.unwrap_or_else(|error| Err(error.into()));
    match (inserted, shown) {
        (Err(error), _) => Err(uncertain_insert(&error).with_hint("start again")),
        (Ok(_), Ok(())) => {
            tracing::info!(token_id = %secret.id(), "minted the administrator's token");
            Ok(())
        }
        (Ok(_), Err(error)) => {
            let write = Write::new(record(secret), event(AuditAction::Purged, secret));
            let deleted = registry.delete(&write).await;
            deleted.map_err(|error| uncertain_insert(&error))?;
            TracingAuditSink.record(write.event());
            let tried = "cannot write the bootstrap token to stdout, so it was deleted";
            Err(Failure::context(FailureKind::Rejected, tried, &error))
        }
    }
}

/// Returns `false` if another process inserted its token first.
async fn insert(
    registry: &Arc<dyn StoreHandle>,
    secret: &MintedToken,
) -> Result<bool, RegistryError> {
    let added = |field: &'static str, value: String| FieldChange {
        field: field.into(),
        before: None,
        after: Some(value),
    };
    let event = event(AuditAction::Created, secret)
        .with_change(added("name", NAME.to_owned()))
        .with_change(added("scopes", SCOPES.join(" ")));
    let write = Write::new(record(secret), event).with_max_tokens(1);
    match registry.insert(&write).await {
        Ok(()) => {
            TracingAuditSink.record(write.event());
            Ok(true)
        }
        Err(RegistryError::TooManyTokens) => Ok(false),
        Err(error) => Err(error),
    }
}

fn record(secret: &MintedToken) -> TokenRecord {
    let now = SystemTime::now();
    TokenRecord::from(secret)
        .with_hint(&*TokenFormat::default().hint(secret.id()))
        .with_name(NAME)
        .with_scopes(SCOPES)
        .with_created_at(now)
        .with_created_by(ACTOR)
        .with_updated_at(now)
        .with_revision(1)
}

fn event(action: AuditAction, secret: &MintedToken) -> AuditEvent {
    AuditEvent::new(SystemTime::now(), ACTOR, action, secret.id())
}

fn uncertain_insert(error: &RegistryError) -> Failure {
    let tried = "the bootstrap token may or may not be in the store";
    Failure::context(FailureKind::Unreachable, tried, error)
}

fn write(mut file: File, secret: &MintedToken) -> io::Result<()> {
    file.write_all(secret.expose_secret().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}
