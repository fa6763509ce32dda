//! The authority of the caller at the time of the commit, with concurrent writers on several nodes, and
//! the last administrator.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Postgres, Sqlite, Transaction};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use tower_service_token::clock::SystemClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{IssuedToken, LifecycleError, NewToken, TokenUpdate};
use tower_service_token::registry::{
    AuthorityError, ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write,
};
use tower_service_token::store::sql::SqliteStore;
use tower_service_token::store::{
    ChangeListener, Credential, DenialKind, StoreError, TokenRecord, TokenStore, verdict,
};
use tower_service_token::token::{PresentedToken, TokenId};
use tower_service_token::{Principal, ServiceTokens};

use crate::database::{Store, TestDatabase, TestPool, at, fields};

/// The lock timeout, longer than these tests hold a lock on a busy machine.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens a store that waits for locks as long as these tests may hold them.
pub(crate) async fn store_with_long_lock_timeout(database: &TestDatabase) -> Store {
    let store = database.open().await;
    let store = match database {
        TestDatabase::Postgres { .. } => store,
        // `open` has already set the write-ahead log in the file.
        TestDatabase::Sqlite(_) => {
            let options = SqliteConnectOptions::new().filename(database.file());
            let options = options.busy_timeout(LOCK_TIMEOUT);
            let pool = SqlitePoolOptions::new().max_connections(16);
            let pool = pool.idle_timeout(None).max_lifetime(None);
            let pool = pool.connect_with(options).await.unwrap();
            Store::Sqlite(SqliteStore::with_pool(pool).await.unwrap())
        }
    };
    store.with_deadline(LOCK_TIMEOUT)
}

pub(crate) fn tokens(store: &Store) -> ServiceTokens {
    ServiceTokens::new(WriteCounter::new(store))
}

pub(crate) async fn find(store: &Store, secret: &str) -> Result<Principal, DenialKind> {
    let credential = Credential::new(PresentedToken::new(secret).unwrap());
    let found = store.find(&credential).await.unwrap();
    verdict(found, &credential, &SystemClock).map_err(|denial| denial.kind())
}

/// Returns `ServiceTokens` that act for the holder of this token.
pub(crate) async fn acting_for(store: &Store, token: &IssuedToken) -> ServiceTokens {
    let principal = find(store, token.expose_secret()).await.unwrap();
    tokens(store).acting_for(principal)
}

fn new(name: &str) -> NewToken {
    let new = NewToken::new(name).with_roles(["deployer"]);
    new.with_scopes(["projects:*"])
}

/// A store that counts the writes that reach it, after the actor is checked.
struct WriteCounter {
    store: Store,
    reached: Arc<Semaphore>,
}

impl WriteCounter {
    fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            reached: Arc::new(Semaphore::new(0)),
        }
    }

    /// Counts a write and returns the store.
    fn counted_store(&self) -> &Store {
        self.reached.add_permits(1);
        &self.store
    }
}

#[async_trait]
impl TokenStore for WriteCounter {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find(credential).await
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.store.subscribe(listener);
    }
}

#[async_trait]
impl TokenRegistry for WriteCounter {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        self.counted_store().insert(write).await
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        self.store.get(id).await
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find_by_digest(digest).await
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        self.store.list(request).await
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        self.counted_store().update(write).await
    }

    async fn update_many(&self, writes: &[Write]) -> Vec<Result<TokenRecord, RegistryError>> {
        self.counted_store().update_many(writes).await
    }

    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        self.store.count(filter, now).await
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.counted_store().delete(write).await
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        self.store.touch(uses).await
    }
}

/// A transaction that holds locks.
enum LockingTransaction {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl LockingTransaction {
    /// Locks the rows of the tokens, or the whole database in SQLite.
    async fn lock(pool: &TestPool, ids: &[TokenId]) -> Self {
        match pool {
            TestPool::Sqlite(pool) => {
                Self::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await.unwrap())
            }
            TestPool::Postgres(pool) => {
                let mut transaction = Self::Postgres(pool.begin().await.unwrap());
                let ids: Vec<_> = ids.iter().map(|id| id.as_i64().to_string()).collect();
                let ids = ids.join(", ");
                // The store locks rows in the same order.
                let lock = format!(
                    "SELECT id FROM service_tokens WHERE id IN ({ids}) ORDER BY id FOR UPDATE"
                );
                transaction.run(lock).await;
                transaction
            }
        }
    }

