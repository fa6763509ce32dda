//! The stores of this crate pass the conformance suite of the feature `testing`, and the suite
//! detects each known kind of defect.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use futures::executor::block_on;
use tower_service_token::digest::TokenDigest;
use tower_service_token::registry::{
    ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write,
};
use tower_service_token::store::{
    CachedStore, ChainStore, ChangeFeed, ChangeListener, Credential, StoreError, TokenChange,
    TokenRecord, TokenState,
};
use tower_service_token::streams::{
    InsertTicketError, MemoryTicketStore, StoredTicket, TicketStore,
};
use tower_service_token::testing::{FaultyStore, conformance};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, TokenStore};

#[test]
fn memory_store_passes_registry_conformance() {
    block_on(conformance::token_registry(async || MemoryStore::new()));
}

#[test]
fn registry_wrappers_pass_registry_conformance() {
    block_on(conformance::token_registry(async || {
        FaultyStore::new(MemoryStore::new())
    }));
    let shared = async || {
        let shared: Arc<dyn TokenRegistry> = Arc::new(MemoryStore::new());
        shared
    };
    block_on(conformance::token_registry(shared));
}

#[test]
fn memory_ticket_store_passes_ticket_conformance() {
    block_on(conformance::ticket_store(async || MemoryTicketStore::new()));
}

/// Returns each ticket as often as it is asked, or none.
struct WrongTicketStore {
    is_empty: bool,
    tickets: Mutex<Vec<StoredTicket>>,
}

#[async_trait]
impl TicketStore for WrongTicketStore {
    async fn insert(&self, ticket: &StoredTicket, _: SystemTime) -> Result<(), InsertTicketError> {
        self.tickets.lock().unwrap().push(ticket.clone());
        Ok(())
    }

    async fn take(&self, digest: &TokenDigest) -> Result<Option<StoredTicket>, StoreError> {
        let tickets = self.tickets.lock().unwrap();
        let found = tickets.iter().find(|ticket| ticket.digest == *digest);
        Ok(found.filter(|_| !self.is_empty).cloned())
    }
}

#[test]
fn detects_wrong_ticket_stores() {
    for is_empty in [false, true] {
        let check = || {
            block_on(conformance::ticket_store(async || WrongTicketStore {
                is_empty,
                tickets: Mutex::default(),
            }));
        };
        catch_unwind(check).unwrap_err();
    }
}

/// Finds no token again, or the wrong one.
struct WrongAgain(MemoryStore, Option<TokenRecord>);

#[async_trait]
impl TokenStore for WrongAgain {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.0.find(credential).await
    }

    async fn find_again(
        &self,
        _: TokenId,
        _: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        Ok(self.1.clone())
    }
}

#[test]
fn detects_a_wrong_find_again() {
    for finds_first in [false, true] {
        let check = || {
            block_on(conformance::token_store(async |records| {
                let first = records[0].clone();
                let store = MemoryStore::new();
                for record in records {
                    store.insert(record).unwrap();
                }
                WrongAgain(store, finds_first.then_some(first))
            }));
        };
        catch_unwind(check).unwrap_err();
    }
}

#[tokio::test]
async fn cached_store_passes_registry_conformance() {
    let cached = async || CachedStore::new(FaultyStore::new(MemoryStore::new()));
    conformance::token_registry(cached).await;
}

#[tokio::test]
async fn lookup_only_stores_pass_store_conformance() {
    let store_with = |records: Vec<TokenRecord>| {
        let store = MemoryStore::new();
        for record in records {
            store.insert(record).unwrap();
        }
        store
    };
    conformance::token_store(async |records| {
        ChainStore::new(MemoryStore::new()).then(store_with(records))
    })
    .await;
    conformance::token_store(async |records| CachedStore::new(store_with(records))).await;
}

