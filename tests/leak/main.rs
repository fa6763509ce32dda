//! No output of this crate contains the secret of a token, on any path.
//!
//! 1. Every [public type](public_types) with a `Debug` or `Display` is printed while it holds a
//!    secret, or after it received one.
//! 2. Every [path](paths) through the layer and the guards is [tested](request_paths) with the log,
//!    the metrics, the response and the output of the inner service captured.
//! 3. The detector is tested with planted secrets, and every path must produce its expected events
//!    and metrics.

mod api_types;
mod client_types;
mod file_store;
mod introspection;
mod lifecycle_types;
mod limits;
mod paths;
mod public_types;
mod request_paths;
#[cfg(feature = "tracing")]
mod stray_tokens;
mod streams;

use std::fmt::Write as _;

use http::HeaderValue;
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenId;

const SECRET: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
/// The same token with a wrong last character.
const DAMAGED: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0m";
/// The secret and its checksum, without the public ID.
const SECRET_PART: &str = "Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";

fn minted_record() -> TokenRecord {
    TokenRecord::new(token_id(), TokenDigest::of(SECRET))
        .with_name("ci")
        .with_subject("team-a")
        .with_owner("user:1")
        .with_roles(["deployer"])
        .with_scopes(["projects:write"])
        .with_label("workspace", "w1")
        .with_data(SECRET.to_owned())
}

fn token_id() -> TokenId {
    "7Hq2mX9bTe".parse().expect("a valid ID")
}

/// Returns the parts of the secret, or of the digest of a presented token, that occur in `text`.
fn leaks(text: &str) -> Vec<String> {
    // `{:#?}` splits lists into lines.
    let text: String = text.split_whitespace().collect();
    let lower = text.to_lowercase();
    let mut found = Vec::new();
    for part in windows(SECRET_PART, 8) {
        if text.contains(part) {
            found.push(format!("secret {part}"));
        }
    }
    if text.contains(&list(&SECRET_PART.as_bytes()[..4])) {
        found.push("secret as bytes".to_owned());
    }
    for token in [SECRET, DAMAGED] {
        let digest = TokenDigest::of(token);
        for part in windows(&hex(digest.as_bytes()), 16) {
            if lower.contains(part) {
                found.push(format!("digest {part}"));
            }
        }
        if text.contains(&list(&digest.as_bytes()[..4])) {
            found.push("digest as bytes".to_owned());
        }
    }
    found
}

fn windows(text: &str, length: usize) -> impl Iterator<Item = &str> {
    (0..=text.len() - length).map(move |start| &text[start..start + length])
}

fn list(bytes: &[u8]) -> String {
    let numbers: Vec<_> = bytes.iter().map(ToString::to_string).collect();
    numbers.join(",")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("into a string");
        text
    })
}

fn assert_no_secret(name: &str, text: &str) {
    let found = leaks(text);
    assert!(found.is_empty(), "{name} contains {found:?}:\n{text}");
}

#[test]
fn detector_finds_planted_secrets_in_every_encoding() {
    #[derive(Debug)]
    struct Careless<T>(T);

    let digest = TokenDigest::of(SECRET);
    for planted in [
        SECRET.to_owned(),
        format!("{:?}", Careless(SECRET)),
        format!("{:#?}", Careless(SECRET)),
        format!("{:?}", Careless(SECRET.as_bytes())),
        format!("{:#?}", Careless(SECRET.as_bytes())),
        format!("token=...{}...", &SECRET[20..30]),
        SECRET_PART[..24].to_owned(),
        digest.to_string(),
        digest.to_string().to_uppercase(),
        format!("{:?}", digest.as_bytes()),
        format!("{:#?}", digest.as_bytes()),
        TokenDigest::of(DAMAGED).to_string(),
        format!("{:?}", HeaderValue::from_static(SECRET)),
    ] {
        assert!(!leaks(&planted).is_empty(), "not found: {planted}");
    }
    // The ID is public.
    for harmless in [
        "",
        "svctok-7Hq2mX9bTe_***",
        "7Hq2mX9bTe",
        "TokenDigest(***)",
    ] {
        assert_eq!(leaks(harmless), Vec::<String>::new());
    }
}