    async fn run(&mut self, statement: String) {
        let statement = sqlx::raw_sql(AssertSqlSafe(statement));
        match self {
            Self::Sqlite(inner) => drop(statement.execute(&mut **inner).await.unwrap()),
            Self::Postgres(inner) => drop(statement.execute(&mut **inner).await.unwrap()),
        }
    }

    async fn commit(self) {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await.unwrap(),
            Self::Postgres(transaction) => transaction.commit().await.unwrap(),
        }
    }
}

/// Waits until this many PostgreSQL transactions wait for locks. SQLite does not report this.
async fn wait_for_blocked_transactions(pool: &TestPool, count: i64) {
    if matches!(pool, TestPool::Sqlite(_)) {
        return;
    }
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while pool.number(waiting).await < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) async fn rejects_waiting_writes_whose_actor_was_revoked(database: TestDatabase) {
    let store = store_with_long_lock_timeout(&database).await;
    let (locks, monitor) = (database.pool(1).await, database.pool(1).await);
    let other_digest = if database.is_postgres() {
        "digest = sha256('another')"
    } else {
        "digest = zeroblob(32)"
    };
    let stripped = "roles = '[]', scopes = '[]'";
    for (change, locks_targets) in [
        ("state = 2", false),
        ("state = 2", true),
        ("state = 1", false),
        (other_digest, false),
        ("expires_at = 1", true),
        (stripped, false),
        (stripped, true),
    ] {
        let admin = tokens(&store);
        let actor = admin.create(new("actor")).await.unwrap();
        let subject = actor.record().id().to_string();
        let mut targets = Vec::new();
        for _ in 0..3 {
            let target = new("target").with_subject(subject.clone());
            targets.push(admin.create(target).await.unwrap().record().clone());
        }
        let mut locked = vec![actor.record().id()];
        if locks_targets {
            locked.extend(targets.iter().map(TokenRecord::id));
        }
        let principal = find(&store, actor.expose_secret()).await.unwrap();
        let counter = WriteCounter::new(&store);
        let reached = Arc::clone(&counter.reached);
        let by_actor = ServiceTokens::new(counter).acting_for(principal);

        let mut transaction = LockingTransaction::lock(&locks, &locked).await;
        let mut writes = JoinSet::new();
        let (one, two) = (targets[0].id(), targets[1].id());
        let (creating, updating) = (by_actor.clone(), by_actor.clone());
        let (revoking, bulk) = (by_actor.clone(), by_actor.clone());
        writes.spawn(async move { creating.create(new("created")).await.map(drop) });
        writes.spawn(async move {
            let update = TokenUpdate::new().with_name("renamed");
            updating.update(one, update).await.map(drop)
        });
        writes.spawn(async move { revoking.revoke(two).await.map(drop) });
        writes.spawn(async move {
            let filter = TokenFilter::new().with_subject(subject);
            bulk.revoke_where(filter, 3).await.map(drop)
        });
        // A caller without rights may still rotate its own token, which has no rights either.
        if change != stripped {
            let own = actor.record().id();
            writes.spawn(async move { by_actor.rotate(own, Duration::ZERO).await.map(drop) });
        }
        let count = u32::try_from(writes.len()).unwrap();
        reached.acquire_many(count).await.unwrap().forget();
        wait_for_blocked_transactions(&monitor, count.into()).await;
        let own = actor.record().id().as_i64();
        transaction
            .run(format!(
                "UPDATE service_tokens SET {change}, revision = revision + 1 WHERE id = {own}"
            ))
            .await;
        transaction.commit().await;
        for outcome in writes.join_all().await {
            let is_expected = match &outcome {
                Err(LifecycleError::Unauthorized(AuthorityError::ActorTokenRejected(_))) => {
                    change != stripped
                }
                Err(LifecycleError::Unauthorized(AuthorityError::EscalationDenied { .. })) => {
                    change == stripped
                }
                _ => false,
            };
            assert!(is_expected, "{change}: {outcome:?}");
        }
        for target in &targets {
            let stored = store.get(target.id()).await.unwrap().unwrap();
            assert_eq!(fields(&stored), fields(target), "{change}");
        }
        let created = TokenFilter::new().with_name("created");
        assert_eq!(store.count(&created, at(1)).await.unwrap(), 0, "{change}");
        let own = store.get(actor.record().id()).await.unwrap().unwrap();
        assert_eq!(own.revision(), 2, "{change}");
    }
}

