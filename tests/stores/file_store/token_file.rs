//! `TokenFile` enforces the rules of registries.

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
        TokenFile::open(&path).expect("the file is created")
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name).with_extension("toml")).expect("the file exists")
    }
}

fn record(number: i64) -> TokenRecord {
    let id = TokenId::from_i64(number).expect("the number is in range");
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
    found.expect("the file is valid").expect("the token exists")
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
        block_on(file.insert(&write(record(number)))).expect("the insertion succeeds");
    }
    let read = stored(&file, 1);
    let update = |record: &TokenRecord| block_on(file.update(&write(record.clone())));
    let disabled = update(&read.clone().with_state(TokenState::Disabled));
    let disabled = disabled.expect("the update succeeds");
    assert_eq!(stored(&file, 1).revision(), disabled.revision());
    assert_ne!(disabled.revision(), read.revision());
    for outcome in [
        update(&read).map(drop),
        block_on(file.delete(&write(read.clone()))),
    ] {
        assert!(
            matches!(outcome, Err(RegistryError::RevisionMismatch)),
            "{outcome:?}"
        );
    }
    let unknown = update(&record(3));
    assert!(matches!(unknown, Err(RegistryError::UnknownId)));
    let duplicate = update(&disabled.clone().with_digest(*record(2).digest()));
    assert!(matches!(duplicate, Err(RegistryError::DuplicateDigest)));

    for record in [disabled, stored(&file, 2)] {
        block_on(file.delete(&write(record.clone()))).expect("the deletion succeeds");
        assert!(
            block_on(file.get(record.id()))
                .expect("the file is valid")
                .is_none()
        );
    }
    block_on(file.insert(&write(record(1))))
        .expect("the file accepts an insertion after all deletions");
}

#[test]
fn insert_checks_ids_digests_names_and_the_limit() {
    let folder = Folder::new();
    let file = folder.file("t");
    let insert = |write: Write| block_on(file.insert(&write));
    insert(write(record(1))).expect("the insertion succeeds");
    let other = || write(record(2).with_name("t1"));
    let duplicate = insert(write(record(1).with_digest(*record(2).digest())));
    assert!(matches!(duplicate, Err(RegistryError::DuplicateId)));
    let duplicate = insert(write(record(2).with_digest(*record(1).digest())));
    assert!(matches!(duplicate, Err(RegistryError::DuplicateDigest)));
    let duplicate = insert(other().reserve_name(true));
    assert!(matches!(duplicate, Err(RegistryError::NameTaken)));
    let full = insert(other().with_max_tokens(1));
    assert!(matches!(full, Err(RegistryError::TooManyTokens)));
    let revoked = stored(&file, 1).with_state(TokenState::Revoked);
    block_on(file.update(&write(revoked))).expect("the revocation succeeds");
    insert(other().reserve_name(true).with_max_tokens(1))
        .expect("the name is free and the limit is not reached");
}

#[test]
fn rejects_removal_of_the_last_admin() {
    let folder = Folder::new();
    let file = folder.file("t");
    let tokens = ServiceTokens::new(file.clone());
    let admin = |number| record(number).with_scopes(["service-tokens:admin"]);
    for record in [admin(1), admin(2), record(3)] {
        block_on(file.insert(&write(record))).expect("the insertion succeeds");
    }
    let id = |number| record(number).id();
    block_on(tokens.disable(id(1))).expect("another admin token remains");
    block_on(tokens.revoke(id(3))).expect("the token is not an admin token");
    let text = folder.text("t");
    let update = TokenUpdate::new().with_scopes(["projects:read"]);
    for outcome in [
        block_on(tokens.disable(id(2))),
        block_on(tokens.revoke(id(2))),
        block_on(tokens.update(id(2), update)),
    ] {
        assert!(
            matches!(outcome, Err(LifecycleError::LastAdmin)),
            "{outcome:?}"
        );
    }
    assert_eq!(folder.text("t"), text);
    let unchecked = tokens.allow_last_admin_removal();
    block_on(unchecked.revoke(id(2))).expect("the removal is allowed");
}

#[test]
fn concurrent_changes_are_serialized_and_published() {
    #[derive(Default)]
    struct CountingListener(std::sync::atomic::AtomicUsize);

    impl ChangeListener for CountingListener {
        fn changed(&self, _: &TokenChange) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    let folder = Folder::new();
    let file = folder.file("t");
    let listener = Arc::new(CountingListener::default());
    file.subscribe(&(listener.clone() as Arc<dyn ChangeListener>));
    std::thread::scope(|scope| {
        for number in 0..8 {
            let file = &file;
            scope.spawn(move || {
                block_on(file.insert(&write(record(number)))).expect("the insertion succeeds");
            });
        }
    });
    let all = ListRequest::new(TokenFilter::new(), SystemTime::UNIX_EPOCH);
    let page = block_on(file.list(&all)).expect("the file is valid");
    assert_eq!(page.records.len(), 8);
    assert_eq!(listener.0.load(std::sync::atomic::Ordering::Relaxed), 8);
}

#[test]
fn writes_the_latest_expiry_as_a_date() {
    let folder = Folder::new();
    let file = folder.file("t");
    let tokens = ServiceTokens::new(file.clone());
    let new = NewToken::new("last").with_expiry("9999-12-31".parse().unwrap());
    let issued = block_on(tokens.create(new)).unwrap();
    assert!(folder.text("t").contains("expires_at = \"9999-12-31\""));
    let found = block_on(file.get(issued.record().id())).unwrap().unwrap();
    assert_eq!(found.expires_at(), issued.record().expires_at());
}
