//! The characters that are allowed in names, roles, scopes, labels and descriptions.

use serde_json::{Value, json};
use tower_service_token::MemoryStore;
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;

use crate::management::{ManagementResponse, Server};

/// Control characters, direction controls, and characters that are not visible.
const INVISIBLE: [char; 35] = [
    '\0', '\u{1}', '\t', '\n', '\r', '\u{1b}', '\u{7f}', '\u{80}', '\u{85}', '\u{9f}', '\u{ad}',
    '\u{61c}', '\u{180e}', '\u{200b}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}',
    '\u{202e}', '\u{2060}', '\u{2064}', '\u{2066}', '\u{2069}', '\u{206f}', '\u{feff}', '\u{fff9}',
    '\u{fffb}', '\u{34f}', '\u{115f}', '\u{1160}', '\u{17b4}', '\u{17b5}', '\u{3164}', '\u{ffa0}',
];

/// A Persian word and an emoji that contain joiners.
const JOINED: [&str; 2] = ["می\u{200c}خواهم", "👩\u{200d}💻"];

/// Returns bodies with this text in each single-line field, with the pointer to the field.
fn with_line(text: &str) -> Vec<(Value, &'static str)> {
    vec![
        (json!({ "name": text }), "/name"),
        (json!({ "name": "x", "subject": text }), "/subject"),
        (json!({ "name": "x", "owner": text }), "/owner"),
        (json!({ "name": "x", "roles": ["r", text] }), "/roles/1"),
        (json!({ "name": "x", "labels": { "k": text } }), "/labels/k"),
    ]
}

#[tokio::test]
async fn single_line_fields_reject_invisible_characters() {
    let server = Server::new().await;
    for char in INVISIBLE {
        let text = format!("a{char}b");
        for (body, pointer) in with_line(&text) {
            let response = server.call("POST ", body.clone()).await;
            assert_eq!(response.pointers(), [pointer], "{body}");
        }
        let label = json!({ "name": "x", "labels": { &*text: "v" } });
        let response = server.call("POST ", label).await;
        assert_eq!(response.pointers(), [format!("/labels/{text}")]);
        let scope = json!({ "name": "x", "scopes": [text] });
        assert_eq!(server.call("POST ", scope).await.pointers(), ["/scopes/0"]);
    }
    for text in JOINED {
        for (body, _) in with_line(text) {
            let response = server.call("POST ", body.clone()).await;
            assert_eq!(response.status, 201, "{body}: {response:?}");
        }
    }
}

#[tokio::test]
async fn updates_reject_invisible_characters() {
    let server = Server::new().await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    for char in ['\0', '\u{202e}', '\u{200b}'] {
        for (mut body, pointer) in with_line(&format!("a{char}b")) {
            body["name"] = match pointer {
                "/name" => body["name"].take(),
                _ => json!("x"),
            };
            let response = server.call(&format!("PATCH /{id}"), body).await;
            assert_eq!(response.pointers(), [pointer]);
        }
        let body = json!({ "description": format!("a{char}b") });
        let response = server.call(&format!("PATCH /{id}"), body).await;
        let is_control = char == '\0';
        assert_eq!(
            response.status,
            if is_control { 422 } else { 200 },
            "{char:?}"
        );
    }
}

#[tokio::test]
async fn descriptions_allow_line_breaks_and_tabs_but_no_other_control_characters() {
    let server = Server::new().await;
    for text in [
        "two\nlines",
        "two\r\nlines",
        "a\ttab",
        "\u{202b}right to left",
        JOINED[0],
    ] {
        let body = json!({ "name": "x", "description": text });
        let response = server.call("POST ", body).await;
        assert_eq!(response.status, 201, "{text:?}: {response:?}");
        assert_eq!(response.json()["service_token"]["description"], text);
    }
    for text in [
        "\0",
        "a\0b",
        "\u{1b}[31mred",
        "over\rwritten",
        "\u{7f}",
        "\u{85}",
        "\u{9b}31m",
    ] {
        let body = json!({ "name": "x", "description": text });
        let response = server.call("POST ", body).await;
        assert_eq!(response.pointers(), ["/description"], "{text:?}");
    }
}

