//! The SQL stores against the bare driver, and lists over a million tokens.
//!
//! 1. `lookup`: [`TokenStore::find`] on SQLite and on PostgreSQL, beside the driver's own `SELECT`
//!    of the same columns by digest through the same pool, with the row unread and read. The cases
//!    alternate, for ratios.
//! 2. `cached`: a hit of a [`CachedStore`] in front of each, beside one in front of memory.
//! 3. `lists`: a first and a later page of 50 for every filter, with 10,000 and with 1,000,000
//!    tokens, and the query plans.
//!
//! `-- lookup` runs only the first part, with 10,000 tokens.
//!
//! Without PostgreSQL (installed, or `DATABASE_URL`) its part is skipped with a message. Round
//! trips to a database are too long and too noisy for criterion, so the bench prints medians.

#[path = "support/mode.rs"]
mod mode;
#[path = "support/remote.rs"]
mod remote;
#[path = "support/tables.rs"]
mod tables;

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use benches::results::{Goal, Results, counted};
use test_support::postgres::Postgres;
use tower_service_token::registry::{ListRequest, TokenFilter, TokenRegistry};
use tower_service_token::store::{CachedStore, Credential, TokenStatus};
use tower_service_token::token::MintedToken;
use tower_service_token::{MemoryStore, TokenStore};

use self::remote::Remote;
use self::tables::Tables;

const ROUNDS: usize = 101;
const LOOKUPS: usize = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let sizes: &[i64] = match (mode::is_full_run(), only_lookups()) {
        (true, true) => &[10_000],
        (true, false) => &[10_000, 1_000_000],
        (false, _) => &[200, 400],
    };
    let folder = std::env::temp_dir().join(format!("sql-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder is new");
    let mut filled = Vec::new();
    for size in sizes {
        filled.push(Tables::sqlite(&folder.join(format!("{size}.db")), *size).await);
    }
    let mut results = Results::new("sql");
    report("SQLite", &filled, &mut results).await;
    drop(filled);
    match Postgres::shared() {
        Ok(server) => {
            let (mut filled, mut urls) = (Vec::new(), Vec::new());
            for size in sizes {
                let url = server.create_database().await;
                filled.push(Tables::postgres(&url, *size).await);
                urls.push(url);
            }
            report("PostgreSQL", &filled, &mut results).await;
            drop(filled);
            for url in urls {
                server.drop_database(&url).await;
            }
        }
        Err(reason) => println!("PostgreSQL skipped: {reason}"),
    }
    std::fs::remove_dir_all(&folder).expect("the folder exists");
    results.finish();
}

async fn report(name: &str, filled: &[Tables], results: &mut Results) {
    for tables in filled {
        println!("\n{name}, {} tokens", tables.size);
        lookups(name, tables, results).await;
    }
    if !only_lookups() {
        cached(name, &filled[0], results).await;
        lists(name, filled).await;
    }
}

fn only_lookups() -> bool {
    std::env::args().any(|argument| argument == "lookup")
}

async fn lookups(name: &str, tables: &Tables, results: &mut Results) {
    let credentials: Vec<_> = tables.known.iter().map(credential).collect();
    let rounds = if mode::is_full_run() { ROUNDS } else { 3 };
    let mut times = [const { Vec::new() }; 3];
    for round in 0..rounds {
        let picked = |lookup: usize| &credentials[(round * 7 + lookup) % credentials.len()];
        let start = Instant::now();
        for lookup in 0..LOOKUPS {
            let found = tables.store.find(picked(lookup)).await;
            assert!(found.expect("the store is available").is_some());
        }
        times[0].push(start.elapsed());
        for (times, reads) in times[1..].iter_mut().zip([false, true]) {
            let start = Instant::now();
            for lookup in 0..LOOKUPS {
                tables.bare(picked(lookup).digest().as_bytes(), reads).await;
            }
            times.push(start.elapsed());
        }
    }
    let [find, bare, read] = times.map(|times| micros(median(times)) / 50.0);
    println!(
        "lookup: find {find:.1} us, bare SELECT {bare:.1} us, with its columns read {read:.1} us"
    );
    let size = usize::try_from(tables.size).expect("not negative");
    results.ratio(
        format!(
            "lookup in {name} to the driver's bare `SELECT`, {}",
            counted(size, "token")
        ),
        find / bare,
        Goal::AtMost(1.15),
    );
    println!(
        "ratio find / bare SELECT with its columns read = {:.2}",
        find / read
    );
}

