//! Starts that fail before a token is minted.

use std::fs;
use std::process::Stdio;

use test_support::port::ReservedPort;
use tokio::net::TcpListener;

use crate::node::NodeProcess;
use crate::store_fixture::StoreFixture;

pub(crate) async fn occupied_address_fails_before_the_store_is_opened(fixture: StoreFixture) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = NodeProcess::start(&fixture, &["--listen", &address])
        .wait()
        .await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output
            .stderr
            .contains(&format!("cannot listen on {address}")),
        "{output:?}"
    );
    assert_eq!(output.stdout, "");
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
    let output = NodeProcess::spawn(&mut command, Stdio::piped())
        .wait()
        .await;
    assert_eq!(output.code, Some(4), "{output:?}");
    assert!(
        output
            .stderr
            .contains(&format!("postgres://{address}/tokens")),
        "{output:?}"
    );
    assert!(output.stderr.contains("Connection refused"), "{output:?}");
    assert!(!output.stderr.contains("hush"), "{output:?}");
    assert!(
        fs::metadata(&file).is_err(),
        "a bootstrap token was written"
    );
}
