//! Compares `CredentialSources` with a simple reference model of the HTTP contract.

use std::cell::RefCell;
use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use regex::bytes::Regex;
use tower_service_token::header::{CredentialError, CredentialSources, TokenHeader, X_API_KEY};
use tower_service_token::token::TokenFormat;

const X_CUSTOM: HeaderName = HeaderName::from_static("x-custom-token");

/// The settings of the sources, in the terms of the contract.
#[derive(Clone, Debug)]
struct Settings {
    api_key: bool,
    bearer: bool,
    /// Bearer tokens that do not contain the prefix `svctok-`, and JWTs, are for another middleware.
    bearer_of_format: bool,
    headers: Vec<HeaderName>,
    max_token_length: usize,
}

impl Settings {
    fn standard() -> Self {
        Self {
            api_key: true,
            bearer: false,
            bearer_of_format: false,
            headers: vec![X_API_KEY],
            max_token_length: 512,
        }
    }

    fn with_bearer(self) -> Self {
        Self {
            bearer: true,
            ..self
        }
    }

    fn with_bearer_of_format(self) -> Self {
        Self {
            bearer_of_format: true,
            ..self.with_bearer()
        }
    }

    fn only(headers: &[HeaderName]) -> Self {
        Self {
            api_key: false,
            headers: headers.to_vec(),
            ..Self::standard()
        }
    }

    fn sources(&self) -> CredentialSources {
        let mut sources = CredentialSources::none().with_max_token_length(self.max_token_length);
        if self.api_key {
            sources = sources.accept_api_key();
        }
        if self.bearer_of_format {
            sources = sources.accept_bearer_of(TokenFormat::default());
        } else if self.bearer {
            sources = sources.accept_bearer();
        }
        self.headers.iter().fold(sources, |sources, name| {
            sources.with_header(TokenHeader::new(name.clone()).expect("a bare header"))
        })
    }
}

/// The results that the contract allows for one request. It allows several errors where it does not
/// define which one takes precedence.
#[derive(Debug, PartialEq, Eq)]
enum Expectation {
    Token(Option<Vec<u8>>),
    Errors(Vec<CredentialError>),
}

/// The contract as a grammar, with one regular expression for each form of a value.
struct Model {
    api_key: Regex,
    bearer: Regex,
    accepted_schemes: [Regex; 2],
    /// A bearer token that is or was one of the service.
    own_bearer: Regex,
    jwt: Regex,
    any_scheme: Regex,
    bare: Regex,
}

