use super::*;

fn origin(text: &str) -> Origin {
    Origin::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn of(target: &str) -> Result<Origin, OriginErrorKind> {
    let uri: Uri = target.parse().expect("a target");
    Origin::of(&uri).map_err(|error| error.kind())
}

#[test]
fn compares_scheme_host_and_port() {
    for same in [
        &[
            "https://api.example",
            "https://API.example:443",
            "HTTPS://api.example/",
        ][..],
        &[
            "http://api.example",
            "http://api.example:80",
            "http://api.example:00080",
        ],
        &["https://api.example:8443"],
        &["https://api.example.net"],
        &["https://api.example."],
        &[
            "https://xn--bcher-kva.example",
            "https://XN--Bcher-KVA.example",
        ],
        &["https://a_b.example"],
        &["https://127.0.0.1"],
        &["http://127.0.0.1:8080", "http://127.0.0.1:8080/"],
        &[
            "https://[::1]",
            "https://[::1]:443",
            "https://[0:0:0:0:0:0:0:1]",
        ],
        &["https://[2001:db8::a]:1", "https://[2001:DB8:0::A]:1"],
        &["https://[::ffff:7f00:1]", "https://[::ffff:127.0.0.1]"],
        &["https://[::ffff:0:0]", "https://[::FFFF:0.0.0.0]"],
        &["https://[2001:db8::1:0:0:1]", "https://[2001:db8:0:0:1::1]"],
    ] {
        let first = origin(same[0]);
        assert_eq!(first.to_string(), same[0]);
        for text in same {
            assert_eq!(origin(text), first, "{text}");
            assert_eq!(text.parse().as_ref(), Ok(&first), "{text}");
            assert_eq!(
                of(&format!("{}/a?b", text.trim_end_matches('/'))).as_ref(),
                Ok(&first)
            );
        }
        let alike = |text: &&str| Origin::new(text).as_ref() == Ok(&first);
        assert_eq!(ALL.iter().filter(|text| alike(text)).count(), 1, "{first}");
    }
}

/// One of each origin above.
const ALL: [&str; 14] = [
    "https://api.example",
    "http://api.example",
    "https://api.example:8443",
    "https://api.example.net",
    "https://api.example.",
    "https://xn--bcher-kva.example",
    "https://a_b.example",
    "https://127.0.0.1",
    "http://127.0.0.1:8080",
    "https://[::1]",
    "https://[2001:db8::a]:1",
    "https://[::ffff:7f00:1]",
    "https://[::ffff:0:0]",
    "https://[2001:db8::1:0:0:1]",
];

#[test]
fn rejects_texts_that_are_not_origins() {
    use OriginErrorKind::*;
    for (text, kind) in [
        ("", Scheme),
        ("/", Scheme),
        ("api.example", Scheme),
        ("api.example:443", Scheme),
        ("//api.example", Scheme),
        ("ftp://api.example", Scheme),
        ("https:api.example", Scheme),
        (" https://api.example", Scheme),
        ("\u{feff}https://api.example", Scheme),
        ("https://user@api.example", UserInfo),
        ("https://user:hush@api.example/v1", UserInfo),
        ("https://api.example@evil.example", UserInfo),
        ("https://", Host),
        ("https:///v1", Host),
        ("https://:443", Host),
        ("https://api example", Host),
        ("https://api.example ", Host),
        ("https://api.example\n", Host),
        ("https://api..example", Host),
        ("https://-api.example", Host),
        ("https://*.example", Host),
        ("https://api%2eexample", Host),
        ("https://a.example,b.example", Host),
        ("https://256.0.0.1", Host),
        ("https://127.1", Host),
        ("https://2130706433", Host),
        ("https://127.0.0.01", Host),
        ("https://0x7f000001", Host),
        ("https://127.0X1", Host),
        ("https://127.0x", Host),
        ("https://::1", Host),
        ("https://[::1", Host),
        ("https://[::1]x:443", Host),
        ("https://[::1].api.example", Host),
        ("https://[127.0.0.1]", Host),
        ("https://[api.example]", Host),
        ("https://[fe80::1%25eth0]", Host),
        ("https://b\u{fc}cher.example", NonAsciiHost),
        ("https://api.example\u{200b}", NonAsciiHost),
        ("https://api\u{3002}example", NonAsciiHost),
        ("https://api.example:", Port),
        ("https://api.example:0", Port),
        ("https://api.example:65536", Port),
        ("https://api.example:+1", Port),
        ("https://api.example:443:443", Port),
        ("https://api.example:https", Port),
        ("https://[::1]:99999", Port),
        ("https://api.example/v1", Path),
        ("https://api.example//", Path),
        ("https://api.example?a", Path),
        ("https://api.example/#", Path),
        ("https://api.example#a", Path),
        ("https://api.example\\", Path),
    ] {
        let error = Origin::new(text).expect_err(text);
        assert_eq!(error.kind(), kind, "{text}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[test]
fn ambiguous_targets_have_no_origin() {
    use OriginErrorKind::*;
    for (target, kind) in [
        ("/a", Scheme),
        ("*", Scheme),
        ("api.example:443", Scheme),
        ("ftp://api.example/", Scheme),
        ("https://user@api.example/", UserInfo),
        ("https://api.example:65536/", Port),
        ("https://api.example:/", Port),
        ("https://[::1]8080:443/", Host),
        ("https://127.1/", Host),
    ] {
        assert_eq!(of(target), Err(kind), "{target}");
    }
}

#[cfg(feature = "api")]
#[test]
fn authorities_have_the_host_and_the_port() {
    for (url, authority, expected) in [
        ("https://api.example", "api.example", true),
        ("https://api.example", "API.example", true),
        ("https://api.example", "api.example:443", true),
        ("https://api.example", "api.example:80", false),
        ("https://api.example", "api.example.", false),
        ("https://api.example", "evil.example", false),
        ("https://api.example", "user@api.example", false),
        ("https://api.example", "api.example/", false),
        ("https://api.example", "https://api.example", false),
        ("https://api.example", "", false),
        ("http://api.example", "api.example", true),
        ("http://api.example", "api.example:80", true),
        ("http://api.example", "api.example:443", false),
        ("https://api.example:8443", "api.example:8443", true),
        ("https://api.example:8443", "api.example", false),
        ("http://[::1]:80", "[0:0:0:0:0:0:0:1]", true),
        ("https://[::ffff:7f00:1]", "[::ffff:127.0.0.1]", true),
        ("https://[::ffff:7f00:1]", "127.0.0.1", false),
    ] {
        let decided = origin(url).has_authority(authority);
        assert_eq!(decided, expected, "{url} {authority:?}");
    }
}
