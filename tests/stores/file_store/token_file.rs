//! `TokenFile` follows the rules of registries.

use std::cell::Cell;
use std::sync::Arc;

use futures::executor::block_on;
use tower_service_token::ServiceTokens;
use tower_service_token::audit::{AuditAction, AuditEvent};
use tower_service_token::lifecycle::{LifecycleError, NewToken, TokenUpdate};
use tower_service_token::registry::{
    ListRequest, RegistryError, TokenFilter, TokenRegistry, Write,
};
use tower_service_token::store::file::TokenFile;
use tower_service_token::store::{ChangeListener, TokenChange, TokenState};
use tower_service_token::testing::conformance;
use tower_service_token::token::TokenId;

use super::{Folder, SystemTime, TokenDigest, TokenRecord, TokenStore, fs};

impl Folder {
    fn file(&self, name: &str) -> TokenFile {
        let path = self.path(name).with_extension("toml");
        TokenFile::open(&path).expect("a file to be created")
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name).with_extension("toml")).expect("a file")
    }
}

fn record(number: i64) -> TokenRecord {
    let id = TokenId::from_i64(number).expect("a small number");
    let digest = TokenDigest::of(&number.to_string());
    TokenRecord::new(id, digest).with_name(format!("t{number}"))
}

fn write(record: TokenRecord) -> Write {
    let at = SystemTime::UNIX_EPOCH;
    let event = AuditEvent::new(at, "tester", AuditAction::Updated, record.id());
    Write::new(record, event)
}

fn stored(file: &TokenFile, number: i64) -> TokenRecord {
    let found = block_on(file.get(record(number).id()));
    found.expect("a valid file").expect("a known token")
}

#[test]
fn passes_the_store_conformance_suite() {
    let folder = Folder::new();
    let number = Cell::new(0);
    block_on(conformance::token_store(async |records| {
        number.set(number.get() + 1);
        let file = folder.file(&number.get().to_string());
        for record in records {
            let inserted = file.insert(&write(record)).await;
            inserted.expect("a token with a new id and digest can be inserted");
        }
        file
    }));
}

#[test]
fn rejects_changes_at_an_outdated_revision() {
    let folder = Folder::new();
    let file = folder.file("t");
    for number in [1, 2] {
        block_on(file.insert(&write(record(number)))).expect("an insertion");
    }
    let read = stored(&file, 1);
    let update = |record: &TokenRecord| block_on(file.update(&write(record.clone())));
    let disabled = update(&read.clone().with_state(TokenState::Disabled));
    let disabled = disabled.expect("an update");
    assert_eq!(stored(&file, 1).revision(), disabled.revision());
    assert_ne!(disabled.revision(), read.revision());
    for outdated in [
        update(&read).map(drop),
        block_on(file.delete(&write(read.clone()))),
    ] {
        assert!(
            matches!(outdated, Err(RegistryError::RevisionMismatch)),
            "{outdated:?}"
        );
    }
    let unknown = update(&record(3));
    assert!(matches!(unknown, Err(RegistryError::UnknownId)));
    let taken = update(&disabled.clone().with_digest(*record(2).digest()));
    assert!(matches!(taken, Err(RegistryError::DuplicateDigest)));

    for record in [disabled, stored(&file, 2)] {
        block_on(file.delete(&write(record.clone()))).expect("a deletion");
        assert!(
            block_on(file.get(record.id()))
                .expect("a valid file")
                .is_none()
        );
    }
    block_on(file.insert(&write(record(1)))).expect("an insertion into an empty file");
}

#[test]
fn insert_checks_ids_digests_names_and_the_limit() {
    let folder = Folder::new();
    let file = folder.file("t");
    let insert = |write: Write| block_on(file.insert(&write));
    insert(write(record(1))).expect("an insertion");
    let other = || write(record(2).with_name("t1"));
    let taken = insert(write(record(1).with_digest(*record(2).digest())));
    assert!(matches!(taken, Err(RegistryError::DuplicateId)));
    let taken = insert(write(record(2).with_digest(*record(1).digest())));
    assert!(matches!(taken, Err(RegistryError::DuplicateDigest)));
    let taken = insert(other().reserve_name(true));
    assert!(matches!(taken, Err(RegistryError::NameTaken)));
    let full = insert(other().with_max_tokens(1));
    assert!(matches!(full, Err(RegistryError::TooManyTokens)));
    let revoked = stored(&file, 1).with_state(TokenState::Revoked);
    block_on(file.update(&write(revoked))).expect("a revocation");
    insert(other().reserve_name(true).with_max_tokens(1)).expect("a free name below the limit");
}

#[test]
fn keeps_the_last_admin() {
    let folder = Folder::new();
    let file = folder.file("t");
    let tokens = ServiceTokens::new(file.clone());
    let admin = |number| record(number).with_scopes(["service-tokens:admin"]);
    for record in [admin(1), admin(2), record(3)] {
        block_on(file.insert(&write(record))).expect("an insertion");
    }
    let id = |number| record(number).id();
    block_on(tokens.disable(id(1))).expect("another token may administer");
    block_on(tokens.revoke(id(3))).expect("a token that may not administer");
    let text = folder.text("t");
    let narrowed = TokenUpdate::new().with_scopes(["projects:read"]);
    for refused in [
        block_on(tokens.disable(id(2))),
        block_on(tokens.revoke(id(2))),
        block_on(tokens.update(id(2), narrowed)),
    ] {
        assert!(
            matches!(refused, Err(LifecycleError::LastAdmin)),
            "{refused:?}"
        );
    }
    assert_eq!(folder.text("t"), text);
    let confirmed = tokens.allow_last_admin_removal();
    block_on(confirmed.revoke(id(2))).expect("a confirmed removal");
}

#[test]
fn concurrent_changes_are_serialized_and_published() {
    #[derive(Default)]
    struct Count(std::sync::atomic::AtomicUsize);

    impl ChangeListener for Count {
        fn changed(&self, _: &TokenChange) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    let folder = Folder::new();
    let file = folder.file("t");
    let count = Arc::new(Count::default());
    file.subscribe(&(count.clone() as Arc<dyn ChangeListener>));
    std::thread::scope(|scope| {
        for number in 0..8 {
            let file = &file;
            scope.spawn(move || block_on(file.insert(&write(record(number)))).expect("a write"));
        }
    });
    let all = ListRequest::new(TokenFilter::new(), SystemTime::UNIX_EPOCH);
    let page = block_on(file.list(&all)).expect("a valid file");
    assert_eq!(page.records.len(), 8);
    assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 8);
}

#[test]
fn the_end_of_time_is_a_date() {
    let folder = Folder::new();
    let file = folder.file("t");
    let tokens = ServiceTokens::new(file.clone());
    let new = NewToken::new("last").with_expiry("9999-12-31".parse().unwrap());
    let issued = block_on(tokens.create(new)).unwrap();
    assert!(folder.text("t").contains("expires_at = \"9999-12-31\""));
    let found = block_on(file.get(issued.record().id())).unwrap().unwrap();
    assert_eq!(found.expires_at(), issued.record().expires_at());
}