impl Model {
    fn new() -> Self {
        let credentials = |scheme: &str| {
            regex(&format!(
                r"^[ \t]*(?i:{scheme})[ ]+(?<token>[\x21-\x7e]+)[ \t]*$"
            ))
        };
        let scheme = |scheme: &str| regex(&format!(r"^[ \t]*(?i:{scheme})([ ].*)?[ \t]*$"));
        Self {
            api_key: credentials("apikey"),
            bearer: credentials("bearer"),
            accepted_schemes: [scheme("apikey"), scheme("bearer")],
            own_bearer: regex(r"^[ \t]*(?i:bearer)[ ]+[^ ]*(?i:svctok-)"),
            jwt: regex(
                r"^[ \t]*(?i:bearer)[ ]+e(?:y[A-DI-L]|w[0-3k-r])[\w-]*(?:(?:\.[\w-]*){2}|(?:\.[\w-]*){4})[ \t]*$",
            ),
            any_scheme: scheme(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"),
            bare: regex(r"^[ \t]*(?<token>[\x21-\x7e]+)[ \t]*$"),
        }
    }

    fn expected(&self, settings: &Settings, headers: &HeaderMap) -> Expectation {
        let mut errors = Vec::new();
        let mut tokens = Vec::new();
        let mut sources = settings.headers.clone();
        if settings.api_key || settings.bearer {
            sources.push(AUTHORIZATION);
        }
        for name in sources {
            let values: Vec<&HeaderValue> = headers.get_all(&name).iter().collect();
            match values[..] {
                [] => {}
                [value] => match self.expected_for_value(settings, &name, value.as_bytes()) {
                    Expectation::Token(token) => tokens.extend(token),
                    Expectation::Errors(value_errors) => errors.extend(value_errors),
                },
                _ => errors.push(CredentialError::Repeated),
            }
        }
        tokens.sort();
        tokens.dedup();
        if tokens.len() > 1 {
            errors.push(CredentialError::Conflicting);
        }
        if errors.is_empty() {
            Expectation::Token(tokens.pop())
        } else {
            Expectation::Errors(errors)
        }
    }

    fn expected_for_value(
        &self,
        settings: &Settings,
        name: &HeaderName,
        value: &[u8],
    ) -> Expectation {
        let grammar = if name != AUTHORIZATION {
            &self.bare
        } else if settings.api_key && self.accepted_schemes[0].is_match(value) {
            &self.api_key
        } else if settings.bearer && self.accepted_schemes[1].is_match(value) {
            &self.bearer
        } else if self.any_scheme.is_match(value) {
            return Expectation::Token(None);
        } else {
            return Expectation::Errors(vec![CredentialError::Malformed]);
        };
        let is_bearer = name == AUTHORIZATION && self.accepted_schemes[1].is_match(value);
        let is_own = self.own_bearer.is_match(value) && !self.jwt.is_match(value);
        match grammar.captures(value) {
            Some(_) if settings.bearer_of_format && is_bearer && !is_own => {
                Expectation::Token(None)
            }
            Some(found) if found["token"].len() <= settings.max_token_length => {
                Expectation::Token(Some(found["token"].to_vec()))
            }
            Some(_) => Expectation::Errors(vec![CredentialError::TooLong]),
            // A malformed value that exceeds the maximum length may get either error.
            None if value.len() > settings.max_token_length => {
                Expectation::Errors(vec![CredentialError::Malformed, CredentialError::TooLong])
            }
            None => Expectation::Errors(vec![CredentialError::Malformed]),
        }
    }

    /// Fails unless the contract allows the crate's result. Returns a name for the result.
    fn compare(&self, settings: &Settings, headers: &HeaderMap) -> Result<String, TestCaseError> {
        let sources = settings.sources();
        let read = sources.read(headers);
        let outcome = match &read {
            Ok(Some(_)) => "a token".to_owned(),
            Ok(None) => "none".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        match (self.expected(settings, headers), read) {
            (Expectation::Token(expected), Ok(token)) => {
                let token = token.map(|token| token.expose_secret().as_bytes().to_vec());
                prop_assert_eq!(token, expected, "{:?}", headers);
            }
            (Expectation::Errors(expected), Err(error)) => {
                prop_assert!(
                    expected.contains(&error),
                    "{error:?} is not one of {expected:?}"
                );
            }
            (expected, read) => prop_assert!(false, "{read:?} instead of {expected:?}"),
        }
        Ok(outcome)
    }
}

fn regex(pattern: &str) -> Regex {
    Regex::new(&format!("(?s-u){pattern}")).expect("a regular expression")
}

fn headers(lines: &[(HeaderName, Vec<u8>)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_bytes(value).expect("valid header bytes");
        headers.append(name.clone(), value);
    }
    headers
}

fn bytes(choices: &[&str]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let choices: Vec<Vec<u8>> = choices.iter().map(|text| text.as_bytes().into()).collect();
    select(choices)
}

/// Generates bytes that a header value can contain, with a high share of unusual ones.
fn header_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => 0x21..=0x7e_u8,
        1 => Just(b' '),
        1 => Just(b'\t'),
        2 => 0x80..=0xff_u8,
    ]
}

/// Generates few different tokens, so that two sources often contain the same one.
fn token() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => bytes(&["alpha", "alpha", "beta", "x", "a,b", "alpha=", "svctok-0=="]),
        2 => bytes(&["svctok-", "Svctok-1", "\"svctok-0==\"", "svcto", "ssvctok-0=="]),
        2 => bytes(&["eyJ.e30.Svctok-x", "ewo.svctok-a", "eyJ.a.svctok-.b.", "eyJ.a.b.svctok-.c.d", "eyJ.svctok-=.c", "eyE.svctok-.c"]),
        1 => select(vec![vec![b'k'; 511], vec![b'k'; 512], vec![b'k'; 513], vec![b'k'; 600]]),
        1 => select(vec![[b"svctok-", &[b'k'; 505][..]].concat(), [b"svctok-", &[b'k'; 506][..]].concat()]),
        1 => vec(0x21..=0x7e_u8, 1..20),
    ]
}

