//! Starts that fail, before anything is minted.

use std::fs;
use std::process::Stdio;

use tokio::net::TcpListener;

use crate::node::Running;
use crate::place::Place;
use crate::postgres::port::ReservedPort;

pub(crate) async fn an_address_that_is_taken_leaves_the_store_alone(place: Place) {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Running::start(&place, &["--listen", &address])
        .ended()
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
        fs::read_dir(&place.folder).unwrap().count(),
        0,
        "the store was opened"
    );
}

pub(crate) async fn a_database_that_cannot_be_reached_is_named_without_its_password(place: Place) {
    let port = ReservedPort::new();
    let address = port.address();
    let file = place.file("token", None);
    let mut command = Running::command();
    command.args([
        "--store",
        &format!("postgres://tokens:hush@{address}/tokens"),
    ]);
    command.args(["--listen", "127.0.0.1:0", "--bootstrap-token-file", &file]);
    let ended = Running::spawn(&mut command, Stdio::piped()).ended().await;
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains(&format!("postgres://{address}/tokens")),
        "{ended:?}"
    );
    assert!(!ended.stderr.contains("hush"), "{ended:?}");
    assert!(
        fs::metadata(&file).is_err(),
        "a token that nobody takes was written"
    );
}