#[cfg(feature = "file")]
#[tokio::test]
async fn file_store_passes_store_conformance() {
    use tower_service_token::store::file::{FileStore, FileStoreOptions};

    let folder = std::env::temp_dir().join(format!("conformance-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("tokens.json");
    conformance::token_store(async |records| -> FileStore {
        std::fs::write(&path, json(&records)).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let options = FileStoreOptions::new().with_poll_interval(None);
        options.open(&path).unwrap()
    })
    .await;
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Returns the text of a token file with these records.
#[cfg(feature = "file")]
fn json(records: &[TokenRecord]) -> String {
    let time = |time: Option<SystemTime>| {
        time.map(|time| jiff::Timestamp::try_from(time).unwrap().to_string())
    };
    let entries = records.iter().map(|record| {
        let all = serde_json::json!({
            "id": record.id().to_string(),
            "digest": record.digest().to_string(),
            "name": record.name(),
            "subject": record.subject(),
            "owner": record.owner(),
            "roles": record.roles().iter().collect::<Vec<_>>(),
            "scopes": record.scopes().iter().collect::<Vec<_>>(),
            "labels": record.labels().collect::<std::collections::BTreeMap<_, _>>(),
            "expires_at": time(record.expires_at()),
            "not_before": time(record.not_before()),
            "state": format!("{:?}", record.state()).to_lowercase(),
        });
        let serde_json::Value::Object(mut entry) = all else {
            panic!("an entry is a JSON object");
        };
        entry.retain(|_, value| !value.is_null());
        entry
    });
    serde_json::json!({ "tokens": entries.collect::<Vec<_>>() }).to_string()
}

/// A possible defect of a registry.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Defect {
    None,
    DropsDescriptions,
    DropsPreviousDigests,
    FindsAnotherToken,
    IgnoresRevisionsOnUpdate,
    IgnoresRevisionsOnDelete,
    DoesNotIncrementRevisions,
    DropsLastUse,
    IgnoresUses,
    PublishesNothing,
    PublishesUses,
    IgnoresUniqueNames,
    IgnoresLimits,
    ListsTwice,
    IgnoresCursors,
    IgnoresFilters,
    ListsOutOfOrder,
    HidesRevokedTokens,
    DropsAuthorityOnInsert,
    DropsAuthorityOnUpdate,
    DropsAuthorityOnDelete,
    DropsAuthorityOfBatches,
    IgnoresThePreviousRecord,
    AuthorizesBeforeTheTransaction,
    IgnoresLastAdminCheck,
    IgnoresLastAdminCheckOnDelete,
    StopsBatchesAtAnError,
    AuthorizesBatchesAtTheirStart,
    ReversesBatches,
    PublishesNoBatches,
    /// Not a defect: a change notification may contain only the id of the token.
    PublishesNoDigests,
    PublishesOneDigest,
    CountsRevokedTokens,
    CountsOnePage,
    ForgetsOwners,
    IgnoresLimitsOfOwners,
    IgnoresOwnersInFilters,
    CountsOtherOwners,
    ComparesOwnersByPrefix,
}

/// A `MemoryStore` with one defect.
struct Defective {
    store: MemoryStore,
    relay: Arc<Relay>,
    defect: Defect,
}

/// Forwards the change notifications of the store unless it is muted.
struct Relay {
    feed: ChangeFeed,
    is_muted: AtomicBool,
    /// The maximum number of digests in a forwarded notification.
    max_digests: usize,
}

impl ChangeListener for Relay {
    fn changed(&self, change: &TokenChange) {
        if self.is_muted.load(Ordering::SeqCst) {
            return;
        }
        let mut change = change.clone();
        if let TokenChange::Token { digests, .. } = &mut change {
            digests.truncate(self.max_digests);
        }
        self.feed.publish(&change);
    }
}

impl Defective {
    fn new(defect: Defect) -> Self {
        let store = MemoryStore::new();
        let relay = Arc::new(Relay {
            feed: ChangeFeed::default(),
            is_muted: AtomicBool::new(defect == Defect::PublishesNothing),
            max_digests: match defect {
                Defect::PublishesNoDigests => 0,
                Defect::PublishesOneDigest => 1,
                _ => usize::MAX,
            },
        });
        store.subscribe(&(Arc::clone(&relay) as Arc<dyn ChangeListener>));
        Self {
            store,
            relay,
            defect,
        }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    /// Returns the write with the defect applied. A write with a changed record has no authority.
    async fn with_defect(&self, write: &Write, ignores_revisions: bool) -> Write {
        let mut defective = write.clone();
        if self.has(Defect::DropsDescriptions) {
            defective = unauthorized(write, write.record().clone().with_description(None));
        }
        let id = write.record().id();
        if ignores_revisions && let Ok(Some(known)) = TokenRegistry::get(&self.store, id).await {
            let record = write.record().clone().with_revision(known.revision());
            defective = unauthorized(write, record);
        }
        if self.has(Defect::IgnoresUniqueNames) {
            defective = defective.reserve_name(false);
        }
        if self.has(Defect::IgnoresLimits) {
            defective = defective.with_max_tokens(None);
        }
        if self.has(Defect::ForgetsOwners) {
            defective = unauthorized(write, write.record().clone().with_owner(None));
        }
        if self.has(Defect::IgnoresLimitsOfOwners) {
            defective = defective.with_max_tokens_of_owner(None);
        }
        if self.has(Defect::IgnoresLastAdminCheck) {
            defective = defective.with_last_admin_check(None);
        }
        defective
    }

    /// Authorizes the write with the stored records, and returns it without its authority.
    async fn authorized(&self, write: &Write) -> Result<Write, RegistryError> {
        let actor = match write.actor_id() {
            Some(id) => TokenRegistry::get(&self.store, id).await?,
            None => None,
        };
        let before = TokenRegistry::get(&self.store, write.record().id()).await?;
        let before = before.filter(|_| !self.has(Defect::IgnoresThePreviousRecord));
        write.authorize(actor.as_ref(), before.as_ref())?;
        tokio::task::yield_now().await;
        Ok(unauthorized(write, write.record().clone()))
    }
}

/// Returns a write of this record with the same limits and without an authority.
fn unauthorized(write: &Write, record: TokenRecord) -> Write {
    Write::new(record, write.event().clone())
        .reserve_name(write.reserved_name().is_some())
        .with_max_tokens(write.max_tokens())
        .with_max_tokens_of_owner(write.max_tokens_of_owner())
        .with_last_admin_check(write.last_admin_check())
}

#[async_trait]
impl TokenStore for Defective {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        let found = self.find_by_digest(credential.digest()).await?;
        let hides_revoked = self.has(Defect::HidesRevokedTokens);
        if self.has(Defect::FindsAnotherToken) && found.is_none() {
            return TokenRegistry::get(&self.store, TokenId::from_i64(1).unwrap()).await;
        }
        Ok(found.filter(|it| !hides_revoked || it.state() != TokenState::Revoked))
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.relay.feed.subscribe(listener);
    }
}

#[async_trait]
impl TokenRegistry for Defective {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        let mut write = self.with_defect(write, false).await;
        if self.has(Defect::DropsAuthorityOnInsert) {
            write = unauthorized(&write, write.record().clone());
        }
        TokenRegistry::insert(&self.store, &write).await
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        let found = TokenRegistry::get(&self.store, id).await?;
        let has_defect = self.has(Defect::DropsLastUse);
        Ok(found.map(|it| {
            if has_defect {
                it.with_last_used_at(None)
            } else {
                it
            }
        }))
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let found = self.store.find_by_digest(digest).await?;
        let has_defect = self.has(Defect::DropsPreviousDigests);
        Ok(found.filter(|it| !has_defect || it.digest() == digest))
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        let mut defective = request.clone();
        if self.has(Defect::IgnoresFilters) {
            defective =
                ListRequest::new(TokenFilter::new(), request.now()).with_limit(request.limit());
        } else if self.has(Defect::IgnoresCursors) {
            defective = ListRequest::new(request.filter().clone(), request.now())
                .with_limit(request.limit());
        }
        if self.has(Defect::IgnoresOwnersInFilters) {
            let mut filter = request.filter().clone();
            filter.owner = None;
            defective = ListRequest::new(filter, request.now()).with_limit(request.limit());
        }
        if self.has(Defect::ComparesOwnersByPrefix)
            && let Some(owner) = &request.filter().owner
        {
            let mut filter = request.filter().clone();
            filter.owner = Some(format!("{owner}1"));
            defective = ListRequest::new(filter, request.now()).with_limit(request.limit());
            let found = self.store.list(&defective).await?;
            if !found.records.is_empty() {
                return Ok(found);
            }
            defective = request.clone();
        }
        let mut page = self.store.list(&defective).await?;
        if self.has(Defect::ListsTwice) && page.next.is_none() {
            let duplicate = page.records.first().cloned();
            page.records.splice(..0, duplicate);
            page.records.truncate(request.limit());
        }
        if self.has(Defect::ListsOutOfOrder) {
            page.records.reverse();
        }
        Ok(page)
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        let mut write = self
            .with_defect(write, self.has(Defect::IgnoresRevisionsOnUpdate))
            .await;
        if self.has(Defect::DropsAuthorityOnUpdate) {
            write = unauthorized(&write, write.record().clone());
        }
        if self.has(Defect::IgnoresThePreviousRecord)
            || self.has(Defect::AuthorizesBeforeTheTransaction)
        {
            write = self.authorized(&write).await?;
        }
        let updated = self.store.update(&write).await?;
        let has_defect = self.has(Defect::DoesNotIncrementRevisions);
        Ok(if has_defect {
            write.record().clone()
        } else {
            updated
        })
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        let mut write = self
            .with_defect(write, self.has(Defect::IgnoresRevisionsOnDelete))
            .await;
        if self.has(Defect::DropsAuthorityOnDelete) {
            write = unauthorized(&write, write.record().clone());
        }
        if self.has(Defect::IgnoresLastAdminCheckOnDelete) {
            write = write.with_last_admin_check(None);
        }
        self.store.delete(&write).await
    }

    async fn update_many(&self, writes: &[Write]) -> Vec<Result<TokenRecord, RegistryError>> {
        let mut outcomes = Vec::new();
        let mut prepared = Vec::new();
        for write in writes {
            prepared.push(match self.defect {
                Defect::DropsAuthorityOfBatches => Ok(unauthorized(write, write.record().clone())),
                Defect::AuthorizesBatchesAtTheirStart => self.authorized(write).await,
                _ => Ok(write.clone()),
            });
        }
        let is_muted = &self.relay.is_muted;
        is_muted.fetch_or(self.has(Defect::PublishesNoBatches), Ordering::SeqCst);
        for write in prepared {
            let outcome = match write {
                Ok(write) => self.update(&write).await,
                Err(error) => Err(error),
            };
            let stops_batch = outcome.is_err() && self.has(Defect::StopsBatchesAtAnError);
            outcomes.push(outcome);
            if stops_batch {
                let rest = writes.len() - outcomes.len();
                outcomes.extend((0..rest).map(|_| Err(RegistryError::RevisionMismatch)));
                break;
            }
        }
        is_muted.fetch_and(self.has(Defect::PublishesNothing), Ordering::SeqCst);
        if self.has(Defect::ReversesBatches) {
            outcomes.reverse();
        }
        outcomes
    }

    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        let mut filter = filter.clone();
        if self.has(Defect::CountsRevokedTokens) {
            filter.without_revoked = false;
        }
        if self.has(Defect::CountsOtherOwners) {
            filter.owner = None;
        }
        if self.has(Defect::CountsOnePage) {
            let page = self.store.list(&ListRequest::new(filter, now)).await?;
            return Ok(page.records.len() as u64);
        }
        self.store.count(&filter, now).await
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        if self.has(Defect::PublishesUses) {
            for (id, _) in uses {
                let touched = TokenRegistry::get(&self.store, *id).await?;
                let change = TokenChange::between(None, touched.as_ref());
                self.relay.feed.publish(&change);
            }
        }
        if self.has(Defect::IgnoresUses) {
            return Ok(());
        }
        self.store.touch(uses).await
    }
}

