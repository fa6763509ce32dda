//! The token format: test vectors, checksums, prefixes, redaction, and imported tokens of other
//! formats.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::executor::block_on;
use http::{Request, Response, StatusCode};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use regex::Regex;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::{Credential, StoreError, TokenRecord};
use tower_service_token::token::{TokenFormat, TokenId, TokenShape};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, TokenStore};

const VECTORS: [&str; 2] = [
    "svctok-0000000000_0000000000000000000000003Y6kBA",
    "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
];
const SCANNER: &str = r"\bsvctok-[0-9A-Za-z]{10}_[0-9A-Za-z]{30}\b";
const PREFIX: &str = "svctok-";

fn id(text: &str) -> TokenId {
    text.parse().expect("an id of ten base62 digits")
}

/// Computes CRC-32/ISO-HDLC bit by bit, and returns it as six base62 digits.
fn checksum(text: &str) -> String {
    let mut crc = u32::MAX;
    for byte in text.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    let digits: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
    let mut remainder = usize::try_from(!crc).expect("usize has at least 32 bits");
    let mut sum = Vec::new();
    for _ in 0..6 {
        sum.insert(0, digits[remainder % 62]);
        remainder /= 62;
    }
    sum.into_iter().collect()
}

#[test]
fn test_vectors_have_the_documented_format_and_checksum() {
    assert_eq!(checksum("123456789"), "3jZRME", "0xCBF43926 in base62");
    for (token, expected) in VECTORS.into_iter().zip(["0000000000", "7Hq2mX9bTe"]) {
        assert_eq!(
            TokenFormat::default().inspect(token),
            TokenShape::WellFormed(id(expected))
        );
        let (checked, sum) = token.split_at(42);
        assert_eq!(checksum(checked), sum, "{token}");
    }
}

#[test]
fn minted_tokens_are_unique_and_fit_one_sha256_block() {
    const TOKENS: usize = 10_000;
    // 64 bytes, less one byte for the padding bit and eight for the length.
    const ONE_BLOCK: usize = 64 - 1 - 8;
    let format = TokenFormat::default();
    let (mut ids, mut secrets) = (HashSet::new(), HashSet::new());
    for _ in 0..TOKENS {
        let token = format.mint().unwrap();
        let text = token.expose_secret();
        assert_eq!(text.len(), 48);
        assert_eq!(format.inspect(text), TokenShape::WellFormed(token.id()));
        assert_eq!(text[7..17], token.id().to_string());
        assert_eq!(text[42..], checksum(&text[..42]));
        ids.insert(token.id());
        secrets.insert(text[18..42].to_owned());
    }
    assert_eq!((ids.len(), secrets.len()), (TOKENS, TOKENS));
    let longest = TokenFormat::new("fourteen_long-").unwrap().mint().unwrap();
    assert_eq!(longest.expose_secret().len(), ONE_BLOCK);
}

#[test]
fn scanner_pattern_matches_whole_tokens_only() {
    let documentation = include_str!("../../src/token/mod.rs");
    assert!(
        documentation.contains(SCANNER),
        "the documentation contains another pattern"
    );
    let scanner = Regex::new(SCANNER).unwrap();
    for _ in 0..1_000 {
        let token = TokenFormat::default().mint().unwrap();
        let text = token.expose_secret();
        for text_with_token in [
            text.to_owned(),
            format!("TOKEN='{text}'"),
            format!("Authorization: ApiKey {text}\r\n"),
            format!("https://example.org/?key={text}&x=1"),
        ] {
            let found = scanner
                .find(&text_with_token)
                .expect("the pattern matches the token");
            assert_eq!(found.as_str(), text);
        }
        for end in 0..text.len() {
            assert!(!scanner.is_match(&text[..end]), "{}", &text[..end]);
        }
        assert!(!scanner.is_match(&format!("{text}0")));
        assert!(!scanner.is_match(&format!("x{text}")));
    }
}

/// A typing error in one character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Edit {
    Substitution,
    Insertion,
    Deletion,
}

struct RandomEdits(TestRng);

