//! The contract of `TokenRegistry`.

use std::time::{Duration, SystemTime};

use tower_service_token::registry::{ListRequest, RegistryError, TokenFilter};
use tower_service_token::store::{
    Credential, RotationKey, StoreErrorKind, TokenChange, TokenRecord, TokenState,
};
use tower_service_token::token::{PresentedToken, TokenFormat};

use crate::database::{Changes, TestDatabase, at, digest, fields, id, minted, write};

/// Returns a record with a value in each field.
fn full() -> TokenRecord {
    minted()
        .with_name("nightly \"build\" — ночь")
        .with_description("the purpose\nin two lines")
        .with_subject("repo:org/app")
        .with_roles(["deployer", "ops, \"night\""])
        .with_scopes(["projects:write", "audit:**"])
        .with_label("team", "core")
        .with_label("a=b", "c")
        .with_label("a", "b=c")
        .with_state(TokenState::Disabled)
        .with_previous_digest((digest("previous"), at(500)))
        .with_created_at(at(1_795_000_000_123))
        .with_created_by("7Hq2mX9bTe")
        .with_updated_at(at(1_795_000_000_124))
        .with_rotated_at(at(1_795_000_000_125))
        .with_last_used_at(at(1_795_000_000_126))
        .with_expires_at(at(1_795_000_000_127))
        .with_not_before(at(1_795_000_000_128))
        .with_revision(7)
        .with_hint("svctok-7Hq2mX9bTe_***")
}

pub(crate) async fn reads_back_stored_records(database: TestDatabase) {
    let store = database.open().await;
    let early = SystemTime::UNIX_EPOCH - Duration::from_millis(1500);
    let records = [
        full(),
        minted(),
        minted().with_created_at(SystemTime::UNIX_EPOCH),
        minted().with_created_at(early).with_expires_at(early),
        minted().with_revision(u64::MAX - 1),
        TokenRecord::new(id(0), digest("first id")),
        TokenRecord::new(id(62_i64.pow(10) - 1), digest("last id")),
    ];
    for record in &records {
        store.insert(&write(record)).await.unwrap();
    }
    for record in &records {
        let stored = store.get(record.id()).await.unwrap().unwrap();
        assert_eq!(fields(&stored), fields(record));
        let found = store.find_by_digest(record.digest()).await.unwrap();
        assert_eq!(fields(&found.unwrap()), fields(record));
    }
    // An update stores every column of another full record.
    let changed = full()
        .with_name("renamed")
        .with_state(TokenState::Active)
        .with_roles(["auditor"])
        .without_labels();
    let changed = TokenRecord::new(records[1].id(), digest("new secret"))
        .with_name(changed.name())
        .with_description("other")
        .with_subject("other subject")
        .with_roles(["auditor"])
        .with_scopes(["other:read"])
        .with_label("k", "v")
        .with_previous_digest((*records[1].digest(), at(9)))
        .with_created_at(at(10))
        .with_created_by("other")
        .with_updated_at(at(11))
        .with_rotated_at(at(12))
        .with_expires_at(at(13))
        .with_not_before(at(14))
        .with_hint("hint");
    let updated = store.update(&write(&changed)).await.unwrap();
    assert_eq!(fields(&updated), fields(&changed.with_revision(1)));
    let stored = store.get(records[1].id()).await.unwrap().unwrap();
    assert_eq!(fields(&stored), fields(&updated));
    // An update with an empty record clears every column.
    let bare = records[1].clone().with_revision(1);
    let updated = store.update(&write(&bare)).await.unwrap();
    assert_eq!(fields(&updated), fields(&bare.with_revision(2)));
    let stored = store.get(records[1].id()).await.unwrap().unwrap();
    assert_eq!(fields(&stored), fields(&updated));
}