fn padding() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => Just(Vec::new()),
        1 => bytes(&[" ", "   ", "\t", " \t "]),
    ]
}

fn junk() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => Just(Vec::new()),
        1 => bytes(&[" junk", ", ApiKey beta", ",alpha", "\tjunk", " \u{e9}"]),
        1 => vec(header_byte(), 1..4),
    ]
}

fn bare_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (padding(), token(), junk(), padding()).prop_map(|(a, b, c, d)| [a, b, c, d].concat()),
        1 => padding(),
        1 => vec(header_byte(), 0..12),
    ]
}

fn authorization_value() -> impl Strategy<Value = Vec<u8>> {
    let scheme = prop_oneof![
        6 => bytes(&["ApiKey", "apikey", "APIKEY", "aPiKeY"]),
        3 => bytes(&["Bearer", "bearer", "BEARER"]),
        3 => bytes(&["Basic", "Negotiate", "ApiKeys", "Api-Key", "x"]),
        1 => bytes(&["", "Api Key", "ApiKey:", "ApiKey=", "\"ApiKey\"", "Api\u{212a}ey"]),
    ];
    let gap = prop_oneof![
        6 => bytes(&[" ", " ", "  ", "     "]),
        1 => bytes(&["", "\t", " \t", "\t "]),
    ];
    prop_oneof![
        10 => (padding(), scheme, gap, prop_oneof![12 => token(), 1 => Just(Vec::new())], junk(), padding())
            .prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f].concat()),
        1 => padding(),
        1 => vec(header_byte(), 0..12),
    ]
}

fn line() -> impl Strategy<Value = (HeaderName, Vec<u8>)> {
    prop_oneof![
        4 => authorization_value().prop_map(|value| (AUTHORIZATION, value)),
        3 => bare_value().prop_map(|value| (X_API_KEY, value)),
        2 => bare_value().prop_map(|value| (X_CUSTOM, value)),
        1 => bare_value().prop_map(|value| (COOKIE, value)),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let custom = Settings {
        headers: vec![X_CUSTOM, X_API_KEY],
        ..Settings::standard()
    };
    let short = Settings {
        max_token_length: 5,
        ..Settings::standard().with_bearer()
    };
    select(vec![
        Settings::standard(),
        Settings::standard(),
        Settings::standard().with_bearer(),
        Settings::only(&[]),
        Settings::only(&[]).with_bearer(),
        Settings::only(&[X_CUSTOM]),
        custom.clone(),
        custom.clone().with_bearer(),
        custom.with_bearer_of_format(),
        Settings::standard().with_bearer_of_format(),
        short,
    ])
}

#[test]
fn generated_headers_match_the_reference_model() {
    const CASES: u32 = 20_000;
    let model = Model::new();
    let outcomes = RefCell::new(BTreeMap::<String, u32>::new());
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&(settings(), vec(line(), 0..4)), |(settings, lines)| {
            let outcome = model.compare(&settings, &headers(&lines))?;
            *outcomes.borrow_mut().entry(outcome).or_default() += 1;
            Ok(())
        })
        .unwrap();
    let outcomes = outcomes.into_inner();
    for outcome in [
        "a token",
        "none",
        "Repeated",
        "Conflicting",
        "Malformed",
        "TooLong",
    ] {
        let count = outcomes.get(outcome).copied().unwrap_or_default();
        assert!(count > CASES / 200, "too few {outcome} in {outcomes:?}");
    }
}