impl RandomEdits {
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % u64::try_from(end).expect("small")).expect("small")
    }

    /// Returns the token with one random edit, the position of the edit, and its kind.
    fn apply(&mut self, token: &str) -> (String, usize, Edit) {
        let mut text: Vec<char> = token.chars().collect();
        let edit = [Edit::Substitution, Edit::Insertion, Edit::Deletion][self.below(3)];
        let position = self.below(text.len() + usize::from(edit == Edit::Insertion));
        match edit {
            Edit::Substitution => {
                let others: Vec<char> = ('!'..='~').filter(|&c| c != text[position]).collect();
                text[position] = others[self.below(others.len())];
            }
            Edit::Insertion => {
                let any: Vec<char> = ('!'..='~').collect();
                text.insert(position, any[self.below(any.len())]);
            }
            Edit::Deletion => {
                text.remove(position);
            }
        }
        (text.into_iter().collect(), position, edit)
    }
}

#[test]
fn checksum_detects_single_character_edits() {
    let format = TokenFormat::default();
    let mut edits = RandomEdits(TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut seen_edits = HashSet::new();
    for _ in 0..2_000 {
        let token = format.mint().unwrap();
        for _ in 0..100 {
            let (edited, position, edit) = edits.apply(token.expose_secret());
            let shape = format.inspect(&edited);
            // A token with another length or another prefix is not recognized as ours.
            let expected = if edit == Edit::Substitution && position >= PREFIX.len() {
                TokenShape::Damaged
            } else {
                TokenShape::Unrecognized
            };
            assert_eq!(shape, expected, "{edit:?} at {position}: {edited}");
            assert_eq!(format.redact(&edited), "***");
            seen_edits.insert((edit, position));
        }
    }
    assert_eq!(
        seen_edits.len(),
        48 + 49 + 48,
        "every edit at every position"
    );
}

#[test]
fn checksum_detects_swapped_adjacent_characters() {
    let format = TokenFormat::default();
    let mut swapped = 0;
    for _ in 0..1_000 {
        let token = format.mint().unwrap();
        for position in PREFIX.len()..47 {
            let mut text: Vec<char> = token.expose_secret().chars().collect();
            text.swap(position, position + 1);
            let text: String = text.into_iter().collect();
            if text != token.expose_secret() {
                swapped += 1;
                assert_eq!(format.inspect(&text), TokenShape::Damaged, "{text}");
            }
        }
    }
    assert!(swapped > 30_000, "{swapped}");
}

#[test]
fn prefixes_are_validated_as_documented() {
    for valid in [
        "a-",
        "Z_",
        "a--",
        "a_-",
        "svctok-",
        "A9_-9-",
        "abcdefghijklm-",
    ] {
        let format = TokenFormat::new(valid).expect(valid);
        assert_eq!(format.prefix(), valid);
        assert!(format.mint().unwrap().expose_secret().starts_with(valid));
    }
    for invalid in [
        "",
        "-",
        "a",
        "ab",
        "a-b",
        "1a-",
        "_a-",
        "--",
        "abcdefghijklmn-",
        "a b-",
        " a-",
        "a- ",
        "a-\n",
        "a.-",
        "\u{e9}-",
        "a\u{e9}-",
        "a\u{2010}",
    ] {
        assert!(TokenFormat::new(invalid).is_err(), "{invalid:?}");
    }
}

#[test]
fn prefix_validation_matches_the_regular_expression() {
    let grammar = Regex::new(r"\A[A-Za-z][A-Za-z0-9_-]{0,12}[_-]\z").unwrap();
    let alphabet = ["a", "Z", "0", "_", "-", ".", " ", "\u{e9}"];
    let mut texts = vec![String::new()];
    let mut start = 0;
    for _ in 0..4 {
        let end = texts.len();
        for position in start..end {
            texts.extend(alphabet.map(|next| format!("{}{next}", texts[position])));
        }
        start = end;
    }
    texts.extend((10..20).map(|length| format!("{}-", "a".repeat(length))));
    let accepted = texts.iter().filter(|text| {
        let accepted = TokenFormat::new(text).is_ok();
        assert_eq!(accepted, grammar.is_match(text), "{text:?}");
        accepted
    });
    assert!(accepted.count() > 100);
}

#[test]
fn recognizes_every_accepted_prefix_and_mints_the_first() {
    let format = TokenFormat::new("acme_")
        .unwrap()
        .with_accepted_format(TokenFormat::new(PREFIX).unwrap())
        .with_accepted_format(TokenFormat::new("old-").unwrap());
    assert!(format.mint().unwrap().expose_secret().starts_with("acme_"));
    for prefix in ["acme_", PREFIX, "old-"] {
        let token = TokenFormat::new(prefix).unwrap().mint().unwrap();
        let text = token.expose_secret();
        assert_eq!(format.inspect(text), TokenShape::WellFormed(token.id()));
        let redacted = format!("{prefix}{}_***", token.id());
        assert_eq!(format.redact(text), redacted);
        let damaged = format!("{}!", &text[..text.len() - 1]);
        assert_eq!(format.inspect(&damaged), TokenShape::Damaged);
    }
    let other = TokenFormat::new("new-").unwrap().mint().unwrap();
    assert_eq!(
        format.inspect(other.expose_secret()),
        TokenShape::Unrecognized
    );
    // The checksum covers the prefix, so a token with a replaced prefix is damaged.
    let with_other_prefix = VECTORS[1].replace(PREFIX, "acme_");
    assert_eq!(format.inspect(&with_other_prefix), TokenShape::Damaged);
}

#[test]
fn tokens_of_every_accepted_prefix_resemble_the_format() {
    let format = TokenFormat::new("acme_").unwrap();
    let format = format.with_accepted_format(TokenFormat::new("old-").unwrap());
    for (text, expected) in [
        ("acme_", true),
        ("x-OLD-y", true),
        ("eyJ.acme_.x", false),
        ("eyJ.acme_.x.y", true),
        ("eyJ.acme_.x.y.z", false),
        ("eyJ.acme_.x=", true),
        // The first part is not the beginning of a JSON object.
        ("eyE.acme_.x", true),
        ("eyx.acme_.x", true),
        ("ew4.acme_.x", true),
        ("ey.acme_.x", true),
        ("e30.acme_.x", true),
        ("fyJ.acme_.x", true),
        ("svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n", false),
        ("", false),
        ("_", false),
    ] {
        assert_eq!(format.resembles(text), expected, "{text}");
    }
    for prefix in ["acme_", "old-"] {
        let token = TokenFormat::new(prefix).unwrap().mint().unwrap();
        let text = token.expose_secret();
        assert!(format.resembles(&format!("x{}", &text[prefix.len()..])));
    }
    for byte in [b'"', b' ', b'\t', b'\n', b'\r'] {
        for next in 0..=u8::MAX {
            let digits = |shift: u32| {
                let bits = u32::from_be_bytes([0, b'{', byte, next]) >> shift & 0x3f;
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[bits as usize]
            };
            let header = String::from_utf8([18, 12, 6, 0].map(digits).into()).unwrap();
            assert!(!format.resembles(&format!("{header}.acme_.x")), "{header}");
        }
    }
    // A prefix outranks the form of a JWT.
    let format = TokenFormat::new("eyJ-").unwrap();
    assert!(format.resembles("eyJ-a.b.c") && !format.resembles("eyJa.b.c"));
}

#[test]
fn recognizes_overlapping_prefixes_in_either_order() {
    for (first, second) in [("svctok-", "svctok-v2-"), ("svctok-v2-", "svctok-")] {
        let second_format = TokenFormat::new(second).unwrap();
        let format = TokenFormat::new(first)
            .unwrap()
            .with_accepted_format(second_format);
        for prefix in [first, second] {
            let token = TokenFormat::new(prefix).unwrap().mint().unwrap();
            assert_eq!(
                format.inspect(token.expose_secret()),
                TokenShape::WellFormed(token.id()),
                "{prefix} of {first} and {second}"
            );
        }
    }
}

#[test]
fn redaction_keeps_the_id_and_hides_unrecognized_text() {
    let format = TokenFormat::default();
    assert_eq!(format.redact(VECTORS[0]), "svctok-0000000000_***");
    assert_eq!(format.redact(VECTORS[1]), "svctok-7Hq2mX9bTe_***");
    for unknown in [
        "",
        "hunter2",
        "svctok-",
        "svctok-aaaaa-bbbb-ccccc-ddddd",
        // The last character is wrong, so the id may be wrong too.
        "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0m",
        "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n ",
        "acme_7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
        "svctok-7Hq2mX9bT\u{e9}_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0",
    ] {
        assert_eq!(format.redact(unknown), "***", "{unknown}");
    }
}

/// Counts lookups. It has no `find_cached`, so every request causes a lookup.
struct CountingStore {
    store: MemoryStore,
    lookups: Arc<AtomicUsize>,
}

#[async_trait]
impl TokenStore for CountingStore {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        self.store.find(credential).await
    }
}

