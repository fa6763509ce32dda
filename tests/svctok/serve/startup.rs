//! Starts that fail, before anything is minted.

use std::fs;
use std::process::Stdio;

use test_support::port::ReservedPort;
use tokio::net::TcpListener;

use crate::node::NodeProcess;
use crate::store_fixture::StoreFixture;

pub(crate) async fn occupied_address_does_not_touch_the_store(fixture: StoreFixture) {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = NodeProcess::start(&fixture, &["--listen", &address])
        .wait()
        .await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains(&format!("cannot listen on {address}")),
        "{ended:?}"
    );
    assert_eq!(ended.stdout, "");
    assert_eq!(
        fs::read_dir(&fixture.folder).unwrap().count(),
        0,
        "the store was opened"
    );
}

pub(crate) async fn unreachable_database_is_named_without_its_password(fixture: StoreFixture) {
    let port = ReservedPort::new();
    let address = port.address();
    let file = fixture.file("token", None);
    let mut command = NodeProcess::command();
    command.args([
        "--store",
        &format!("postgres://tokens:hush@{address}/tokens"),
    ]);
    command.args(["--listen", "127.0.0.1:0", "--bootstrap-token-file", &file]);
    let ended = NodeProcess::spawn(&mut command, Stdio::piped())
        .wait()
        .await;
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains(&format!("postgres://{address}/tokens")),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("Connection refused"), "{ended:?}");
    assert!(!ended.stderr.contains("hush"), "{ended:?}");
    assert!(
        fs::metadata(&file).is_err(),
        "a token that nobody takes was written"
    );
}