pub(crate) async fn allows_one_of_ten_concurrent_rotations(database: TestDatabase) {
    let nodes = [
        store_with_long_lock_timeout(&database).await,
        store_with_long_lock_timeout(&database).await,
    ];
    for round in 0..20 {
        let token = tokens(&nodes[0]).create(new("rotated")).await.unwrap();
        let (id, start) = (token.record().id(), Arc::new(Barrier::new(10)));
        let mut rotations = JoinSet::new();
        for number in 0..10 {
            let by_holder = acting_for(&nodes[number % 2], &token).await;
            let start = Arc::clone(&start);
            rotations.spawn(async move {
                start.wait().await;
                by_holder.rotate(id, Duration::ZERO).await
            });
        }
        let mut issued = Vec::new();
        for outcome in rotations.join_all().await {
            match outcome {
                Ok(rotated) => issued.push(rotated),
                Err(
                    LifecycleError::Unauthorized(AuthorityError::ActorTokenRejected(_))
                    | LifecycleError::ConcurrentRotation,
                ) => {}
                Err(error) => panic!("round {round}: {error:?}"),
            }
        }
        assert_eq!(issued.len(), 1, "round {round}");
        for node in &nodes {
            let accepted = find(node, issued[0].expose_secret()).await;
            assert_eq!(accepted.unwrap().id(), id, "round {round}");
            assert!(find(node, token.expose_secret()).await.is_err());
        }
    }
}

pub(crate) async fn concurrent_revocations_keep_one_admin(database: TestDatabase) {
    let nodes = [
        store_with_long_lock_timeout(&database).await,
        store_with_long_lock_timeout(&database).await,
    ];
    for round in 0..20 {
        let mut admins = Vec::new();
        for name in ["first", "second"] {
            let admin = NewToken::new(name).with_scopes(["service-tokens:admin"]);
            admins.push(tokens(&nodes[0]).create(admin).await.unwrap());
        }
        let start = Arc::new(Barrier::new(2));
        let mut removals = JoinSet::new();
        for (number, node) in nodes.iter().enumerate() {
            let id = admins[number].record().id();
            // Each administrator removes the other one.
            let by_other = acting_for(node, &admins[1 - number]).await;
            let start = Arc::clone(&start);
            removals.spawn(async move {
                start.wait().await;
                match (round + number) % 3 {
                    0 => by_other.revoke(id).await.map(drop),
                    1 => by_other.disable(id).await.map(drop),
                    _ => {
                        let update = TokenUpdate::new().with_scopes(["projects:*"]);
                        by_other.update(id, update).await.map(drop)
                    }
                }
            });
        }
        let outcomes = removals.join_all().await;
        let (done, rejected): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(done.len(), 1, "round {round}: {rejected:?}");
        // The first removal has ended the authority for the second one.
        for outcome in rejected {
            let is_expected = matches!(
                outcome,
                Err(LifecycleError::Unauthorized(
                    AuthorityError::ActorTokenRejected(_) | AuthorityError::EscalationDenied { .. }
                ) | LifecycleError::LastAdmin)
            );
            assert!(is_expected, "round {round}: {outcome:?}");
        }
        clear_admins(&nodes[0], round).await;
    }
    // The same applies to an operator, whose authority does not end.
    for round in 0..20 {
        let mut removals = JoinSet::new();
        let start = Arc::new(Barrier::new(2));
        for node in &nodes {
            let admin = NewToken::new("admin").with_scopes(["**"]);
            let id = tokens(node).create(admin).await.unwrap().record().id();
            let (operator, start) = (tokens(node), Arc::clone(&start));
            removals.spawn(async move {
                start.wait().await;
                operator.revoke(id).await.map(drop)
            });
        }
        let outcomes = removals.join_all().await;
        let is_one = matches!(
            &outcomes[..],
            [Ok(()), Err(LifecycleError::LastAdmin)] | [Err(LifecycleError::LastAdmin), Ok(())]
        );
        assert!(is_one, "round {round}: {outcomes:?}");
        clear_admins(&nodes[0], round).await;
    }
}

