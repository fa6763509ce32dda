//! What must hold for any bytes: the bodies of the fuzz targets.
//!
//! `tests/token/fuzz_corpus.rs` runs them on the stable compiler as well.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use tower_service_token::digest::TokenDigest;
use tower_service_token::header::{CredentialError, CredentialSources, TokenHeader, X_API_KEY};
use tower_service_token::token::{PresentedToken, TokenFormat, TokenShape};

const X_CUSTOM: HeaderName = HeaderName::from_static("x-custom-token");
const MAX_TOKEN_LENGTH: usize = 512;

/// Reads credentials from `data`, one header a line.
///
/// # Panics
///
/// The sources accept what is no token, or a request with two values of a header that it reads.
pub fn credential_sources(data: &[u8]) {
    let headers = header_lines(data);
    let header = TokenHeader::new(X_CUSTOM).expect("a header without a syntax");
    let custom = CredentialSources::default().with_header(header);
    let schemes = ["apikey", "bearer"];
    for (sources, schemes, names) in [
        (CredentialSources::none(), &schemes[..0], &[][..]),
        (CredentialSources::default(), &schemes[..1], &[X_API_KEY]),
        (custom.accept_bearer(), &schemes, &[X_API_KEY, X_CUSTOM]),
    ] {
        let presented = Presented::find(&headers, schemes, names);
        presented.check(sources.read(&headers));
    }
}

/// What the headers hold, judged roughly: by the last word of each value.
#[derive(Default)]
struct Presented<'h> {
    any: bool,
    repeated: bool,
    last_words: Vec<&'h [u8]>,
}

impl<'h> Presented<'h> {
    fn find(headers: &'h HeaderMap, schemes: &[&str], names: &[HeaderName]) -> Self {
        let mut presented = Self::default();
        let authorization = (!schemes.is_empty()).then_some(AUTHORIZATION);
        for name in authorization.iter().chain(names) {
            let values: Vec<_> = headers.get_all(name).iter().collect();
            presented.any |= !values.is_empty();
            presented.repeated |= values.len() > 1;
            for value in values {
                let mut words = value.as_bytes().split(|byte| b" \t".contains(byte));
                let first = words.clone().find(|word| !word.is_empty());
                let first = first.unwrap_or_default().to_ascii_lowercase();
                let ours = schemes.iter().any(|scheme| scheme.as_bytes() == first);
                if name != AUTHORIZATION || ours {
                    let last = words.rfind(|word| !word.is_empty());
                    presented.last_words.push(last.unwrap_or_default());
                }
            }
        }
        presented
    }

    fn check(&self, answer: Result<Option<PresentedToken<'_>>, CredentialError>) {
        match answer {
            Ok(Some(token)) => {
                let token = token.expose_secret().as_bytes();
                assert!((1..=MAX_TOKEN_LENGTH).contains(&token.len()));
                assert!(token.iter().all(u8::is_ascii_graphic));
                assert!(!self.repeated, "one of several values was taken");
                assert!(!self.last_words.is_empty(), "nothing was presented");
                assert!(self.last_words.iter().all(|&word| word == token));
            }
            Ok(None) => {
                assert!(!self.repeated, "several values count as none");
                assert!(self.last_words.is_empty(), "a header was overlooked");
            }
            Err(CredentialError::Repeated) => assert!(self.repeated),
            Err(_) => assert!(self.any, "nothing can be wrong with nothing"),
        }
    }
}

/// Lines `name: value`; a line without a known name is a value of `x-api-key`.
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

/// Inspects `data` as a token, and a good token made from it.
///
/// # Panics
///
/// A text passes for ours without its checksum, one of ours does not, or redaction shows a secret.
pub fn token_format(data: &[u8]) {
    let Ok(acme) = TokenFormat::new("acme_") else {
        panic!("a prefix of the documented form");
    };
    let format = TokenFormat::default().with_accepted_format(&acme);
    check_format(&format, &String::from_utf8_lossy(data));
    let own = own_token(data);
    assert!(
        matches!(format.inspect(&own), TokenShape::WellFormed(_)),
        "{own}"
    );
    check_format(&format, &own);
    // The first byte says where, the second what.
    if let [place, other, ..] = *data {
        let place = usize::from(place) % own.len();
        let mut edited = own.clone().into_bytes();
        edited[place] = 0x21 + other % 94;
        let edited = String::from_utf8_lossy(&edited);
        check_format(&format, &edited);
        let is_own = matches!(format.inspect(&edited), TokenShape::WellFormed(_));
        assert_eq!(is_own, edited == own, "{edited}");
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
    let shown = redacted.strip_suffix("***").expect("a hidden rest");
    assert!(token.starts_with(shown) && shown.ends_with(&format!("{id}_")));
}

/// A token of our form whose digits are taken from `data`.
fn own_token(data: &[u8]) -> String {
    let mut digits = data.iter().map(|byte| char::from(digit((*byte).into())));
    let mut next =
        |count: usize| -> String { (0..count).map(|_| digits.next().unwrap_or('0')).collect() };
    let checked = format!("svctok-{}_{}", next(10), next(24));
    let sum = checksum(checked.as_bytes());
    checked + &sum
}

fn digit(number: u32) -> u8 {
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    digits[usize::try_from(number % 62).expect("below 62")]
}

/// CRC-32/ISO-HDLC bit by bit, as six base62 digits.
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

/// Reads `data` as a digest, and writes digests made from it.
///
/// # Panics
///
/// A digest does not come back from its text, or a text is read that no digest writes.
pub fn digest(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(digest) = text.parse::<TokenDigest>() {
        assert_eq!(digest.to_string(), text.to_ascii_lowercase());
        assert_eq!(TokenDigest::from_bytes(*digest.as_bytes()), digest);
    }
    check_round_trip(&TokenDigest::of(&text));
    let mut bytes = [0; 32];
    for (byte, given) in bytes.iter_mut().zip(data) {
        *byte = *given;
    }
    check_round_trip(&TokenDigest::from_bytes(bytes));
}

fn check_round_trip(digest: &TokenDigest) {
    let text = digest.to_string();
    let upper = format!("sha256:{}", text[7..].to_ascii_uppercase());
    for text in [&text, &upper] {
        let read: TokenDigest = text.parse().expect("a digest's own text");
        assert_eq!(read.as_bytes(), digest.as_bytes(), "{text}");
    }
    for text in [&text[1..], &text[..text.len() - 1], &text[7..]] {
        assert!(text.parse::<TokenDigest>().is_err(), "{text}");
    }
}
