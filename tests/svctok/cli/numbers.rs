//! Decimal IDs of at most 13 digits, for tools whose IDs are integers.

use serde_json::Value;
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, ServiceTokens};

use crate::sandbox::{Sandbox, id_of, make_store};
use crate::test_server::TestServer;

fn sandbox_for(test_server: &TestServer) -> Sandbox {
    let token = test_server.create(&["service-tokens:admin"], &[]);
    Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", &token)
}

/// Returns the decimal ID of a token.
fn decimal_id(sandbox: &Sandbox, secret: &str) -> i64 {
    let stdout = sandbox.run_with("inspect -o json", secret).succeeded();
    let inspected: Value = serde_json::from_str(&stdout).unwrap();
    let number = inspected["decimal_id"].as_i64().unwrap();
    let id: TokenId = id_of(secret).parse().unwrap();
    assert_eq!(number, id.as_i64() % 10_000_000_000_000);
    number
}

#[test]
fn every_command_accepts_a_decimal_id() {
    let test_server = TestServer::start();
    for sandbox in [sandbox_for(&test_server), Sandbox::new()] {
        sandbox.create("--name other");
        let secret = sandbox.create("--name ci");
        let (id, number) = (id_of(&secret), decimal_id(&sandbox, &secret));
        let full = id.parse::<TokenId>().unwrap().as_i64();
        for text in [number.to_string(), full.to_string()] {
            assert_eq!(sandbox.json(&format!("get {text}"))["id"], *id);
            assert_eq!(sandbox.json(&format!("get --id {text}"))["id"], *id);
        }
        let is_valid = |secret: &str| sandbox.run_with("verify", secret).code == Some(0);
        sandbox.run(&format!("disable {number}")).succeeded();
        assert!(!is_valid(&secret));
        sandbox.run(&format!("enable {number}")).succeeded();
        let updated = sandbox.json(&format!("update {number} --name cd"));
        assert_eq!(updated["id"], *id);
        let rotated = sandbox.run(&format!("rotate {number} -o token"));
        let rotated = rotated.succeeded().trim_end().to_owned();
        assert!(is_valid(&rotated) && !is_valid(&secret));
        let deleted = sandbox.run(&format!("delete {number}")).succeeded();
        assert_eq!(
            deleted,
            format!("[SUCCESS] Service token deleted: {number} ({id})\n")
        );
        assert!(!is_valid(&rotated));
        // A repeated deletion succeeds, as it does by ID.
        sandbox.run(&format!("delete {number}")).succeeded();
        let stderr = sandbox.run("get 1").failed(1);
        assert!(stderr.contains("there is no such token"), "{stderr}");
        for too_long in ["839299365868340224", "99999999999999999999"] {
            let stderr = sandbox.run(&format!("get {too_long}")).failed(2);
            assert!(stderr.contains("ID"), "{stderr}");
        }
    }
}

#[test]
fn ambiguous_decimal_id_is_rejected() {
    let store = MemoryStore::new();
    for number in [42, 10_000_000_000_042] {
        let id = TokenId::from_i64(number).unwrap();
        let digest = TokenDigest::of(&number.to_string());
        store
            .insert(TokenRecord::new(id, digest).with_name("x"))
            .unwrap();
    }
    let test_server = TestServer::with_stores(store.clone(), store.clone());
    let sandbox = sandbox_for(&test_server);
    for command in [
        "get 42",
        "disable 42",
        "delete 42",
        "rotate 42",
        "update 42 --name y",
    ] {
        let stderr = sandbox.run(command).failed(1);
        assert!(stderr.contains("several tokens"), "{command}: {stderr}");
    }
    let found = sandbox.json("get 10000000000042");
    assert_eq!(found["name"], "x");
    let tokens = ServiceTokens::new(store);
    let records = test_server.runtime.block_on(async {
        let ids = [42, 10_000_000_000_042].map(|it| TokenId::from_i64(it).unwrap());
        [
            tokens.get(ids[0]).await.unwrap(),
            tokens.get(ids[1]).await.unwrap(),
        ]
    });
    assert!(records.iter().all(|record| record.revision() == 0));
}

/// The documentation of the `sts` tool shows an ID of 15 digits.
#[test]
fn accepts_the_decimal_ids_of_earlier_releases() {
    let sandbox = Sandbox::new();
    make_store(&sandbox.file("tokens.db"), "old", &[]);
    for text in ["107484341630693", "7484341630693"] {
        let found = sandbox.json(&format!("get {text}"));
        assert_eq!(found["name"], "old", "{text}");
    }
}

#[test]
fn changes_by_number_show_the_id_that_was_found() {
    let test_server = TestServer::start();
    for sandbox in [sandbox_for(&test_server), Sandbox::new()] {
        sandbox.create("--name other");
        let secret = sandbox.create("--name ci");
        let (id, number) = (id_of(&secret), decimal_id(&sandbox, &secret));
        for (command, action) in [
            ("disable", "disabled"),
            ("enable", "enabled"),
            ("update --name cd", "updated"),
            ("delete", "deleted"),
        ] {
            for (text, shown) in [
                (number.to_string(), format!("{number} ({id})")),
                (id.clone(), id.clone()),
            ] {
                let stdout = sandbox.run(&format!("{command} {text}")).succeeded();
                let line = format!("[SUCCESS] Service token {action}: {shown}\n");
                assert_eq!(stdout, line, "{command} {text}");
            }
        }
        let shown = sandbox.run(&format!("get {number}")).succeeded();
        assert!(shown.contains(&format!("| {id}\n")), "{shown}");
    }
}

/// `0000000042` is the ID of one token, and 42 the number of another.
#[test]
fn digits_with_a_leading_zero_are_an_id() {
    let store = MemoryStore::new();
    let of_number = TokenId::from_i64(42).unwrap();
    let of_text: TokenId = "0000000042".parse().unwrap();
    for (id, name) in [(of_number, "number"), (of_text, "text")] {
        let record = TokenRecord::new(id, TokenDigest::of(name)).with_name(name);
        store.insert(record).unwrap();
    }
    let test_server = TestServer::with_stores(store.clone(), store);
    let sandbox = sandbox_for(&test_server);
    assert_eq!(sandbox.json("get 42")["name"], "number");
    assert_eq!(sandbox.json("get 0000000042")["name"], "text");
    for text in ["042", "00", "00000000042", "000042"] {
        for command in ["get", "delete", "disable", "rotate"] {
            let stderr = sandbox.run(&format!("{command} {text}")).failed(2);
            assert!(stderr.contains("invalid ID"), "{stderr}");
        }
    }
    let stderr = sandbox.run("get 0").failed(1);
    assert!(stderr.contains("there is no such token"), "{stderr}");
    sandbox.run("delete 0000000042").succeeded();
    assert_eq!(sandbox.json("get 42")["state"], "active");
}
