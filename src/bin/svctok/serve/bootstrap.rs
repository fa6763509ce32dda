//! The first token of a store, which can make all others.
//!
//! 1. A store is empty if it lists no token at all. One whose tokens are all revoked is not: nobody
//!    gets in there by starting the service anew. An empty store that had an administrator before, or
//!    another one than the last time, is refused, unless `--bootstrap` confirms it.
//! 2. Of several processes that find a store empty one mints: a token is added only where none is
//!    that works, in one step of the store.
//! 3. A token that is to be in a file is there, synced, before the store knows it: a failure leaves
//!    no token that nobody knows, and at worst a file whose token does not work.
//! 4. The token of the line on stdout is taken back if the line cannot be written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tower_service_token::store::{
    AuditAction, AuditEvent, AuditSink, FieldChange, RegistryError, TokenRecord, TracingAudit,
    Write,
};
use tower_service_token::token::{MintedToken, TokenFormat};

use super::first_start::{Found, is_empty};
use super::marker::Marker;
use crate::failure::{Failure, FailureKind};
use crate::output;
use crate::store_handle::StoreHandle;

const NAME: &str = "administrator";

const SCOPES: [&str; 2] = ["service-tokens:admin", "introspect"];

/// Who made it, for the audit trail.
const ACTOR: &str = "operator:svctok serve";

/// How long another process may take from its file to its token.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a reader of stdout may take to make room for the token.
const STDOUT_TIMEOUT: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(50);

/// What a first token depends on.
pub(super) struct Bootstrap<'a> {
    /// Where the token is written, if not to stdout.
    pub(super) file: Option<&'a Path>,
    /// Of a SQLite database.
    pub(super) marker: Option<&'a Marker>,
    /// Whether a store that lost its tokens gets an administrator too.
    pub(super) is_confirmed: bool,
}

/// Mints the administrator's token if the store is new, and shows it on stdout or in the file.
pub(super) async fn bootstrap(
    store: &Arc<dyn StoreHandle>,
    bootstrap: &Bootstrap<'_>,
) -> Result<(), Failure> {
    let found = Found::read(&**store, bootstrap.marker).await?;
    found.check(bootstrap.is_confirmed)?;
    if found.is_empty() {
        mint(store, bootstrap.file).await?;
    }
    found.record(&**store, bootstrap.marker).await;
    Ok(())
}

async fn mint(store: &Arc<dyn StoreHandle>, file: Option<&Path>) -> Result<(), Failure> {
    let minted = TokenFormat::default().mint();
    let secret =
        minted.map_err(|error| Failure::of(FailureKind::Refused, "cannot mint a token", &error))?;
    match file {
        Some(file) => in_file(store, &secret, file).await,
        None => on_stdout(store, &secret).await,
    }
}

async fn in_file(
    registry: &Arc<dyn StoreHandle>,
    secret: &MintedToken,
    path: &Path,
) -> Result<(), Failure> {
    let cannot = |error: &io::Error| {
        let tried = format!("cannot write the bootstrap token to {}", path.display());
        Failure::of(FailureKind::Refused, tried, error)
    };
    let file = match create(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return others_token(registry, path).await;
        }
        Err(error) => return Err(cannot(&error)),
    };
    let withdraw = || {
        let removed = fs::remove_file(path);
        if let Err(error) = removed {
            tracing::error!(%error, file = %path.display(), "cannot remove a file without use");
        }
    };
    if let Err(error) = write(file, secret) {
        withdraw();
        return Err(cannot(&error));
    }
    match insert(registry, secret).await {
        Ok(true) => {
            tracing::info!(file = %path.display(), token_id = %secret.id(), "minted the administrator's token");
            Ok(())
        }
        Ok(false) => {
            withdraw();
            Ok(())
        }
        // It is there if the store has the token after all.
        Err(error) => Err(unknown(&error).with_hint(format!(
            "start again; if that fails because {} exists, remove it",
            path.display()
        ))),
    }
}

/// The file is there: another process has just made it, or it is not for us to overwrite.
async fn others_token(registry: &Arc<dyn StoreHandle>, path: &Path) -> Result<(), Failure> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if !is_empty(&**registry).await? {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    let message = format!(
        "{} exists, and the store has no token to which it could belong",
        path.display()
    );
    Err(Failure::refused(message).with_hint("remove the file, or name another one"))
}

async fn on_stdout(registry: &Arc<dyn StoreHandle>, secret: &MintedToken) -> Result<(), Failure> {
    let inserted = insert(registry, secret).await;
    if let Ok(false) = inserted {
        return Ok(());
    }
    let line = format!("bootstrap token: {}", secret.expose_secret());
    let shown = spawn_blocking(move || output::print_within(STDOUT_TIMEOUT, &line)).await;
    let shown = shown.unwrap_or_else(|error| Err(error.into()));
    match (inserted, shown) {
        (Err(error), _) => Err(unknown(&error).with_hint("start again")),
        (Ok(_), Ok(())) => {
            tracing::info!(token_id = %secret.id(), "minted the administrator's token");
            Ok(())
        }
        (Ok(_), Err(error)) => {
            let write = Write::new(record(secret), event(AuditAction::Purged, secret));
            let deleted = registry.delete(&write).await;
            deleted.map_err(|error| unknown(&error))?;
            TracingAudit.record(write.event());
            let tried = "cannot show the bootstrap token, which was taken back";
            Err(Failure::of(FailureKind::Refused, tried, &error))
        }
    }
}

/// `false` if another process was faster.
async fn insert(
    registry: &Arc<dyn StoreHandle>,
    secret: &MintedToken,
) -> Result<bool, RegistryError> {
    let event = [("name", NAME.to_owned()), ("scopes", SCOPES.join(" "))]
        .into_iter()
        .fold(
            event(AuditAction::Created, secret),
            |event, (field, value)| {
                event.with_change(FieldChange {
                    field: field.into(),
                    before: None,
                    after: Some(value),
                })
            },
        );
    let write = Write::new(record(secret), event).with_max_tokens(1);
    match registry.insert(&write).await {
        Ok(()) => {
            TracingAudit.record(write.event());
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

fn unknown(error: &RegistryError) -> Failure {
    let tried = "it is not known whether the store has the bootstrap token";
    Failure::of(FailureKind::Unreachable, tried, error)
}

/// For its owner alone, and never one that is there.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn write(mut file: File, secret: &MintedToken) -> io::Result<()> {
    file.write_all(secret.expose_secret().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}
