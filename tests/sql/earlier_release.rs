//! Databases and token files of earlier commits: bf60f67, the last one before writes had an authority,
//! ba5acd0, the last one with schema version 2, and 3280e16, the last one with schema version 3. Their
//! `svctok` created the tokens in `fixtures/`: an administrator, a deployer, a rotated token with a grace
//! period of a hundred years (none in the file), a disabled one and a revoked one.

use std::fs;
use std::time::Duration;

use tower_service_token::ServiceTokens;
use tower_service_token::lifecycle::{LifecycleError, NewToken, Owner, Page, TokenUpdate};
use tower_service_token::registry::{AuthorityError, ListRequest, TokenFilter};
use tower_service_token::store::{DenialKind, TokenRecord};

use crate::authority::find;
use crate::database::{Store, TestDatabase, at};

/// The secrets of the tokens of a fixture. They are valid nowhere else.
struct Secrets {
    admin: &'static str,
    deployer: &'static str,
    before_rotation: &'static str,
    rotated: &'static str,
    disabled: &'static str,
    revoked: &'static str,
}

/// The databases of a release.
struct Release {
    sqlite: (&'static [u8], Secrets),
    postgres: (&'static str, Secrets),
    creator: &'static str,
}

const BF60F67: Release = Release {
    sqlite: (include_bytes!("fixtures/bf60f67.db"), SQLITE_1),
    postgres: (include_str!("fixtures/bf60f67.sql"), POSTGRES_1),
    // In this release, the names of actors had no kind.
    creator: "operator",
};

const BA5ACD0: Release = Release {
    sqlite: (include_bytes!("fixtures/ba5acd0.db"), SQLITE_2),
    postgres: (include_str!("fixtures/ba5acd0.sql"), POSTGRES_2),
    creator: "operator:operator",
};

const RELEASE_3280E16: Release = Release {
    sqlite: (include_bytes!("fixtures/3280e16.db"), SQLITE_3),
    postgres: (include_str!("fixtures/3280e16.sql"), POSTGRES_3),
    creator: "operator:operator",
};

const SQLITE_1: Secrets = Secrets {
    admin: "svctok-7lJDDGqAFI_FX75FKpHAU8fX43WAixJtG893NdJFR",
    deployer: "svctok-aitpRa1AtZ_b5I0uFuNbhLz4ByFTGKJQN6X3BIpA6",
    before_rotation: "svctok-GuZzeBNDpJ_PsaUeUlNGp90AXoXPPhd5NRM1YPUeg",
    rotated: "svctok-GuZzeBNDpJ_38MVIOiqbpSMAN9ONOZZ7bRH3TFMkw",
    disabled: "svctok-C8YwHVrbTo_0PgWMAzpx98RwZ007qIdM7pE4a4wUj",
    revoked: "svctok-8t1y1kXbtR_OYK0IMKiledNSCU55xHWWG7O0Mwaw9",
};

const POSTGRES_1: Secrets = Secrets {
    admin: "svctok-A08Obf0ZxM_LFXJZm3lOWuFZH41QcNjS3Uh0Vmjdk",
    deployer: "svctok-eFxgGV29Kt_az30sHSrUwbCKQkpm7UqnTUO39LX3P",
    before_rotation: "svctok-FGGyULJ5s5_NtKXA89uSiwg1XcyVVA9ww6W1ncH2Z",
    rotated: "svctok-FGGyULJ5s5_XBzC9neFeh9UyusFXjoWF0V53rSkVe",
    disabled: "svctok-Xlvf69WLan_bTi7WZzEY7k0JdnmkQf4kfTK0DDWKG",
    revoked: "svctok-8wQOajhjOz_VI45pSqowgl9iJQc0L8I3t2n3TG2gv",
};

const SQLITE_2: Secrets = Secrets {
    admin: "svctok-t23YBxKbkc_g2jShLxkm2p7w18HyQabjkuq3bzGVx",
    deployer: "svctok-1nqLM4SZwY_WduTZPDzGXTM0nOLYKC7eBXV3pO38k",
    before_rotation: "svctok-sHtbv2VPtu_2NRk7XiG1WVomfxM6PlslXIv0C7UP8",
    rotated: "svctok-sHtbv2VPtu_3NysrdpV7VGW7t9arOzUgP6s3VBA4y",
    disabled: "svctok-WKQloITp8X_vWNqjHpD1AuFQqbrAwtuCe4X3wFuMj",
    revoked: "svctok-uUay5Jt1SL_WTkhSTfACc2ywHIwIzzvjqOF3Vs0kn",
};

const POSTGRES_2: Secrets = Secrets {
    admin: "svctok-Jpdh5sgfMt_GmVUWeLYYqnRl02roGRaFN8n0TBB8V",
    deployer: "svctok-708WGG316e_V63u5f5edc8Cors6fk1mrAyR1LYq4R",
    before_rotation: "svctok-t3nAO3QQNL_uMiSX6hApGhF5U3p7bjJS7c70Gf809",
    rotated: "svctok-t3nAO3QQNL_TUO0qXmoyKt7rerldmDe9FBO1lbh21",
    disabled: "svctok-kyHdKEjLHV_IG79EaBj65GxSKCaMi2UKtFc17fnaq",
    revoked: "svctok-DpAO42mqiL_N1nmYt0nfbksmbK0uXuzJzUP1IoxJX",
};

const SQLITE_3: Secrets = Secrets {
    admin: "svctok-EyItUG5Ta5_704Myln0ThoqHHStCHo1bvQU4N3rZI",
    deployer: "svctok-TvZDHmwLhf_NzJoRc1nqRJ1h8SlfVLfXn3N03utKF",
    before_rotation: "svctok-TK9JwXdUGQ_kPisrxZJH1d3a54V4GwSxYnu0U4EBY",
    rotated: "svctok-TK9JwXdUGQ_BzYqQnrS0P6LTRJ7R2yncDiG0ZfjK5",
    disabled: "svctok-Igc41hqZjs_Mf2NCDsaglZIQRAdtWJpzAlW4e9c8V",
    revoked: "svctok-YQeibrgtsq_wXhEBRjGPHfqSpF4DnLOvirS1jL192",
};

const POSTGRES_3: Secrets = Secrets {
    admin: "svctok-p0O5ZpJW8U_k0XrdyfH50Tuh8wK0cy0EgIS3hNfnS",
    deployer: "svctok-0yIvpf6JPD_2DUyhYk0ogTZmI9ccd0FQBBa3CrvyC",
    before_rotation: "svctok-heKiycHRVj_sUgB9KDBZQV826YhpIspKshi0l7JB3",
    rotated: "svctok-heKiycHRVj_mFRvLz8W8D5GVON96OxwifIX4BUTXC",
    disabled: "svctok-SWfK1BNxpP_rbwaL9mJV6GSRIqIiYuitw4m4DY91a",
    revoked: "svctok-yxbwnoMQ4P_IFR6Ow33SRAI0Ava115Uuae44AKwfy",
};

#[cfg(feature = "file")]
const FILE: Secrets = Secrets {
    admin: "svctok-23ce5nANBv_iQDzuSW3xKtZ2dQCacYlZxZL3jx5r8",
    deployer: "svctok-yrpelMa6Xg_z9Q3qdsC0t8HgbFHY7hoawlm4LPNp1",
    before_rotation: "svctok-viPMG8Y025_47mELOMfZhCYedBMq1JopBPb0mIWlt",
    rotated: "svctok-viPMG8Y025_7Ugz4CvlXOmAoDZW6i7wcetl0ubI5o",
    disabled: "svctok-k6pumpZUe7_wSNX8DlGEcaqhHWPMzEP4HCV2NHZWi",
    revoked: "svctok-60pEsW9tWj_won6FPJ6t3dixrn6aq8z5OiL2jxpta",
};

/// Restores and opens the database of an earlier release.
async fn restore(database: &TestDatabase, release: Release) -> (Store, Secrets) {
    let secrets = match database {
        TestDatabase::Sqlite(_) => {
            let (file, secrets) = release.sqlite;
            fs::write(database.file(), file).unwrap();
            secrets
        }
        TestDatabase::Postgres { .. } => {
            let (dump, secrets) = release.postgres;
            database.run(dump).await;
            secrets
        }
    };
    let store = database.open().await.keep_audit_trail();
    (store.with_deadline(Duration::from_secs(60)), secrets)
}

fn tokens(store: &Store) -> ServiceTokens {
    match store.clone() {
        Store::Sqlite(store) => ServiceTokens::new(store),
        Store::Postgres(store) => ServiceTokens::new(store),
    }
}

pub(crate) async fn opens_databases_before_write_authority(database: TestDatabase) {
    assert_opens(&database, BF60F67).await;
}

pub(crate) async fn opens_databases_of_schema_version_2(database: TestDatabase) {
    assert_opens(&database, BA5ACD0).await;
}

pub(crate) async fn opens_databases_of_schema_version_3(database: TestDatabase) {
    assert_opens(&database, RELEASE_3280E16).await;
}

pub(crate) async fn tokens_in_databases_before_write_authority_can_be_changed(
    database: TestDatabase,
) {
    assert_changes(&database, BF60F67).await;
}

pub(crate) async fn tokens_in_databases_of_schema_version_2_can_be_changed(database: TestDatabase) {
    assert_changes(&database, BA5ACD0).await;
}

pub(crate) async fn tokens_in_databases_of_schema_version_3_can_be_changed(database: TestDatabase) {
    assert_changes(&database, RELEASE_3280E16).await;
}

/// The administrator of the earlier release gives a token to an owner, which then manages it.
pub(crate) async fn owners_manage_tokens_in_databases_of_schema_version_3(database: TestDatabase) {
    let (store, secrets) = restore(&database, RELEASE_3280E16).await;
    let operator = tokens(&store);
    let alice = Owner::new("user:1").with_roles(["deployer"]);
    let alice = operator.clone().acting_for(alice);
    assert_eq!(alice.count(TokenFilter::new()).await.unwrap(), 0);
    let rotated = find(&store, secrets.rotated).await.unwrap();
    let transfer = TokenUpdate::new().with_owner("user:1");
    operator.update(rotated.id(), transfer).await.unwrap();
    let rotated = find(&store, secrets.rotated).await.unwrap();
    assert_eq!(rotated.owner(), Some("user:1"));
    // The transfer ended the grace period.
    find(&store, secrets.before_rotation).await.unwrap_err();
    let page = alice.list(TokenFilter::new(), Page::default()).await;
    let [record] = &page.unwrap().records[..] else {
        panic!("one token");
    };
    assert_eq!(record.id(), rotated.id());
    alice.revoke(rotated.id()).await.unwrap();
    let events = store.audit_trail(None, 1).await.unwrap();
    assert_eq!(events[0].actor(), "owner:user:1");
}

async fn assert_opens(database: &TestDatabase, release: Release) {
    let creator = release.creator;
    let (store, secrets) = restore(database, release).await;
    let request = ListRequest::new(TokenFilter::new(), at(1));
    let records = store.list(&request).await.unwrap().records;
    let names: Vec<_> = records.iter().map(TokenRecord::name).collect();
    assert_eq!(
        names,
        ["admin", "deploy ä", "rotated", "disabled", "revoked"]
    );
    assert!(records.iter().all(|it| it.created_by() == Some(creator)));
    assert!(records.iter().all(|it| it.owner().is_none()));
    for scope in ["service-tokens:admin", "introspect"] {
        let filter = TokenFilter::new().with_scope(scope);
        assert_eq!(store.count(&filter, at(1)).await.unwrap(), 1);
    }

    let deployer = find(&store, secrets.deployer).await.unwrap();
    assert_eq!(deployer.subject(), Some("team/a"));
    assert!(deployer.roles().iter().eq(["deployer", "auditor"]));
    assert!(deployer.scopes().iter().eq(["projects:*"]));
    assert_eq!(
        (deployer.label("a"), deployer.label("team")),
        (Some("b=c"), Some("x"))
    );
    assert!(find(&store, secrets.admin).await.is_ok());
    let rotated = find(&store, secrets.rotated).await.unwrap();
    let previous = find(&store, secrets.before_rotation).await.unwrap();
    assert_eq!(rotated.id(), previous.id());
    assert!(previous.uses_previous_secret() && !rotated.uses_previous_secret());
    for (secret, denial) in [
        (secrets.disabled, DenialKind::Disabled),
        (secrets.revoked, DenialKind::Revoked),
    ] {
        assert_eq!(find(&store, secret).await.unwrap_err(), denial);
    }
}

async fn assert_changes(database: &TestDatabase, release: Release) {
    let (store, secrets) = restore(database, release).await;
    let earlier_events = store.audit_trail(None, 100).await.unwrap().len();
    // A rotation with the previous secret requires a revision, as for tokens of this release.
    let previous = find(&store, secrets.before_rotation).await.unwrap();
    let (id, by_previous) = (previous.id(), tokens(&store).acting_for(previous));
    let rejected = by_previous.rotate(id, Duration::ZERO).await;
    assert!(matches!(
        rejected,
        Err(LifecycleError::Unauthorized(AuthorityError::PreviousSecret))
    ));
    let revision = store.get(id).await.unwrap().unwrap().revision();
    let recovered = by_previous.if_revision(revision);
    let recovered = recovered.rotate(id, Duration::ZERO).await.unwrap();
    assert!(find(&store, recovered.expose_secret()).await.is_ok());
    for secret in [secrets.before_rotation, secrets.rotated] {
        assert!(find(&store, secret).await.is_err());
    }

    let admin = find(&store, secrets.admin).await.unwrap();
    let (admin_id, by_admin) = (admin.id(), tokens(&store).acting_for(admin));
    let deployer = find(&store, secrets.deployer).await.unwrap();
    let update = TokenUpdate::new().with_name("renamed");
    by_admin.update(deployer.id(), update).await.unwrap();
    let by_deployer = tokens(&store).acting_for(deployer);
    let rejected = by_deployer.revoke(admin_id).await;
    assert!(matches!(
        rejected,
        Err(LifecycleError::Unauthorized(
            AuthorityError::EscalationDenied { .. }
        ))
    ));
    let rejected = by_admin.revoke(admin_id).await;
    assert!(matches!(rejected, Err(LifecycleError::LastAdmin)));
    let created = by_admin.create(NewToken::new("new")).await.unwrap();
    let expected = format!("token:{admin_id}");
    assert_eq!(created.record().created_by(), Some(&*expected));

    // The filter matches the deployer, the rotated token and the disabled token.
    let filter = || TokenFilter::new().with_role("deployer");
    assert_eq!(
        by_admin.preview_revocation(filter()).await.unwrap().count,
        3
    );
    let revoked = by_admin.revoke_where(filter(), 3).await.unwrap();
    assert_eq!((revoked.ids.len(), revoked.remaining), (3, 0));
    for secret in [
        secrets.deployer,
        recovered.expose_secret(),
        secrets.disabled,
        secrets.revoked,
    ] {
        assert_eq!(find(&store, secret).await.unwrap_err(), DenialKind::Revoked);
    }
    let events = store.audit_trail(None, 100).await.unwrap();
    // The changes are a rotation, an update, a creation and three revocations.
    assert_eq!(events.len() - earlier_events, 6);
}

/// Uses only the directory of the database.
#[cfg(feature = "file")]
pub(crate) async fn reads_token_files_of_an_earlier_release(database: TestDatabase) {
    use tower_service_token::TokenStore;
    use tower_service_token::clock::SystemClock;
    use tower_service_token::store::file::FileStore;
    use tower_service_token::store::{Credential, TokenState, verdict};
    use tower_service_token::token::PresentedToken;

    let path = token_file(&database);
    let store = FileStore::open(&path).unwrap();
    assert_eq!(store.records().len(), 5);
    let denial = async |secret| {
        let credential = Credential::new(PresentedToken::new(secret).unwrap());
        let found = store.find(&credential).await.unwrap();
        verdict(found, &credential, &SystemClock)
            .err()
            .map(|denial| denial.kind())
    };
    for (secret, expected) in [
        (FILE.admin, None),
        (FILE.deployer, None),
        (FILE.rotated, None),
        (FILE.before_rotation, Some(DenialKind::Unknown)),
        (FILE.disabled, Some(DenialKind::Disabled)),
        (FILE.revoked, Some(DenialKind::Revoked)),
    ] {
        assert_eq!(denial(secret).await, expected);
    }
    let is_revoked = |state| state == TokenState::Revoked;
    let revoked = store.records();
    let revoked = revoked.iter().filter(|it| is_revoked(it.state())).count();
    assert_eq!(revoked, 1);
}

#[cfg(feature = "file")]
fn token_file(database: &TestDatabase) -> std::path::PathBuf {
    let path = database.file().with_extension("toml");
    fs::write(&path, include_str!("fixtures/bf60f67.toml")).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path
}
