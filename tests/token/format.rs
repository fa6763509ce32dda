//! The text of tokens: vectors, damage, prefixes, import from elsewhere, redaction.

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
    text.parse().expect("ten base62 digits")
}

/// CRC-32/ISO-HDLC bit by bit, as six base62 digits.
fn checksum(text: &str) -> String {
    let mut crc = u32::MAX;
    for byte in text.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    let digits: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
    let mut rest = usize::try_from(!crc).expect("32 bits");
    let mut sum = Vec::new();
    for _ in 0..6 {
        sum.insert(0, digits[rest % 62]);
        rest /= 62;
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
    // 64 bytes less the padding bit's byte and the eight of the length.
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
    let documented = include_str!("../../src/token/mod.rs");
    assert!(documented.contains(SCANNER), "the docs have another regex");
    let scanner = Regex::new(SCANNER).unwrap();
    for _ in 0..1_000 {
        let token = TokenFormat::default().mint().unwrap();
        let text = token.expose_secret();
        for surrounded in [
            text.to_owned(),
            format!("TOKEN='{text}'"),
            format!("Authorization: ApiKey {text}\r\n"),
            format!("https://example.org/?key={text}&x=1"),
        ] {
            let found = scanner.find(&surrounded).expect("a token");
            assert_eq!(found.as_str(), text);
        }
        for end in 0..text.len() {
            assert!(!scanner.is_match(&text[..end]), "{}", &text[..end]);
        }
        assert!(!scanner.is_match(&format!("{text}0")));
        assert!(!scanner.is_match(&format!("x{text}")));
    }
}

/// A way to mistype one character.
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

    /// The token with one edit, the place of the edit, and its kind.
    fn apply(&mut self, token: &str) -> (String, usize, Edit) {
        let mut text: Vec<char> = token.chars().collect();
        let edit = [Edit::Substitution, Edit::Insertion, Edit::Deletion][self.below(3)];
        let place = self.below(text.len() + usize::from(edit == Edit::Insertion));
        match edit {
            Edit::Substitution => {
                let others: Vec<char> = ('!'..='~').filter(|&c| c != text[place]).collect();
                text[place] = others[self.below(others.len())];
            }
            Edit::Insertion => {
                let any: Vec<char> = ('!'..='~').collect();
                text.insert(place, any[self.below(any.len())]);
            }
            Edit::Deletion => {
                text.remove(place);
            }
        }
        (text.into_iter().collect(), place, edit)
    }
}