#[tokio::test]
async fn names_of_only_white_space_are_rejected_as_empty() {
    let server = Server::new().await;
    let empty = server.call("POST ", json!({ "name": "" })).await.json();
    for blank in [" ", "   ", "\u{a0}", "\u{3000} "] {
        let response = server.call("POST ", json!({ "name": blank })).await;
        assert_eq!(response.pointers(), ["/name"], "{blank:?}");
        assert_eq!(response.json()["errors"], empty["errors"], "{blank:?}");
    }
    let body = json!({ "name": "x", "subject": "  " });
    assert_eq!(server.call("POST ", body).await.pointers(), ["/subject"]);
    let body = json!({ "name": "x", "roles": [" "], "scopes": ["\t"] });
    let mut pointers = server.call("POST ", body).await.pointers();
    pointers.sort();
    assert_eq!(pointers, ["/roles/0", "/scopes/0"]);
}

/// Characters above U+FFFF and others that are not shown: tags, musical controls, number signs.
const MORE_INVISIBLE: [char; 18] = [
    '\u{600}',
    '\u{6dd}',
    '\u{70f}',
    '\u{890}',
    '\u{8e2}',
    '\u{fe00}',
    '\u{110bd}',
    '\u{13430}',
    '\u{1bca0}',
    '\u{1d173}',
    '\u{1d17a}',
    '\u{e0001}',
    '\u{e0041}',
    '\u{e0100}',
    // Noncharacters.
    '\u{fdd0}',
    '\u{ffff}',
    '\u{1fffe}',
    '\u{10ffff}',
];

/// The flag of Scotland: a black flag, then `gbsct` and a terminator in tag characters.
const SCOTLAND: &str = "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}";

#[tokio::test]
async fn single_line_fields_reject_format_characters_of_every_plane() {
    let server = Server::new().await;
    let texts = MORE_INVISIBLE.map(|char| format!("a{char}b"));
    for text in texts.iter().map(String::as_str).chain([SCOTLAND]) {
        for (body, pointer) in with_line(text) {
            let response = server.call("POST ", body.clone()).await;
            assert_eq!(response.pointers(), [pointer], "{body}");
        }
    }
    for emoji in [
        "\u{2764}\u{fe0f}",
        "\u{1f3f4}",
        "\u{1f1e9}\u{1f1ea}",
        "\u{1f44d}\u{1f3fd}",
    ] {
        for (body, _) in with_line(emoji) {
            let response = server.call("POST ", body.clone()).await;
            assert_eq!(response.status, 201, "{body}: {response:?}");
        }
    }
}

#[tokio::test]
async fn lines_have_joiners_only_behind_characters_beyond_ascii() {
    let server = Server::new().await;
    for joiner in ['\u{200c}', '\u{200d}', '\u{fe0e}', '\u{fe0f}'] {
        for text in [
            format!("admin{joiner}"),
            format!("ad{joiner}min"),
            format!("{joiner}admin"),
            format!("\u{e9} {joiner}a"),
            format!("1{joiner}\u{20e3}"),
        ] {
            for (body, pointer) in with_line(&text) {
                let response = server.call("POST ", body.clone()).await;
                assert_eq!(response.pointers(), [pointer], "{body}");
            }
        }
        let label = json!({ "name": "x", "labels": { "workspace": joiner.to_string() } });
        let response = server.call("POST ", label).await;
        assert_eq!(response.pointers(), ["/labels/workspace"]);
        for text in [
            format!("\u{6cc}{joiner}\u{6cc}"),
            format!("a\u{2764}{joiner}"),
            format!("\u{2764}{joiner}\u{200d}\u{1f525} b"),
        ] {
            for (body, _) in with_line(&text) {
                let response = server.call("POST ", body.clone()).await;
                assert_eq!(response.status, 201, "{body}: {response:?}");
            }
        }
    }
}

