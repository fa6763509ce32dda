//! The bootstrap token, which is the first token of a store.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use futures::future::join_all;
use test_support::process::Process;

use crate::http1::HttpRequest;
use crate::node::{Node, NodeOutput, NodeProcess, svctok};
use crate::store_fixture::StoreFixture;

/// Returns the part of a token that no log may contain.
pub(crate) fn secret_of(token: &str) -> &str {
    &token.split_once('_').unwrap().1[..24]
}

async fn count_tokens(node: &Node, administrator: &str) -> usize {
    let request = HttpRequest::get("/service-tokens").with_key(administrator);
    let response = node.send(&request).await.assert(200);
    response.json()["service_tokens"].as_array().unwrap().len()
}

pub(crate) async fn only_the_first_start_mints_an_administrator(fixture: StoreFixture) {
    let (first, token) = Node::bootstrap(&fixture, &["--log-level", "trace"]).await;
    let get_self = HttpRequest::get("/service-tokens/self").with_key(&token);
    let administrator = first.send(&get_self).await.assert(200).json();
    assert_eq!(administrator["name"], "administrator");
    assert_eq!(
        administrator["scopes"],
        serde_json::json!(["service-tokens:admin", "introspect"])
    );
    let created = HttpRequest::post("/service-tokens", r#"{"name":"ci","roles":["any"]}"#);
    first.send(&created.with_key(&token)).await.assert(201);
    let first = first.stop().await;

    let second = Node::start(&fixture, &["--log-level", "trace"]).await;
    assert_eq!(count_tokens(&second, &token).await, 2);
    let second = second.stop().await;

    assert_eq!(first.stdout, format!("bootstrap token: {token}\n"));
    assert_eq!(second.stdout, "");
    for log in [first.stderr, second.stderr] {
        assert!(!log.contains(secret_of(&token)));
    }
}

async fn start_three(fixture: &StoreFixture, flags: &[&str]) -> Vec<Node> {
    let started: Vec<_> = (0..3).map(|_| NodeProcess::start(fixture, flags)).collect();
    join_all(started.into_iter().map(NodeProcess::wait_until_listening)).await
}

async fn stop_all(nodes: Vec<Node>) -> Vec<NodeOutput> {
    join_all(nodes.into_iter().map(Node::stop)).await
}

pub(crate) async fn concurrent_first_starts_mint_one_token(fixture: StoreFixture) {
    let nodes = stop_all(start_three(&fixture, &[]).await).await;
    let outputs: Vec<&str> = nodes.iter().map(|it| it.stdout.as_str()).collect();
    let minted: Vec<&str> = outputs.into_iter().filter(|it| !it.is_empty()).collect();
    assert_eq!(minted.len(), 1, "{minted:?}");
    let token = minted[0].strip_prefix("bootstrap token: ").unwrap().trim();
    let node = Node::start(&fixture, &[]).await;
    assert_eq!(count_tokens(&node, token).await, 1);
    node.stop().await;
}

pub(crate) async fn bootstrap_file_is_private(fixture: StoreFixture) {
    let file = fixture.file("token", None);
    let flags = ["--bootstrap-token-file", &file, "--log-level", "trace"];
    let node = Node::start(&fixture, &flags).await;
    assert_eq!(count_tokens(&node, token_in(&file).trim()).await, 1);
    let output = node.stop().await;
    assert_eq!(output.stdout, "");
    assert!(!output.stderr.contains(secret_of(&token_in(&file))));

    // The next start does not overwrite the file.
    let restarted = Node::start(&fixture, &flags).await;
    assert_eq!(count_tokens(&restarted, token_in(&file).trim()).await, 1);
    restarted.stop().await;
}

fn token_in(file: &str) -> String {
    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(text.lines().count(), 1);
    text
}

pub(crate) async fn concurrent_first_starts_with_one_file_mint_one_token(fixture: StoreFixture) {
    let file = fixture.file("token", None);
    let nodes = start_three(&fixture, &["--bootstrap-token-file", &file]).await;
    for node in &nodes {
        assert_eq!(count_tokens(node, token_in(&file).trim()).await, 1);
    }
    for output in stop_all(nodes).await {
        assert_eq!(output.stdout, "");
    }
}

/// Asserts that the start fails and leaves the store empty, so that the next start mints a token.
async fn assert_start_fails_without_minting(
    fixture: &StoreFixture,
    running: NodeProcess,
    error: &str,
) {
    let output = running.wait().await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains(error), "{output:?}");
    assert_eq!(output.stdout, "");
    let (node, token) = Node::bootstrap(fixture, &[]).await;
    assert_eq!(count_tokens(&node, &token).await, 1);
    node.stop().await;
}