#[test]
fn short_values_match_the_reference_model() {
    let model = Model::new();
    let all_settings = [
        Settings::standard(),
        Settings::only(&[X_API_KEY]).with_bearer(),
        Settings::standard().with_bearer_of_format(),
    ];
    let allowed: Vec<u8> = (0..=u8::MAX)
        .filter(|&byte| HeaderValue::from_bytes(&[byte]).is_ok())
        .collect();
    assert!((0x80..=0xff).all(|byte| allowed.contains(&byte)) && allowed.contains(&b'\t'));
    let short = allowed.iter().map(|&byte| vec![byte]);
    let pairs = allowed
        .iter()
        .flat_map(|&a| allowed.iter().map(move |&b| vec![a, b]));
    for value in short.chain(pairs) {
        for (name, before, after) in [
            (X_API_KEY, "", ""),
            (X_API_KEY, "a", "z"),
            (AUTHORIZATION, "", ""),
            (AUTHORIZATION, "ApiKey", "z"),
            (AUTHORIZATION, "bearer ", ""),
        ] {
            let text = [before.as_bytes(), &value, after.as_bytes()].concat();
            let headers = headers(&[(name, text)]);
            for settings in &all_settings {
                if let Err(error) = model.compare(settings, &headers) {
                    panic!("{headers:?} with {settings:?}: {error}");
                }
            }
        }
    }
}

type Expected = Result<Option<&'static str>, CredentialError>;

/// The contract's rows for the default sources.
const DEFAULT_SOURCES: &[(&[(&str, &str)], Expected)] = &[
    // 1. Sources.
    (&[], Ok(None)),
    (&[("authorization", "ApiKey t1")], Ok(Some("t1"))),
    (&[("x-api-key", "t1")], Ok(Some("t1"))),
    (&[("authorization", "Bearer t1")], Ok(None)),
    (&[("cookie", "x-api-key=t1")], Ok(None)),
    (&[("proxy-authorization", "ApiKey t1")], Ok(None)),
    // 2. Scheme names, spaces, and text after the token.
    (&[("authorization", "aPIkEY t1")], Ok(Some("t1"))),
    (&[("authorization", "ApiKey    t1")], Ok(Some("t1"))),
    (&[("authorization", " \tApiKey t1\t ")], Ok(Some("t1"))),
    (&[("x-api-key", "\t t1 \t")], Ok(Some("t1"))),
    (
        &[("authorization", "ApiKey \tt1")],
        Err(CredentialError::Malformed),
    ),
    (
        &[("authorization", "ApiKey\tt1")],
        Err(CredentialError::Malformed),
    ),
    (
        &[("authorization", "ApiKey t1 t2")],
        Err(CredentialError::Malformed),
    ),
    (
        &[("authorization", "ApiKey t1, ApiKey t1")],
        Err(CredentialError::Malformed),
    ),
    (&[("x-api-key", "t1 t2")], Err(CredentialError::Malformed)),
    (&[("x-api-key", "t1, t1")], Err(CredentialError::Malformed)),
    // A comma is an ordinary visible character, so this is one token.
    (&[("x-api-key", "t1,t1")], Ok(Some("t1,t1"))),
    // 3. Malformed is not absent.
    (&[("authorization", "")], Err(CredentialError::Malformed)),
    (&[("authorization", " \t")], Err(CredentialError::Malformed)),
    (
        &[("authorization", "ApiKey")],
        Err(CredentialError::Malformed),
    ),
    (
        &[("authorization", "ApiKey ")],
        Err(CredentialError::Malformed),
    ),
    (
        &[("authorization", "ApiKey=t1")],
        Err(CredentialError::Malformed),
    ),
    (
        &[("authorization", "ApiKey \u{e9}")],
        Err(CredentialError::Malformed),
    ),
    (
        &[("authorization", "\u{e9} t1")],
        Err(CredentialError::Malformed),
    ),
    (&[("x-api-key", "")], Err(CredentialError::Malformed)),
    (&[("x-api-key", "t\u{e9}")], Err(CredentialError::Malformed)),
    // 4. Repeated, conflicting and equal tokens.
    (
        &[("x-api-key", "t1"), ("x-api-key", "t1")],
        Err(CredentialError::Repeated),
    ),
    (
        &[("authorization", "ApiKey t1"), ("authorization", "Basic b")],
        Err(CredentialError::Repeated),
    ),
    (
        &[("authorization", "Basic b"), ("authorization", "Basic b")],
        Err(CredentialError::Repeated),
    ),
    (
        &[("authorization", "ApiKey t1"), ("x-api-key", "t2")],
        Err(CredentialError::Conflicting),
    ),
    (
        &[("authorization", "ApiKey t1"), ("x-api-key", "T1")],
        Err(CredentialError::Conflicting),
    ),
    (
        &[("authorization", "ApiKey t1"), ("x-api-key", " t1")],
        Ok(Some("t1")),
    ),
    // A valid token in one header does not excuse a malformed value in another.
    (
        &[("authorization", "ApiKey t1"), ("x-api-key", "")],
        Err(CredentialError::Malformed),
    ),
    (
        &[("authorization", "ApiKey"), ("x-api-key", "t1")],
        Err(CredentialError::Malformed),
    ),
    // 5. Another scheme is absent.
    (&[("authorization", "Basic b, c")], Ok(None)),
    (&[("authorization", "Basic")], Ok(None)),
    (&[("authorization", "ApiKeys t1")], Ok(None)),
    (&[("authorization", "Basic \u{e9}")], Ok(None)),
    (
        &[("authorization", "Basic b"), ("x-api-key", "t1")],
        Ok(Some("t1")),
    ),
];