#[tokio::test]
async fn names_without_a_visible_character_are_rejected_as_empty() {
    let server = Server::new().await;
    let empty = server.call("POST ", json!({ "name": "" })).await.json();
    for blank in [
        "\u{200d}",
        "\u{200c}\u{200d}",
        " \u{200d} ",
        "\u{fe0f}",
        "\u{200b}",
        "\u{3164}",
        "\u{e0041}\u{e007f}",
    ] {
        let response = server.call("POST ", json!({ "name": blank })).await;
        assert_eq!(response.pointers(), ["/name"], "{blank:?}");
        assert_eq!(response.json()["errors"], empty["errors"], "{blank:?}");
        for (body, pointer) in [
            (
                json!({ "name": "x", "subject": blank }),
                "/subject".to_owned(),
            ),
            (
                json!({ "name": "x", "roles": [blank] }),
                "/roles/0".to_owned(),
            ),
            (
                json!({ "name": "x", "labels": { blank: "v" } }),
                format!("/labels/{blank}"),
            ),
        ] {
            let response = server.call("POST ", body.clone()).await;
            assert_eq!(response.pointers(), [pointer], "{body}");
        }
    }
}

#[tokio::test]
async fn roles_and_scopes_are_trimmed() {
    let server = Server::new().await;
    let body = json!({
        "name": "ci", "roles": [" admin", "viewer ", "admin"], "scopes": ["\ta:b\n", " c:d "],
    });
    let created = server.call("POST ", body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let shown = created.json()["service_token"].clone();
    assert_eq!(shown["roles"], json!(["admin", "viewer"]));
    assert_eq!(shown["scopes"], json!(["a:b", "c:d"]));
    let id = shown["id"].as_str().unwrap();
    let patch = json!({ "roles": ["a "], "scopes": [" e:f"] });
    let changed = server.call(&format!("PATCH /{id}"), patch).await.json();
    assert_eq!(changed["roles"], json!(["a"]));
    assert_eq!(changed["scopes"], json!(["e:f"]));
}

/// Returns a record that an earlier release stored without these rules.
fn old_record() -> TokenRecord {
    let token = TokenFormat::default().mint().unwrap();
    TokenRecord::new(token.id(), TokenDigest::of(token.expose_secret()))
        .with_name("of\u{202e}old ")
        .with_subject("a\u{200b}b")
        .with_description("a\u{1b}b")
        .with_roles([" admin", "admin", "r\u{200b}"])
        .with_label("k\u{202e}", "v\u{200b}")
        .with_expires_at(std::time::SystemTime::UNIX_EPOCH)
}

#[tokio::test]
async fn old_records_stay_editable() {
    let store = MemoryStore::new();
    let record = old_record();
    store.insert(record.clone()).unwrap();
    let server = Server::with_stores(store.clone(), store).await;
    let id = record.id();
    let shown = server.call(&format!("GET /{id}"), None).await.json();
    let patch = async |patch: Value| server.call(&format!("PATCH /{id}"), patch).await;

    let changed = patch(json!({ "labels": { "team": "x" } })).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(changed.json()["name"], shown["name"]);
    // A client may read a token, change one field and send all of them.
    let mut full_patch = json!({});
    for field in [
        "name",
        "subject",
        "owner",
        "description",
        "roles",
        "scopes",
        "labels",
        "expires_at",
    ] {
        full_patch[field] = shown[field].clone();
    }
    full_patch["roles"]
        .as_array_mut()
        .unwrap()
        .push(json!(" new "));
    let changed = patch(full_patch.clone()).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let changed = changed.json();
    let roles = json!([" admin", "admin", "r\u{200b}", "new"]);
    let sorted = |roles: &Value| {
        let roles = roles.as_array().unwrap().iter();
        let mut roles: Vec<_> = roles.map(|it| it.as_str().unwrap().to_owned()).collect();
        roles.sort();
        roles
    };
    assert_eq!(sorted(&changed["roles"]), sorted(&roles));
    for field in ["name", "subject", "description", "expires_at"] {
        assert_eq!(changed[field], shown[field]);
    }
    full_patch["name"] = json!("of\u{202e}new");
    assert_eq!(patch(full_patch).await.pointers(), ["/name"]);
    let invalid_label = json!({ "labels": { "k\u{202e}": "w" } });
    assert_eq!(patch(invalid_label).await.pointers(), ["/labels/k\u{202e}"]);
    for call in ["POST /{id}/disable", "POST /{id}/enable", "DELETE /{id}"] {
        let response = server
            .call(&call.replace("{id}", &id.to_string()), None)
            .await;
        assert!(response.status < 300, "{response:?}");
    }
}