pub(crate) async fn rejects_duplicate_ids_and_digests(database: TestDatabase) {
    let store = database.open().await;
    let first = minted().with_previous_digest((digest("old"), at(9)));
    let second = minted();
    for record in [&first, &second] {
        store.insert(&write(record)).await.unwrap();
    }
    let changes = Changes::of(&store);
    let same_id = TokenRecord::new(first.id(), digest("other"));
    let rejected = store.insert(&write(&same_id)).await;
    assert!(matches!(rejected, Err(RegistryError::DuplicateId)));
    let duplicates = [
        minted().with_digest(*first.digest()),
        minted().with_digest(digest("old")),
        minted().with_previous_digest((*first.digest(), at(9))),
        minted().with_previous_digest((digest("old"), at(9))),
    ];
    for record in duplicates {
        let rejected = store.insert(&write(&record)).await;
        assert!(matches!(rejected, Err(RegistryError::DuplicateDigest)));
        assert!(store.get(record.id()).await.unwrap().is_none());
        let previous = record.previous_digest().copied();
        let mut update = second.clone();
        if previous.is_none() {
            update = update.with_digest(*record.digest());
        }
        update = update.with_previous_digest(previous.map(|digest| (digest, at(9))));
        let rejected = store.update(&write(&update)).await;
        assert!(matches!(rejected, Err(RegistryError::DuplicateDigest)));
    }
    let stored = store.get(second.id()).await.unwrap().unwrap();
    assert_eq!(fields(&stored), fields(&second));
    let is_token = |change: &TokenChange| matches!(change, TokenChange::Token { .. });
    assert!(!changes.take().iter().any(is_token));
    // A token may keep its own digests, and swap them.
    let swapped = first.clone().with_digest(digest("old"));
    let swapped = swapped.with_previous_digest((*first.digest(), at(9)));
    store.update(&write(&swapped)).await.unwrap();
}

pub(crate) async fn updates_require_and_increment_the_revision(database: TestDatabase) {
    let store = database.open().await;
    let record = minted().with_revision(5);
    store.insert(&write(&record)).await.unwrap();
    for revision in [0, 4, 6] {
        let stale = record.clone().with_name("stale").with_revision(revision);
        let rejected = store.update(&write(&stale)).await;
        assert!(matches!(rejected, Err(RegistryError::RevisionMismatch)));
    }
    store.touch(&[(record.id(), at(77))]).await.unwrap();
    let renamed = record.clone().with_name("renamed").with_last_used_at(at(3));
    let updated = store.update(&write(&renamed)).await.unwrap();
    assert_eq!(updated.revision(), 6);
    assert_eq!(updated.name(), "renamed");
    assert_eq!(updated.last_used_at(), Some(at(77)));
    let stored = store.get(record.id()).await.unwrap().unwrap();
    assert_eq!(fields(&stored), fields(&updated));

    let rejected = store.update(&write(&minted())).await;
    assert!(matches!(rejected, Err(RegistryError::UnknownId)));
}

pub(crate) async fn deletions_require_the_revision(database: TestDatabase) {
    let store = database.open().await;
    let record = minted().with_roles(["role"]).with_revision(5);
    store.insert(&write(&record)).await.unwrap();
    let stale = record.clone().with_revision(4);
    let rejected = store.delete(&write(&stale)).await;
    assert!(matches!(rejected, Err(RegistryError::RevisionMismatch)));
    assert!(store.get(record.id()).await.unwrap().is_some());
    store.delete(&write(&record)).await.unwrap();
    assert!(store.get(record.id()).await.unwrap().is_none());
    let rejected = store.delete(&write(&record)).await;
    assert!(matches!(rejected, Err(RegistryError::UnknownId)));
    // The ID and the digest are free again.
    store.insert(&write(&record)).await.unwrap();
}

pub(crate) async fn reserved_names_are_unique_until_released(database: TestDatabase) {
    let store = database.open().await;
    let named = |name| minted().with_name(name);
    let unique = |record: &TokenRecord| write(record).reserve_name(true);
    let reserved = named("ci");
    store.insert(&unique(&reserved)).await.unwrap();
    let rejected = store.insert(&unique(&named("ci"))).await;
    assert!(matches!(rejected, Err(RegistryError::NameTaken)));
    let other = named("other");
    store.insert(&unique(&other)).await.unwrap();
    let rejected = store.update(&unique(&other.clone().with_name("ci"))).await;
    assert!(matches!(rejected, Err(RegistryError::NameTaken)));
    // Tokens without a reserved name may share names.
    store.insert(&write(&named("ci"))).await.unwrap();
    store.insert(&write(&named("free"))).await.unwrap();
    store.insert(&unique(&named("free"))).await.unwrap();

    // A change without a reserved name keeps the reservation.
    let described = reserved.with_description("described");
    let reserved = store.update(&write(&described)).await.unwrap();
    let rejected = store.insert(&unique(&named("ci"))).await;
    assert!(matches!(rejected, Err(RegistryError::NameTaken)));
    // A rename, a revocation and a deletion release it.
    let renamed = store.update(&unique(&reserved.with_name("renamed"))).await;
    let reserved = named("ci");
    store.insert(&unique(&reserved)).await.unwrap();
    let revoked = reserved.with_state(TokenState::Revoked);
    store.update(&unique(&revoked)).await.unwrap();
    store.insert(&unique(&named("ci"))).await.unwrap();
    store.delete(&write(&renamed.unwrap())).await.unwrap();
    store.insert(&unique(&named("renamed"))).await.unwrap();
}