pub(crate) async fn existing_bootstrap_file_is_not_overwritten(fixture: StoreFixture) {
    let file = fixture.file("precious", Some("precious"));
    let running = NodeProcess::start(&fixture, &["--bootstrap-token-file", &file]);
    assert_start_fails_without_minting(&fixture, running, "precious exists").await;
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

pub(crate) async fn unwritable_bootstrap_file_mints_nothing(fixture: StoreFixture) {
    let file = fixture.file("no/such/folder", None);
    let running = NodeProcess::start(&fixture, &["--bootstrap-token-file", &file]);
    assert_start_fails_without_minting(&fixture, running, "cannot write the bootstrap token").await;
}

pub(crate) async fn unprintable_bootstrap_token_is_deleted(fixture: StoreFixture) {
    let mut command = NodeProcess::command();
    command.args(["--store", &fixture.store, "--listen", "127.0.0.1:0"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let running = NodeProcess::spawn(&mut command, Stdio::from(full));
    assert_start_fails_without_minting(&fixture, running, "so it was deleted").await;
}

pub(crate) async fn bootstrap_file_with_a_file_store_is_a_usage_error(fixture: StoreFixture) {
    let tokens = fixture.file("tokens.toml", Some("tokens = []\n"));
    let file = fixture.file("token", None);
    let mut command = NodeProcess::command();
    command.args(["--store", &format!("file:{tokens}")]);
    command.args(["--listen", "127.0.0.1:0", "--bootstrap-token-file", &file]);
    let output = NodeProcess::spawn(&mut command, Stdio::piped())
        .wait()
        .await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(fs::metadata(&file).is_err());
}

/// Runs another `svctok` command, asserts success and returns stdout.
pub(crate) fn run_svctok(args: &[&str]) -> String {
    Process::spawn(svctok().args(args)).finish().succeeded()
}

pub(crate) async fn bootstrap_file_works_as_service_token_file(fixture: StoreFixture) {
    let file = fixture.file("token", None);
    let node = Node::start(&fixture, &["--bootstrap-token-file", &file]).await;
    let url = format!("http://{}", node.address);
    let list = ["list", "--url", &url, "--service-token-file", &file];
    assert!(run_svctok(&list).contains("administrator"));
    node.stop().await;
}

pub(crate) async fn lost_administrator_token_can_be_replaced(fixture: StoreFixture) {
    let node = Node::start(&fixture, &[]).await;
    let create = [
        "--store",
        &fixture.store,
        "create",
        "--name",
        "second",
        "-o",
        "token",
    ];
    let scopes = ["--scopes", "service-tokens:admin"];
    let second = run_svctok(&[&create[..], &scopes].concat());
    assert_eq!(count_tokens(&node, second.trim()).await, 2);
    node.stop().await;
}

pub(crate) async fn store_with_only_revoked_tokens_mints_no_token(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let revoke = HttpRequest::form("/revoke", &token);
    node.send(&revoke).await.assert(200);
    node.stop().await;
    let restarted = Node::start(&fixture, &[]).await;
    assert_eq!(restarted.stop().await.stdout, "");
}

pub(crate) async fn paths_that_name_stdout_print_the_bootstrap_token(fixture: StoreFixture) {
    for name in ["-", "/dev/stdout"] {
        let flags = ["--bootstrap-token-file", name];
        let (node, token) = Node::bootstrap(&fixture, &flags).await;
        let get_self = HttpRequest::get("/service-tokens/self").with_key(&token);
        node.send(&get_self).await.assert(200);
        node.stop().await;
        assert!(!std::path::Path::new("-").exists());
        fs::remove_file(crate::lost_store::database(&fixture)).unwrap();
        fs::remove_file(fixture.folder.join("tokens.db.initialized")).unwrap();
    }
}