fn text_headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let lines: Vec<_> = lines
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.as_bytes().to_vec()))
        .collect();
    headers(&lines)
}

fn read(
    sources: &CredentialSources,
    headers: &HeaderMap,
) -> Result<Option<String>, CredentialError> {
    let token = sources.read(headers)?;
    Ok(token.map(|token| token.expose_secret().to_owned()))
}

#[test]
fn default_sources_match_the_table() {
    let model = Model::new();
    for (lines, expected) in DEFAULT_SOURCES {
        let headers = text_headers(lines);
        let expected = expected.map(|token| token.map(str::to_owned));
        assert_eq!(
            read(&CredentialSources::default(), &headers),
            expected,
            "{lines:?}"
        );
        if let Err(error) = model.compare(&Settings::standard(), &headers) {
            panic!("the model differs on {lines:?}: {error}");
        }
    }
}

#[test]
fn rejects_tokens_longer_than_the_maximum() {
    for (maximum, longest) in [(None, 512), (Some(600), 600), (Some(1), 1)] {
        let mut sources = CredentialSources::default();
        if let Some(maximum) = maximum {
            sources = sources.with_max_token_length(maximum);
        }
        for (length, is_accepted) in [(longest, true), (longest + 1, false)] {
            let token = "k".repeat(length);
            let expected = if is_accepted {
                Ok(Some(token.clone()))
            } else {
                Err(CredentialError::TooLong)
            };
            // The scheme and white space do not count towards the length.
            let authorization = format!("  ApiKey     {token}  ");
            let x_api_key = format!(" {token}\t");
            let headers = text_headers(&[("authorization", &authorization)]);
            assert_eq!(read(&sources, &headers), expected, "{length} of {longest}");
            let headers = text_headers(&[("x-api-key", &x_api_key)]);
            assert_eq!(read(&sources, &headers), expected, "{length} of {longest}");
        }
    }
}

#[test]
fn reads_bearer_and_custom_headers_when_enabled() {
    let bearer = text_headers(&[("authorization", "bEARER t1")]);
    let sources = CredentialSources::default().accept_bearer();
    assert_eq!(read(&sources, &bearer), Ok(Some("t1".into())));
    let api_key = text_headers(&[("authorization", "ApiKey t1")]);
    assert_eq!(read(&sources, &api_key), Ok(Some("t1".into())));
    let only_bearer = sources.without_api_key();
    assert_eq!(read(&only_bearer, &api_key), Ok(None));

    let custom =
        CredentialSources::none().with_header(TokenHeader::new(X_CUSTOM).expect("a bare header"));
    let lines = [("x-custom-token", "t1"), ("x-api-key", "t2")];
    assert_eq!(
        read(&custom, &text_headers(&lines)),
        Ok(Some("t1".into())),
        "a header that is not read does not conflict"
    );
    let both = CredentialSources::default()
        .with_header(TokenHeader::new(X_CUSTOM).expect("a bare header"));
    assert_eq!(
        read(&both, &text_headers(&lines)),
        Err(CredentialError::Conflicting)
    );
}

