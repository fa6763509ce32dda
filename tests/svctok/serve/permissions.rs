//! Warnings about files that other users can read or write.

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

/// Starts a node whose files already exist with these permission bits for other users. Returns the log.
async fn start_log(fixture: &StoreFixture, bits: u32) -> String {
    let certificate = Authority::new("test").certificate(&["localhost"]);
    let cert = fixture.file("cert.pem", Some(&certificate.chain));
    let key = fixture.file("key.pem", Some(&certificate.key));
    let token = fixture.file("token", None);
    let flags = ["--bootstrap-token-file", &token];
    let flags = [&flags[..], &["--tls-cert", &cert, "--tls-key", &key]].concat();
    set_mode(&key, 0o600);
    Node::start(fixture, &flags).await.stop().await;
    set_mode(&key, 0o600 | (bits & 0o044));
    set_mode(&token, 0o600 | (bits & 0o044));
    set_mode(database(fixture), 0o600 | (bits & 0o022));
    set_mode(&fixture.folder, 0o700 | bits);
    let output = Node::start(fixture, &flags).await.stop().await;
    output.stderr
}

pub(crate) async fn warns_about_accessible_files(fixture: StoreFixture) {
    for bits in [0o070, 0o007] {
        let log = start_log(&fixture, bits).await;
        for warning in WARNINGS {
            assert!(log.contains(warning), "{warning}: {log}");
        }
        // SQLite gives its files the mode of the database.
        assert_eq!(log.matches(WARNINGS[0]).count(), 3, "{log}");
    }
}

pub(crate) async fn does_not_warn_about_private_files(fixture: StoreFixture) {
    let log = start_log(&fixture, 0o000).await;
    for warning in WARNINGS {
        assert!(!log.contains(warning), "{warning}: {log}");
    }
}