#[test]
fn checksum_detects_single_character_edits() {
    let format = TokenFormat::default();
    let mut typist = RandomEdits(TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut seen = HashSet::new();
    for _ in 0..2_000 {
        let token = format.mint().unwrap();
        for _ in 0..100 {
            let (typed, place, edit) = typist.apply(token.expose_secret());
            let shape = format.inspect(&typed);
            // An insertion or deletion changes the length, and with it the kind of token.
            let expected = if edit == Edit::Substitution && place >= PREFIX.len() {
                TokenShape::Damaged
            } else {
                TokenShape::Unrecognized
            };
            assert_eq!(shape, expected, "{edit:?} at {place}: {typed}");
            assert_eq!(format.redact(&typed), "***");
            seen.insert((edit, place));
        }
    }
    assert_eq!(seen.len(), 48 + 49 + 48, "each edit at each place");
}

#[test]
fn checksum_detects_swapped_neighbors() {
    let format = TokenFormat::default();
    let mut swapped = 0;
    for _ in 0..1_000 {
        let token = format.mint().unwrap();
        for place in PREFIX.len()..47 {
            let mut text: Vec<char> = token.expose_secret().chars().collect();
            text.swap(place, place + 1);
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
    for good in [
        "a-",
        "Z_",
        "a--",
        "a_-",
        "svctok-",
        "A9_-9-",
        "abcdefghijklm-",
    ] {
        let format = TokenFormat::new(good).expect(good);
        assert_eq!(format.prefix(), good);
        assert!(format.mint().unwrap().expose_secret().starts_with(good));
    }
    for bad in [
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
        assert!(TokenFormat::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn prefix_validation_matches_the_regular_expression() {
    let grammar = Regex::new(r"\A[A-Za-z][A-Za-z0-9_-]{0,12}[_-]\z").unwrap();
    let alphabet = ["a", "Z", "0", "_", "-", ".", " ", "\u{e9}"];
    let mut texts = vec![String::new()];
    let mut begin = 0;
    for _ in 0..4 {
        let end = texts.len();
        for place in begin..end {
            texts.extend(alphabet.map(|next| format!("{}{next}", texts[place])));
        }
        begin = end;
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
        .with_accepted_format(&TokenFormat::new(PREFIX).unwrap())
        .with_accepted_format(&TokenFormat::new("old-").unwrap());
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
    // The checksum covers the prefix: a token does not move from one to another.
    let moved = VECTORS[1].replace(PREFIX, "acme_");
    assert_eq!(format.inspect(&moved), TokenShape::Damaged);
}

#[test]
fn recognizes_overlapping_prefixes_in_either_order() {
    for (first, second) in [("svctok-", "svctok-v2-"), ("svctok-v2-", "svctok-")] {
        let second_format = TokenFormat::new(second).unwrap();
        let format = TokenFormat::new(first)
            .unwrap()
            .with_accepted_format(&second_format);
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
        // Damaged in its last place; the id may be as wrong as the rest.
        "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0m",
        "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n ",
        "acme_7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
        "svctok-7Hq2mX9bT\u{e9}_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0",
    ] {
        assert_eq!(format.redact(unknown), "***", "{unknown}");
    }
}

/// Waits for every answer and counts them.
struct CountingStore {
    store: MemoryStore,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl TokenStore for CountingStore {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.store.find(credential).await
    }
}

/// The answer of a service behind the layer: its status and the name of the caller.
fn call(layer: &ServiceTokenLayer, token: &str) -> (StatusCode, Option<String>) {
    let inner = service_fn(async |request: Request<String>| {
        let principal = request.extensions().get::<Principal>();
        let name = principal.expect("behind the layer").name().to_owned();
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

/// Tokens minted elsewhere, with the digests that `sha256sum` prints for them.
const FOREIGN: [(&str, &str); 2] = [
    (
        "svctok-aaaaa-bbbb-ccccc-ddddd",
        "sha256:010b51c91ab3a2ac90d5e03a6e166f28f9837c76998abcc466ac86601ee94571",
    ),
    (
        "legacy_0123456789",
        "sha256:3aedde23cb2d58534caddca6fbdc2f5859cbbe8a64ef48f7f2d03baf63d2039e",
    ),
];

fn imported() -> MemoryStore {
    let store = MemoryStore::new();
    for (number, (token, digest)) in (1..).zip(FOREIGN) {
        let digest: TokenDigest = digest.parse().unwrap();
        let id = TokenId::from_i64(number).unwrap();
        let record = TokenRecord::new(id, digest).with_name(token);
        store.insert(record).unwrap();
    }
    store
}

#[test]
fn imports_tokens_of_other_formats_by_digest() {
    let asked = Arc::new(AtomicUsize::new(0));
    let at_once = ServiceTokenLayer::new(imported());
    let asking = ServiceTokenLayer::new(CountingStore {
        store: imported(),
        asked: Arc::clone(&asked),
    });
    for (token, _) in FOREIGN {
        assert_eq!(
            TokenFormat::default().inspect(token),
            TokenShape::Unrecognized,
            "{token}"
        );
        let accepted = (StatusCode::OK, Some(token.to_owned()));
        assert_eq!(call(&at_once, token), accepted);
        assert_eq!(call(&asking, token), accepted);
        let unknown = (StatusCode::UNAUTHORIZED, None);
        assert_eq!(call(&at_once, &format!("{token}x")), unknown);
        assert_eq!(call(&asking, &format!("{token}x")), unknown);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2 * FOREIGN.len());
}

#[test]
fn rejects_bad_checksums_without_a_store_lookup() {
    let asked = Arc::new(AtomicUsize::new(0));
    let store = MemoryStore::new();
    let token = TokenFormat::default().mint().unwrap();
    store.insert(TokenRecord::from(&token)).unwrap();
    let layer = ServiceTokenLayer::new(CountingStore {
        store,
        asked: Arc::clone(&asked),
    });
    let mut typist = RandomEdits(TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut damaged = 0;
    for _ in 0..500 {
        let (typed, place, edit) = typist.apply(token.expose_secret());
        let is_damaged = edit == Edit::Substitution && place >= PREFIX.len();
        let before = asked.load(Ordering::SeqCst);
        assert_eq!(call(&layer, &typed), (StatusCode::UNAUTHORIZED, None));
        let lookups = asked.load(Ordering::SeqCst) - before;
        assert_eq!(lookups, usize::from(!is_damaged), "{typed}");
        damaged += usize::from(is_damaged);
    }
    assert!(damaged > 50, "{damaged}");
    assert_eq!(call(&layer, token.expose_secret()).0, StatusCode::OK);
}
