//! The bodies of the fuzz targets: properties that hold for any bytes.
//!
//! `tests/token/fuzz_corpus.rs` also runs them on the stable compiler.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use tower_service_token::digest::TokenDigest;
use tower_service_token::header::{CredentialError, CredentialSources, TokenHeader, X_API_KEY};
use tower_service_token::token::{PresentedToken, TokenFormat, TokenShape};

const X_CUSTOM: HeaderName = HeaderName::from_static("x-custom-token");
const MAX_TOKEN_LENGTH: usize = 512;

/// Reads credentials from `data`, which contains one header per line.
///
/// # Panics
///
/// Panics if the sources accept a malformed token, or a request that repeats a header they read.
pub fn credential_sources(data: &[u8]) {
    let headers = header_lines(data);
    let header = TokenHeader::new(X_CUSTOM).expect("the header has no predefined syntax");
    let custom = CredentialSources::default().with_header(header);
    let schemes = ["apikey", "bearer"];
    for (sources, schemes, names) in [
        (CredentialSources::none(), &schemes[..0], &[][..]),
        (CredentialSources::default(), &schemes[..1], &[X_API_KEY]),
        (custom.accept_bearer(), &schemes, &[X_API_KEY, X_CUSTOM]),
    ] {
        let credentials = PresentedCredentials::find(&headers, schemes, names);
        credentials.check(sources.read(&headers));
    }
    only_foreign_bearer_tokens_are_absent(&headers);
}

/// Compares sources that read each bearer token with those that read tokens of a format.
fn only_foreign_bearer_tokens_are_absent(headers: &HeaderMap) {
    let format = TokenFormat::default();
    let all = CredentialSources::default().accept_bearer();
    let own = CredentialSources::default().accept_bearer_of(format.clone());
    let text = |token: PresentedToken<'_>| token.expose_secret().to_owned();
    let read = |sources: CredentialSources| sources.read(headers).map(|token| token.map(text));
    match (read(own), read(all)) {
        (Ok(own), Ok(all)) if own == all => {}
        (Ok(None), Ok(Some(token))) => assert!(!format.resembles(&token), "a token of ours"),
        (Ok(_), Err(CredentialError::TooLong))
        | (Ok(Some(_)), Err(CredentialError::Conflicting))
        | (Err(_), Err(_)) => {}
        (own, all) => panic!("{own:?} instead of {all:?}"),
    }
}

/// The credentials in the headers, by a simple rule: each is the last word of a value.
#[derive(Default)]
struct PresentedCredentials<'h> {
    any: bool,
    repeated: bool,
    last_words: Vec<&'h [u8]>,
}

impl<'h> PresentedCredentials<'h> {
    fn find(headers: &'h HeaderMap, schemes: &[&str], names: &[HeaderName]) -> Self {
        let mut credentials = Self::default();
        let authorization = (!schemes.is_empty()).then_some(AUTHORIZATION);
        for name in authorization.iter().chain(names) {
            let values: Vec<_> = headers.get_all(name).iter().collect();
            credentials.any |= !values.is_empty();
            credentials.repeated |= values.len() > 1;
            for value in values {
                let mut words = value.as_bytes().split(|byte| b" \t".contains(byte));
                let first = words.clone().find(|word| !word.is_empty());
                let first = first.unwrap_or_default().to_ascii_lowercase();
                let has_accepted_scheme = schemes.iter().any(|scheme| scheme.as_bytes() == first);
                if name != AUTHORIZATION || has_accepted_scheme {
                    let last = words.rfind(|word| !word.is_empty());
                    credentials.last_words.push(last.unwrap_or_default());
                }
            }
        }
        credentials
    }

    fn check(&self, outcome: Result<Option<PresentedToken<'_>>, CredentialError>) {
        match outcome {
            Ok(Some(token)) => {
                let token = token.expose_secret().as_bytes();
                assert!((1..=MAX_TOKEN_LENGTH).contains(&token.len()));
                assert!(token.iter().all(u8::is_ascii_graphic));
                assert!(!self.repeated, "a repeated header was accepted");
                assert!(
                    !self.last_words.is_empty(),
                    "a token was found without a credential"
                );
                assert!(self.last_words.iter().all(|&word| word == token));
            }
            Ok(None) => {
                assert!(!self.repeated, "a repeated header was ignored");
                assert!(self.last_words.is_empty(), "a credential was ignored");
            }
            Err(CredentialError::Repeated) => assert!(self.repeated),
            Err(_) => assert!(self.any, "an error without any header"),
        }
    }
}