pub(crate) async fn enforces_the_token_limit(database: TestDatabase) {
    let store = database.open().await;
    let limited = |record: &TokenRecord| write(record).with_max_tokens(2);
    let none = write(&minted()).with_max_tokens(0);
    let rejected = store.insert(&none).await;
    assert!(matches!(rejected, Err(RegistryError::TooManyTokens)));
    let first = minted();
    store.insert(&limited(&first)).await.unwrap();
    let disabled = minted().with_state(TokenState::Disabled);
    store.insert(&limited(&disabled)).await.unwrap();
    let rejected = store.insert(&limited(&minted())).await;
    assert!(matches!(rejected, Err(RegistryError::TooManyTokens)));
    store
        .insert(&write(&minted()).with_max_tokens(u64::MAX))
        .await
        .unwrap();
    let revoked = first.with_state(TokenState::Revoked);
    store.update(&limited(&revoked)).await.unwrap();
    store
        .insert(&write(&minted()).with_max_tokens(3))
        .await
        .unwrap();
    store.insert(&write(&minted())).await.unwrap();
}

pub(crate) async fn last_use_never_moves_backwards(database: TestDatabase) {
    let store = database.open().await;
    let (record, other) = (minted().with_revision(3), minted());
    for record in [&record, &other] {
        store.insert(&write(record)).await.unwrap();
    }
    for (used, expected) in [(50, 50), (40, 50), (50, 50), (60, 60)] {
        let uses = [(id(1), at(99)), (record.id(), at(used))];
        store.touch(&uses).await.unwrap();
        let stored = store.get(record.id()).await.unwrap().unwrap();
        assert_eq!(stored.last_used_at(), Some(at(expected)));
        let touched = record.clone().with_last_used_at(at(expected));
        assert_eq!(fields(&stored), fields(&touched));
    }
    let untouched = store.get(other.id()).await.unwrap().unwrap();
    assert_eq!(untouched.last_used_at(), None);
    assert!(store.get(id(1)).await.unwrap().is_none());
    store.touch(&[]).await.unwrap();
}

pub(crate) async fn touches_thousands_of_tokens(database: TestDatabase) {
    const ROWS: i64 = 2500;
    let store = database.open().await;
    let pool = database.pool(1).await;
    pool.run(&crate::plans::rows(ROWS, database.is_postgres()))
        .await;
    let uses: Vec<_> = (1..=ROWS + 10)
        .rev()
        .map(|n| (id(n), at(7_000_000)))
        .collect();
    store.touch(&uses).await.unwrap();
    let touched = "SELECT COUNT(*) FROM service_tokens WHERE last_used_at = 7000000";
    assert_eq!(pool.number(touched).await, ROWS);
}

pub(crate) async fn finds_current_and_previous_secrets(database: TestDatabase) {
    let store = database.open().await;
    let format = TokenFormat::default();
    let (old, new) = (format.mint().unwrap(), format.mint().unwrap());
    let record = TokenRecord::from(&old);
    let finds = async |secret: &str| {
        let credential = Credential::new(PresentedToken::new(secret).unwrap());
        let found = store.find(&credential).await.unwrap();
        let same = store.find_by_digest(credential.digest()).await.unwrap();
        assert_eq!(found.as_ref().map(fields), same.as_ref().map(fields));
        found.map(|found| found.id())
    };
    assert_eq!(finds(old.expose_secret()).await, None);
    store.insert(&write(&record)).await.unwrap();
    assert_eq!(finds(old.expose_secret()).await, Some(record.id()));
    let rotated = record.clone().with_digest(digest(new.expose_secret()));
    let rotated = rotated.with_previous_digest((*record.digest(), at(1)));
    let rotated = store.update(&write(&rotated)).await.unwrap();
    assert_eq!(finds(old.expose_secret()).await, Some(record.id()));
    assert_eq!(finds(new.expose_secret()).await, Some(record.id()));
    let without_previous = rotated.with_previous_digest(None);
    let without_previous = store.update(&write(&without_previous)).await.unwrap();
    assert_eq!(finds(old.expose_secret()).await, None);
    store.delete(&write(&without_previous)).await.unwrap();
    assert_eq!(finds(new.expose_secret()).await, None);
}