/// Asserts that one administrator remains, and revokes it.
async fn clear_admins(store: &Store, round: usize) {
    let request = ListRequest::new(TokenFilter::new().without_revoked(), at(1));
    let records = store.list(&request.with_limit(1000)).await.unwrap().records;
    let now = SystemTime::now();
    let admins: Vec<_> = records.iter().filter(|it| it.may_administer(now)).collect();
    assert_eq!(admins.len(), 1, "round {round}");
    let operator = tokens(store).allow_last_admin_removal();
    operator.revoke(admins[0].id()).await.unwrap();
}

pub(crate) async fn writes_by_each_others_actors_do_not_deadlock(database: TestDatabase) {
    const ROUNDS: usize = 120;
    let nodes = [
        store_with_long_lock_timeout(&database).await,
        store_with_long_lock_timeout(&database).await,
    ];
    let operator = tokens(&nodes[0]);
    let mut actors = Vec::new();
    for name in ["first", "second", "third"] {
        let admin = NewToken::new(name).with_scopes(["service-tokens:admin"]);
        actors.push(operator.create(admin).await.unwrap());
    }
    let mut tasks = JoinSet::new();
    for number in 0..2 {
        let target = actors[1 - number].record().id();
        let by_actor = acting_for(&nodes[number], &actors[number]).await;
        let updating = by_actor.clone();
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                let update = TokenUpdate::new().with_name(format!("{number} {round}"));
                updating.update(target, update).await.unwrap();
            }
        });
        let (operator, subject) = (operator.clone(), format!("bulk {number}"));
        let revoking = by_actor.clone();
        tasks.spawn(async move {
            for _ in 0..ROUNDS / 10 {
                for _ in 0..3 {
                    let target = NewToken::new("bulk").with_subject(subject.clone());
                    let _ = operator.create(target).await.unwrap();
                }
                let filter = TokenFilter::new().with_subject(subject.clone());
                let revoked = revoking.revoke_where(filter, 3).await.unwrap();
                assert_eq!((revoked.ids.len(), revoked.remaining), (3, 0));
            }
        });
        let store = nodes[number].clone();
        let mut ids: Vec<_> = actors.iter().map(|it| it.record().id()).collect();
        tasks.spawn(async move {
            for round in 0..ROUNDS as u64 {
                ids.reverse();
                let request = ListRequest::new(TokenFilter::new().without_revoked(), at(1));
                let listed = store.list(&request).await.unwrap().records;
                let all = listed.iter().map(TokenRecord::id).chain(ids.clone());
                let all: std::collections::BTreeSet<_> = all.collect();
                let uses: Vec<_> = all.into_iter().rev().map(|id| (id, at(round))).collect();
                store.touch(&uses).await.unwrap();
            }
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished.unwrap();
    }
    if database.is_postgres() {
        let pool = database.pool(1).await;
        let deadlocks = "SELECT deadlocks FROM pg_stat_database \
             WHERE datname = current_database()";
        assert_eq!(pool.number(deadlocks).await, 0);
    }
}

/// A leaked token is revoked within the default deadline while its holder keeps writing.
pub(crate) async fn revokes_an_actor_that_writes_continuously(database: TestDatabase) {
    const WRITERS: usize = 16;
    let nodes = [
        store_with_long_lock_timeout(&database).await,
        store_with_long_lock_timeout(&database).await,
    ];
    // This store has the default deadline.
    let operator = ServiceTokens::new(WriteCounter::new(&database.open().await));
    for round in 0..5 {
        let actor = operator.create(new("actor")).await.unwrap();
        let mut writes = JoinSet::new();
        let written = Arc::new(Semaphore::new(0));
        for number in 0..WRITERS {
            let by_actor = acting_for(&nodes[number % 2], &actor).await;
            let written = Arc::clone(&written);
            writes.spawn(async move {
                loop {
                    match by_actor.create(new("created")).await {
                        Ok(_) => written.add_permits(1),
                        Err(error) => return error,
                    }
                }
            });
        }
        let busy = u32::try_from(2 * WRITERS).unwrap();
        written.acquire_many(busy).await.unwrap().forget();
        operator.revoke(actor.record().id()).await.unwrap();
        for error in writes.join_all().await {
            let is_expected = matches!(
                error,
                LifecycleError::Unauthorized(AuthorityError::ActorTokenRejected(
                    DenialKind::Revoked
                ))
            );
            assert!(is_expected, "round {round}: {error:?}");
        }
    }
}
