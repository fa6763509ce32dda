//! Reads digests of tokens from a file and reloads it when it changes.
//!
//! Run `cargo run --example file_store --features file`, then paste the commands that it prints.
//! The first run writes the file with the digest of a new token and prints the token once. Later
//! runs read the file.
//!
//! The file is `tokens.toml` in a directory for temporary files, or the path in `TOKENS_FILE`. The
//! server listens on port 8080, or on `PORT`; `PORT=0` selects a free port.

use std::env;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::file::FileStore;
use tower_service_token::store::{ChangeListener, TokenChange};
use tower_service_token::token::{MintedToken, TokenFormat};
use tower_service_token::{Principal, ServiceTokenLayer, TokenStore};

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("file_store: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let path = tokens_file()?;
    let minted = first_token(&path)?;
    // A missing or invalid file prevents the start: the server never runs with only some of the tokens.
    let store = FileStore::open(&path)?;
    let listener: Arc<dyn ChangeListener> = Arc::new(PrintReloads(store.clone()));
    store.subscribe(&listener);

    let app = Router::new()
        .route("/hello", get(hello))
        .route_layer(ServiceTokenLayer::new(store.clone()))
        .route("/healthz", get(health).with_state(store));
    let port = env::var("PORT").ok().filter(|port| !port.is_empty());
    let port = port.unwrap_or_else(|| "8080".to_owned());
    let socket = TcpListener::bind(format!("127.0.0.1:{port}"))
        .await
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))?;

    let mut out = io::stdout();
    let url = format!("http://{}", socket.local_addr()?);
    writeln!(out, "file: {}", path.display())?;
    if let Some(minted) = minted {
        let token = minted.expose_secret();
        writeln!(out, "token: {token}")?;
        writeln!(
            out,
            r#"curl -H "Authorization: ApiKey {token}" {url}/hello"#
        )?;
    }
    writeln!(out, "curl {url}/healthz")?;
    // The command writes a temporary file with the same mode and renames it over the file.
    let file = path.display();
    writeln!(
        out,
        r#"cp -p '{file}' '{file}.new' && sed 's/"active"/"revoked"/' '{file}' > '{file}.new' && mv '{file}.new' '{file}'"#
    )?;
    out.flush()?;
    axum::serve(socket, app).await?;
    Ok(())
}

/// Prints that a new version of the file is in use.
struct PrintReloads(FileStore);

impl ChangeListener for PrintReloads {
    fn changed(&self, _: &TokenChange) {
        let tokens = self.0.status().tokens();
        // This runs on the thread that watches the file. It ignores the error of a closed stdout.
        let _ = writeln!(io::stdout(), "reloaded: {tokens} in the file");
    }
}

async fn hello(principal: Principal) -> String {
    format!("hello, {}\n", principal.name())
}

/// Reports an invalid file. The last valid version stays in use until an operator fixes the file.
async fn health(State(store): State<FileStore>) -> (StatusCode, String) {
    let status = store.status();
    match status.error() {
        None => (
            StatusCode::OK,
            format!("ok, {} in the file\n", status.tokens()),
        ),
        Some(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn tokens_file() -> io::Result<PathBuf> {
    if let Some(path) = env::var_os("TOKENS_FILE").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let name = format!("tower-service-token-{}", std::process::id());
    let directory = env::temp_dir().join(name);
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&directory)?;
    Ok(directory.join("tokens.toml"))
}

/// Writes a file with one token unless the file exists.
fn first_token(path: &Path) -> Result<Option<MintedToken>, Box<dyn Error>> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(format!("cannot write {}: {error}", path.display()).into()),
    };
    let token = TokenFormat::default().mint()?;
    let digest = TokenDigest::of(token.expose_secret());
    writeln!(file, "[[tokens]]")?;
    writeln!(file, "name = \"ci\"")?;
    writeln!(file, "id = \"{}\"", token.id())?;
    writeln!(file, "digest = \"{digest}\"")?;
    writeln!(file, "roles = [\"deployer\"]")?;
    writeln!(file, "state = \"active\"")?;
    Ok(Some(token))
}