/// Parses lines of the form `name: value`. A line without a colon is a value of `x-api-key`.
fn header_lines(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|&byte| byte == b'\n') {
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = match colon {
            Some(at) => (HeaderName::from_bytes(&line[..at]), &line[at + 1..]),
            None => (Ok(X_API_KEY), line),
        };
        let value = HeaderValue::from_bytes(value.strip_prefix(b" ").unwrap_or(value));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// Inspects `data` as a token, and a valid token that is derived from `data`.
///
/// # Panics
///
/// Panics if a text with a wrong checksum is recognized, if a valid token is not recognized, or if
/// redaction shows a secret.
pub fn token_format(data: &[u8]) {
    let Ok(acme) = TokenFormat::new("acme_") else {
        panic!("the prefix is valid");
    };
    let format = TokenFormat::default().with_accepted_format(acme);
    check_format(&format, &String::from_utf8_lossy(data));
    let valid = valid_token(data);
    assert!(
        matches!(format.inspect(&valid), TokenShape::WellFormed(_)),
        "{valid}"
    );
    check_format(&format, &valid);
    // The first byte selects the position of the edit, the second the new character.
    if let [position, other, ..] = *data {
        let position = usize::from(position) % valid.len();
        let mut edited = valid.clone().into_bytes();
        edited[position] = 0x21 + other % 94;
        let edited = String::from_utf8_lossy(&edited);
        check_format(&format, &edited);
        let is_well_formed = matches!(format.inspect(&edited), TokenShape::WellFormed(_));
        assert_eq!(is_well_formed, edited == valid, "{edited}");
    }
}

fn check_format(format: &TokenFormat, token: &str) {
    let redacted = format.redact(token);
    let TokenShape::WellFormed(id) = format.inspect(token) else {
        assert_eq!(redacted, "***");
        return;
    };
    let (checked, sum) = token.split_at(token.len() - 6);
    assert_eq!(checksum(checked.as_bytes()), sum, "{token}");
    let secret = &checked[checked.len() - 24..];
    assert!(!redacted.contains(secret), "{redacted}");
    let shown = redacted
        .strip_suffix("***")
        .expect("a redacted token ends in `***`");
    assert!(token.starts_with(shown) && shown.ends_with(&format!("{id}_")));
}

/// Returns a valid token whose digits are derived from `data`.
fn valid_token(data: &[u8]) -> String {
    let mut digits = data.iter().map(|byte| char::from(digit((*byte).into())));
    let mut next =
        |count: usize| -> String { (0..count).map(|_| digits.next().unwrap_or('0')).collect() };
    let checked = format!("svctok-{}_{}", next(10), next(24));
    let sum = checksum(checked.as_bytes());
    checked + &sum
}

fn digit(number: u32) -> u8 {
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    digits[usize::try_from(number % 62).expect("the value is below 62")]
}

/// Computes CRC-32/ISO-HDLC bit by bit, and returns it as six base62 digits.
fn checksum(text: &[u8]) -> String {
    let mut crc = u32::MAX;
    for byte in text {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        }
    }
    let powers = [916_132_832, 14_776_336, 238_328, 3_844, 62, 1];
    powers
        .map(|power| char::from(digit(!crc / power)))
        .iter()
        .collect()
}

/// Parses `data` as a digest, and formats digests that are derived from `data`.
///
/// # Panics
///
/// Panics if a formatted digest does not parse to the same digest, or if a malformed text parses.
pub fn digest(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(digest) = text.parse::<TokenDigest>() {
        assert_eq!(digest.to_string(), text.to_ascii_lowercase());
        assert_eq!(TokenDigest::from_bytes(*digest.as_bytes()), digest);
    }
    check_round_trip(&TokenDigest::of(&text));
    let mut bytes = [0; 32];
    for (byte, source) in bytes.iter_mut().zip(data) {
        *byte = *source;
    }
    check_round_trip(&TokenDigest::from_bytes(bytes));
}

fn check_round_trip(digest: &TokenDigest) {
    let text = digest.to_string();
    let upper = format!("sha256:{}", text[7..].to_ascii_uppercase());
    for text in [&text, &upper] {
        let parsed: TokenDigest = text.parse().expect("a formatted digest is valid");
        assert_eq!(parsed.as_bytes(), digest.as_bytes(), "{text}");
    }
    for text in [&text[1..], &text[..text.len() - 1], &text[7..]] {
        assert!(text.parse::<TokenDigest>().is_err(), "{text}");
    }
}