#[test]
fn conformance_detects_each_defect() {
    let run_suite = |defect| {
        let empty = async || Defective::new(defect);
        let outcome = catch_unwind(|| block_on(conformance::token_registry(empty)));
        outcome.map_err(|panic| match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(_) => "a panic without a formatted message".to_owned(),
        })
    };
    assert_eq!(run_suite(Defect::None), Ok(()));
    assert_eq!(run_suite(Defect::PublishesNoDigests), Ok(()));
    for defect in [
        Defect::DropsDescriptions,
        Defect::DropsPreviousDigests,
        Defect::FindsAnotherToken,
        Defect::IgnoresRevisionsOnUpdate,
        Defect::IgnoresRevisionsOnDelete,
        Defect::DoesNotIncrementRevisions,
        Defect::DropsLastUse,
        Defect::IgnoresUses,
        Defect::PublishesNothing,
        Defect::PublishesOneDigest,
        Defect::PublishesUses,
        Defect::IgnoresUniqueNames,
        Defect::IgnoresLimits,
        Defect::ListsTwice,
        Defect::IgnoresCursors,
        Defect::IgnoresFilters,
        Defect::ListsOutOfOrder,
        Defect::HidesRevokedTokens,
        Defect::CountsRevokedTokens,
        Defect::CountsOnePage,
        Defect::ForgetsOwners,
        Defect::IgnoresLimitsOfOwners,
        Defect::IgnoresOwnersInFilters,
        Defect::CountsOtherOwners,
        Defect::ComparesOwnersByPrefix,
    ] {
        assert!(run_suite(defect).is_err(), "{defect:?} was not detected");
    }
    // The check of the broken rule detects each of these defects, and no other check does.
    for (defect, rule) in [
        (
            Defect::DropsAuthorityOnInsert,
            "insert with the authority of a revoked token",
        ),
        (
            Defect::DropsAuthorityOnUpdate,
            "update with the authority of a revoked token",
        ),
        (
            Defect::DropsAuthorityOnDelete,
            "delete with the authority of a revoked token",
        ),
        (
            Defect::DropsAuthorityOfBatches,
            "update_many with the authority of a revoked token",
        ),
        (
            Defect::IgnoresThePreviousRecord,
            "update with the authority of a token without a role of its targets",
        ),
        (
            Defect::AuthorizesBeforeTheTransaction,
            "after its actor's token was revoked",
        ),
        (Defect::IgnoresLastAdminCheck, "removed by a revocation"),
        (
            Defect::IgnoresLastAdminCheckOnDelete,
            "removed by a deletion",
        ),
        (Defect::StopsBatchesAtAnError, "one of several updates"),
        (
            Defect::AuthorizesBatchesAtTheirStart,
            "a write after its actor was revoked by an earlier one",
        ),
        (Defect::ReversesBatches, "instead of"),
        (
            Defect::PublishesNoBatches,
            "several updates was not published",
        ),
    ] {
        let message = run_suite(defect).expect_err("the suite detects the defect");
        assert!(
            message.contains(rule),
            "{defect:?} was detected by: {message}"
        );
    }
}