/// The token of the documentation, and what happens to tokens on the way.
#[test]
fn damaged_bearer_tokens_of_the_format_are_not_absent() {
    const BODY: &str = "7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
    let token = format!("svctok-{BODY}");
    let sources = CredentialSources::default().accept_bearer_of(TokenFormat::default());
    let read_bearer = |bearer: &str| {
        let headers = text_headers(&[("authorization", &format!("Bearer {bearer}"))]);
        read(&sources, &headers)
    };
    for damaged in [
        format!("{token},"),
        format!("{token};"),
        format!("{token}\\n"),
        format!("{token}%0A"),
        format!("\"{token}\""),
        format!("<{token}>"),
        format!("%22{token}%22"),
        format!("%E2%80%8B{token}"),
        format!("x{token}"),
        format!("token={token}"),
        format!("Bearer:{token}"),
        format!("{token}{token}"),
        format!("null{token}"),
        format!("eyJ{token}"),
        format!("{token}.e30.c2ln"),
        format!("eyJ.{token}"),
        token.to_uppercase(),
        token.replace('_', "-"),
        token[..20].to_owned(),
        "SvcTok-".to_owned(),
        // The prefix is damaged, and the rest is not.
        token[1..].to_owned(),
        BODY.to_owned(),
        format!("svctok%2D{BODY}"),
        format!("svctok_{BODY},"),
        format!("Svctok{BODY}"),
    ] {
        assert_eq!(read_bearer(&damaged), Ok(Some(damaged.clone())));
    }
    for unreadable in [
        format!("\u{200b}{token}"),
        format!("{token}\u{a0}"),
        format!("\u{ff02}{token}"),
        format!("{token} {token}"),
        format!("{token}, x"),
        "svctok\u{2010}7Hq2mX9bTe".to_owned(),
    ] {
        let error = Err(CredentialError::Malformed);
        assert_eq!(read_bearer(&unreadable), error, "{unreadable}");
    }
    for foreign in [
        "eyJhbGciOiJFUzI1NiJ9.e30.c2ln".to_owned(),
        "ewogImFsZyI6Im5vbmUiIH0.e30.".to_owned(),
        "eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn".to_owned(),
        // A random signature with the prefix.
        "eyJhbGciOiJFUzI1NiJ9.e30.c2lSVCTOK-n".to_owned(),
        format!("eyJhbGciOiJFUzI1NiJ9.e30.{}", "svctok-".repeat(100)),
        "v4.public.c2ln".to_owned(),
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a".to_owned(),
        "github_pat_11ABCDEFG0abc123DEF456_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n".to_owned(),
        "svctok".to_owned(),
        // Another checksum, so the token of another prefix.
        BODY.replace("M0n", "M0o"),
        format!("acme_{}", BODY.replace("M0n", "M0o")),
    ] {
        assert_eq!(read_bearer(&foreign), Ok(None), "{foreign}");
    }
}

#[test]
fn last_call_decides_which_bearer_tokens_are_read() {
    let headers = text_headers(&[("authorization", "Bearer eyJ.e30.")]);
    let format = TokenFormat::default();
    let all = CredentialSources::default()
        .accept_bearer_of(format.clone())
        .accept_bearer();
    assert_eq!(read(&all, &headers), Ok(Some("eyJ.e30.".into())));
    let own = all.accept_bearer_of(format);
    assert_eq!(read(&own, &headers), Ok(None));
}

#[test]
fn reads_nothing_without_sources() {
    for (lines, _) in DEFAULT_SOURCES {
        let headers = text_headers(lines);
        assert_eq!(read(&CredentialSources::none(), &headers), Ok(None));
    }
}

#[test]
fn rejects_headers_with_their_own_syntax_as_sources() {
    for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
        let error = TokenHeader::new(name.clone()).expect_err("a header with its own syntax");
        assert!(error.to_string().contains(name.as_str()), "{error}");
    }
    assert_eq!(TokenHeader::new(X_API_KEY), Ok(TokenHeader::X_API_KEY));
}