/// A hit does not query the database.
async fn cached(name: &str, tables: &Tables, results: &mut Results) {
    let memory = MemoryStore::new();
    for token in &tables.known {
        let inserted = memory.insert(tower_service_token::store::TokenRecord::from(token));
        inserted.expect("tokens are different");
    }
    let over_sql = CachedStore::new(tables.store.clone()).with_ttl(Duration::from_secs(3600));
    let over_memory = CachedStore::new(Remote(memory)).with_ttl(Duration::from_secs(3600));
    let credentials: Vec<_> = tables.known.iter().map(credential).collect();
    for credential in &credentials {
        over_sql
            .find(credential)
            .await
            .expect("the store is available");
        over_memory
            .find(credential)
            .await
            .expect("memory is available");
    }
    let rounds = if mode::is_full_run() { ROUNDS } else { 3 };
    let (mut sql, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        sql.push(hits(&over_sql, &credentials));
        memory.push(hits(&over_memory, &credentials));
    }
    let (sql, memory) = (median(sql).as_secs_f64(), median(memory).as_secs_f64());
    results.ratio(
        format!("hit of `CachedStore` over {name} to one over memory"),
        sql / memory,
        // A hit runs the same code over any store, so the true ratio is 1. Two times of the same code differ by
        // some per cent on a shared machine.
        Goal::AtMost(1.05),
    );
}

fn hits(store: &impl TokenStore, credentials: &[Credential<'static>]) -> Duration {
    let start = Instant::now();
    for credential in credentials.iter().cycle().take(5_000) {
        black_box(store.find_cached(credential));
    }
    start.elapsed()
}

async fn lists(name: &str, filled: &[Tables]) {
    println!("\n{name}, a page of 50: first and later, with each number of tokens");
    let now = SystemTime::now();
    for (name, filter) in filters(now) {
        let mut line = format!("{name:>18}");
        for tables in filled {
            let (first, later) = pages(tables, &filter, now).await;
            let (first, later) = (micros(first) / 1e3, micros(later) / 1e3);
            write!(line, " | {first:8.2} ms {later:8.2} ms").expect("a string accepts any text");
        }
        println!("{line}");
    }
    let Some(largest) = filled.last().filter(|_| mode::is_full_run()) else {
        return;
    };
    for (name, filter) in filters(now) {
        let plan = largest.plan(Some(&ListRequest::new(filter, now))).await;
        println!("\n{name}:\n{plan}");
    }
    println!("\nlookup:\n{}", largest.plan(None).await);
}

/// Returns the median times of the first page and of a page after the tenth.
async fn pages(tables: &Tables, filter: &TokenFilter, now: SystemTime) -> (Duration, Duration) {
    let request = ListRequest::new(filter.clone(), now);
    let mut later_request = request.clone();
    for _ in 0..10 {
        let page = tables
            .store
            .list(&later_request)
            .await
            .expect("the store is available");
        let Some(next) = page.next else { break };
        later_request = later_request
            .with_cursor(next)
            .expect("the cursor is of this listing");
    }
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        for (request, times) in [(&request, &mut first), (&later_request, &mut later)] {
            let start = Instant::now();
            let page = tables.store.list(request).await;
            times.push(start.elapsed());
            black_box(page.expect("the store is available"));
        }
    }
    (median(first), median(later))
}

fn filters(now: SystemTime) -> Vec<(&'static str, TokenFilter)> {
    let all = TokenFilter::new;
    let day = Duration::from_secs(86_400);
    vec![
        ("all", all()),
        ("name", all().with_name("token 7")),
        ("subject", all().with_subject("team 7")),
        ("role", all().with_role("deployer")),
        ("scope", all().with_scope("projects:7")),
        ("label", all().with_label("shard", "7")),
        ("active", all().with_status(TokenStatus::Active)),
        ("disabled", all().with_status(TokenStatus::Disabled)),
        ("revoked", all().with_status(TokenStatus::Revoked)),
        ("expired", all().with_status(TokenStatus::Expired)),
        ("expires_before", all().with_expires_before(now + day)),
        (
            "last_used_before",
            all().with_last_used_before(now - 10 * day),
        ),
    ]
}

fn credential(token: &MintedToken) -> Credential<'static> {
    Credential::new(token.presented()).into_owned()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