fn everything() -> ListRequest {
    ListRequest::new(TokenFilter::new(), at(100))
}

pub(crate) async fn listings_read_back_every_value(database: TestDatabase) {
    let store = database.open().await;
    let nul = if database.is_postgres() { "" } else { "\0" };
    let text = format!("{nul}\u{1}\u{1f}\u{7f}\t\r\n\"\\/'[]{{}},é\u{2028}\u{10ffff}{nul}");
    let odd = full()
        .with_name(&*text)
        .with_description(&*text)
        .with_subject(&*text)
        .with_owner(&*text)
        .with_created_by(&*text)
        .with_hint(&*text)
        .with_roles([&*text, "[\"a\"]", ""])
        .with_scopes([&*text])
        .with_label(&*text, &*text)
        .with_rotation_key(RotationKey::from_bytes([0xff; 32]));
    let early = SystemTime::UNIX_EPOCH - Duration::from_millis(1500);
    let texts = ["", "null", "[]", "{}", "1", "\"", "1e400", "\\u0000"];
    let mut records = vec![
        full().with_previous_digest((digest("another"), early)),
        odd,
        minted().with_created_at(early).with_expires_at(early),
        minted().with_revision(u64::MAX - 1),
        TokenRecord::new(id(0), digest("first id")),
        TokenRecord::new(id(62_i64.pow(10) - 1), digest("last id")),
    ];
    for text in texts {
        records.push(minted().with_name(text).with_description(text));
    }
    for record in &records {
        store.insert(&write(record)).await.unwrap();
    }
    let listed = store.list(&everything()).await.unwrap().records;
    assert_eq!(listed.len(), records.len());
    for record in &records {
        let same = listed.iter().find(|listed| listed.id() == record.id());
        let same = same.expect("the token is listed");
        assert_eq!(fields(same), fields(record));
        assert_eq!(same.owner(), record.owner());
        let keys = [same, record].map(|record| record.rotation_key().map(|key| *key.as_bytes()));
        assert_eq!(keys[0], keys[1]);
    }
}

pub(crate) async fn invalid_rows_are_reported_as_corrupt(database: TestDatabase) {
    let store = database.open().await;
    let pool = database.pool(1).await;
    let short = if database.is_postgres() {
        "'\\xabcd'"
    } else {
        "x'abcd'"
    };
    let empty = short.replace("abcd", "");
    for damage in [
        "roles = '{'".to_owned(),
        "scopes = '[1]'".to_owned(),
        "labels = '[]x'".to_owned(),
        format!("previous_digest = {short}, grace_ends_at = 1"),
        format!("rotation_key = {short}"),
        format!("rotation_key = {empty}"),
    ] {
        let (record, valid) = (minted(), minted());
        for record in [&record, &valid] {
            store.insert(&write(record)).await.unwrap();
        }
        let number = record.id().as_i64();
        pool.run(&format!(
            "UPDATE service_tokens SET {damage} WHERE id = {number}"
        ))
        .await;
        let errors = [
            store.get(record.id()).await.unwrap_err(),
            store.find_by_digest(record.digest()).await.unwrap_err(),
            store.list(&everything()).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{damage}");
            let text = format!("{error:?}");
            assert!(text.contains(&record.id().to_string()), "{text}");
            let digest = record.digest().to_string();
            assert!(!text.contains(&digest["sha256:".len()..][..16]), "{text}");
        }
        assert!(store.get(valid.id()).await.unwrap().is_some());
        pool.run(&format!("DELETE FROM service_tokens WHERE id = {number}"))
            .await;
    }
}