/// Sends a request to a service behind the layer. Returns the status and the name of the token.
fn send(layer: &ServiceTokenLayer, token: &str) -> (StatusCode, Option<String>) {
    let inner = service_fn(async |request: Request<String>| {
        let principal = request.extensions().get::<Principal>();
        let name = principal
            .expect("the layer inserts the principal")
            .name()
            .to_owned();
        Ok::<_, Infallible>(Response::new(name))
    });
    let request = Request::builder()
        .header("authorization", format!("ApiKey {token}"))
        .body(String::new())
        .unwrap();
    let response = block_on(layer.layer(inner).oneshot(request)).unwrap();
    let status = response.status();
    (
        status,
        (status == StatusCode::OK).then(|| response.into_body()),
    )
}

/// Tokens of other issuers, with the digests that `sha256sum` prints for them.
const IMPORTED: [(&str, &str); 2] = [
    (
        "svctok-aaaaa-bbbb-ccccc-ddddd",
        "sha256:010b51c91ab3a2ac90d5e03a6e166f28f9837c76998abcc466ac86601ee94571",
    ),
    (
        "legacy_0123456789",
        "sha256:3aedde23cb2d58534caddca6fbdc2f5859cbbe8a64ef48f7f2d03baf63d2039e",
    ),
];

fn store_with_imported_tokens() -> MemoryStore {
    let store = MemoryStore::new();
    for (number, (token, digest)) in (1..).zip(IMPORTED) {
        let digest: TokenDigest = digest.parse().unwrap();
        let id = TokenId::from_i64(number).unwrap();
        let record = TokenRecord::new(id, digest).with_name(token);
        store.insert(record).unwrap();
    }
    store
}

