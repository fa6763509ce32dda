//! Warnings about files that others can write or read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use test_support::certificates::Authority;

use crate::lost_store::database;
use crate::node::Node;
use crate::store_fixture::StoreFixture;

const WARNINGS: [&str; 4] = [
    "other users can write the token database",
    "other users can replace the token database",
    "other users can read or write the TLS key",
    "other users can read or write the administrator token",
];

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The log of a node whose files exist before it starts.
async fn stderr(fixture: &StoreFixture, others: u32) -> String {
    let certificate = Authority::new("test").certificate(&["localhost"]);
    let cert = fixture.file("cert.pem", Some(&certificate.chain));
    let key = fixture.file("key.pem", Some(&certificate.key));
    let token = fixture.file("token", None);
    let more = ["--bootstrap-token-file", &token];
    let more = [&more[..], &["--tls-cert", &cert, "--tls-key", &key]].concat();
    set_mode(&key, 0o600);
    Node::start(fixture, &more).await.stop().await;
    set_mode(&key, 0o600 | (others & 0o044));
    set_mode(&token, 0o600 | (others & 0o044));
    set_mode(database(fixture), 0o600 | (others & 0o022));
    set_mode(&fixture.folder, 0o700 | others);
    let ended = Node::start(fixture, &more).await.stop().await;
    ended.stderr
}

pub(crate) async fn warns_about_accessible_files(fixture: StoreFixture) {
    for others in [0o070, 0o007] {
        let said = stderr(&fixture, others).await;
        for warning in WARNINGS {
            assert!(said.contains(warning), "{warning}: {said}");
        }
        // SQLite gives its files the mode of the database.
        assert_eq!(said.matches(WARNINGS[0]).count(), 3, "{said}");
    }
}

pub(crate) async fn does_not_warn_about_private_files(fixture: StoreFixture) {
    let said = stderr(&fixture, 0o000).await;
    for warning in WARNINGS {
        assert!(!said.contains(warning), "{warning}: {said}");
    }
}
