//! Limits the memory that the lists of the dialects use with SQLite, over TCP.
//!
//! This is a separate test binary because it measures the memory of its process.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::Router;
use sqlx::{Connection, SqliteConnection};
use tests::api_fixture::ApiFixture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_service_token::MemoryStore;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::api::stackstate::StackStateApi;
use tower_service_token::store::sql::SqliteStore;

/// Each list, with text that occurs once per token.
const LISTS: [(&str, &str); 3] = [
    ("/api/security/tokens", "\"roles\":"),
    ("/api/v1/service-account-tokens", "\"uuid\":"),
    (
        "/api/v1/service-account-tokens?workspace_uuid=default",
        "\"uuid\":",
    ),
];

/// The maximum growth of the process while it serves lists, in MiB. A list that is held in memory
/// takes 6 KiB per token, which is 120 MiB for 20,000 tokens.
const MAX_GROWTH: u64 = 32;

/// Returns statements that create this many tokens. Every second token has the default workspace as
/// a label.
fn rows(count: usize) -> String {
    let numbers = format!(
        "WITH RECURSIVE numbers (n) AS \
         (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) SELECT n FROM numbers"
    );
    format!(
        "INSERT INTO service_tokens (id, digest, state, name, subject, roles, scopes, labels, \
         created_at, revision) \
         SELECT n, CAST(printf('%032d', n) AS BLOB), 0, 'name ' || n, 'subject ' || n, \
         '[\"deployer\",\"auditor\"]', '[\"projects:read\",\"projects:write\"]', \
         CASE WHEN n % 2 = 0 THEN '{{\"workspace\":\"default\"}}' ELSE '{{}}' END, n * 10, 0 \
         FROM ({numbers}) AS numbers; \
         INSERT INTO service_token_attributes (kind, value, listed_at, token_id) \
         SELECT 3, '[\"workspace\",\"default\"]', n * 10, n FROM ({numbers}) AS numbers \
         WHERE n % 2 = 0;"
    )
}

struct Server {
    folder: PathBuf,
    managed: ApiFixture,
    address: SocketAddr,
}

impl Server {
    async fn with(tokens: usize) -> Self {
        let folder = format!("list-memory-{}-{tokens}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("tokens.db");
        let store = SqliteStore::open(&path).await.unwrap();
        let mut connection = SqliteConnection::connect(path.to_str().unwrap())
            .await
            .unwrap();
        let rows = sqlx::AssertSqlSafe(rows(tokens));
        sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let managed = ApiFixture::new(MemoryStore::new(), store).await;
        let stackstate = StackStateApi::new(managed.tokens.clone(), managed.layer.clone());
        let pipeops = PipeOpsApi::new(managed.tokens.clone(), managed.layer.clone());
        let app: Router = Router::new()
            .nest("/api", stackstate.into_router())
            .merge(pipeops.into_router());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            folder,
            managed,
            address,
        }
    }

    /// Counts the occurrences of `pattern` in the response, without keeping the response in memory.
    async fn count(&self, target: &str, pattern: &str) -> usize {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let token = self.managed.admin.expose_secret();
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: a\r\nx-api-key: {token}\r\nconnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let (mut count, mut pending, mut buffer) = (0, Vec::new(), vec![0; 16 * 1024]);
        loop {
            let read = socket.read(&mut buffer).await.unwrap();
            if read == 0 {
                assert!(pending.ends_with(b"0\r\n\r\n"), "the list was aborted");
                return count;
            }
            pending.extend_from_slice(&buffer[..read]);
            let text = std::str::from_utf8(&pending).expect("only ASCII");
            count += text.matches(pattern).count();
            // The pattern may continue in the next read.
            pending.drain(..pending.len().saturating_sub(pattern.len() - 1));
        }
    }

    /// Reads every list `times` times concurrently. Returns the duration.
    async fn read_lists(&self, tokens: usize, times: usize) -> Duration {
        let start = Instant::now();
        let lists = LISTS
            .repeat(times)
            .into_iter()
            .map(async |(target, pattern)| {
                assert_eq!(self.count(target, pattern).await, tokens, "{target}");
            });
        futures::future::join_all(lists).await;
        start.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns the value of a line of the status of this process, in KiB.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    let number = found.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

async fn assert_memory_is_bounded(tokens: usize, times: usize) {
    let server = Server::with(tokens).await;
    // Resets the peak, so that it covers the lists only.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = memory("VmRSS:");
    let elapsed = server.read_lists(tokens, times).await;
    let growth = memory("VmHWM:").saturating_sub(before) / 1024;
    println!(
        "{times} times {} lists of {tokens} tokens in {elapsed:.1?}, memory +{growth} MiB",
        LISTS.len()
    );
    assert!(growth <= MAX_GROWTH, "{growth} MiB");
}

#[tokio::test]
async fn list_memory_is_bounded() {
    assert_memory_is_bounded(20_000, 1).await;
}

/// Only `.ci/long` runs this test, which also prints the measurements.
#[tokio::test]
#[ignore = "takes a minute; .ci/long runs it"]
async fn list_memory_is_bounded_for_200_000_tokens() {
    assert_memory_is_bounded(200_000, 2).await;
}