#[test]
fn imports_tokens_of_other_formats_by_digest() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let memory_layer = ServiceTokenLayer::new(store_with_imported_tokens());
    let counting_layer = ServiceTokenLayer::new(CountingStore {
        store: store_with_imported_tokens(),
        lookups: Arc::clone(&lookups),
    });
    for (token, _) in IMPORTED {
        assert_eq!(
            TokenFormat::default().inspect(token),
            TokenShape::Unrecognized,
            "{token}"
        );
        let accepted = (StatusCode::OK, Some(token.to_owned()));
        assert_eq!(send(&memory_layer, token), accepted);
        assert_eq!(send(&counting_layer, token), accepted);
        let unknown = (StatusCode::UNAUTHORIZED, None);
        assert_eq!(send(&memory_layer, &format!("{token}x")), unknown);
        assert_eq!(send(&counting_layer, &format!("{token}x")), unknown);
    }
    assert_eq!(lookups.load(Ordering::SeqCst), 2 * IMPORTED.len());
}

#[test]
fn rejects_bad_checksums_without_a_store_lookup() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let store = MemoryStore::new();
    let token = TokenFormat::default().mint().unwrap();
    store.insert(TokenRecord::from(&token)).unwrap();
    let layer = ServiceTokenLayer::new(CountingStore {
        store,
        lookups: Arc::clone(&lookups),
    });
    let mut edits = RandomEdits(TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut damaged = 0;
    for _ in 0..500 {
        let (edited, position, edit) = edits.apply(token.expose_secret());
        let is_damaged = edit == Edit::Substitution && position >= PREFIX.len();
        let before = lookups.load(Ordering::SeqCst);
        assert_eq!(send(&layer, &edited), (StatusCode::UNAUTHORIZED, None));
        let caused = lookups.load(Ordering::SeqCst) - before;
        assert_eq!(caused, usize::from(!is_damaged), "{edited}");
        damaged += usize::from(is_damaged);
    }
    assert!(damaged > 50, "{damaged}");
    assert_eq!(send(&layer, token.expose_secret()).0, StatusCode::OK);
}
