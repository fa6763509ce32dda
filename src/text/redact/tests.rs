use super::*;

#[test]
fn redacts_whole_cut_and_damaged_tokens_of_any_prefix() {
    for (text, shown) in [
        (
            "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
            "svctok-***",
        ),
        ("/a/svctok-7Hq2mX9bTe_Zk3/rotate", "/a/svctok-***/rotate"),
        ("x-SVCTOK-7HQ2MX9BTE_Z?y", "x-SVCTOK-***?y"),
        ("svctok-7Hq2mX9bTe-Zk3vN8pR1sYdQ6wLfGc5uJtA", "svctok-***"),
        (
            "(acme_7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n)",
            "(acme_7Hq2mX9bTe_***)",
        ),
        (
            "a-b-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wL.json",
            "a-b-7Hq2mX9bTe_***.json",
        ),
        ("svctok%2D7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfG", "svctok%2D***"),
        (
            "svctok-7Hq2mX9bTe%5FZk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
            "svctok-***",
        ),
        ("svctok%2D7Hq2mX9bTe%5fZk3vN8pR1sYdQ6wLfG", "svctok%2D***"),
        (
            "7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
            "7Hq2mX9bTe_***",
        ),
        (
            "é svctok-7Hq2mX9bTe_Z, é acme_7Hq2mX9bTe_Zk3vN8pR1sYdQ6wL é",
            "é svctok-***, é acme_7Hq2mX9bTe_*** é",
        ),
    ] {
        assert_eq!(redact_tokens(text), shown, "{text}");
        assert!(has_token(text), "{text}");
        assert_eq!(redact_tokens(shown), shown);
    }
}

#[test]
fn time_grows_with_the_length_of_the_text() {
    for part in ["svctok-", "a123456789_", "svctok-a123456789_"] {
        let text = part.repeat(100_000);
        assert_eq!(has_token(&text), part.len() > 12, "{part}");
    }
}

#[test]
fn keeps_ids_hints_names_and_request_ids() {
    for text in [
        "",
        "7Hq2mX9bTe",
        "svctok-7Hq2mX9bTe_***",
        "svctok-7Hq2mX9bTe",
        "svctok-service-token-create.1",
        "/srv/svctok-production-database.db",
        "0af7651916cd43dd8448eb211c80319c",
        "build_0af7651916cd43dd8448eb211c80319c",
        "9f3c1e52-8a4e-4c55-9b0f-2a9d7c2f7c11",
        "invalid_authorization_specification",
        "constraint internationalization_internationalization",
        "tower_service_token::audit",
    ] {
        assert_eq!(redact_tokens(text), text);
        assert!(!has_token(text), "{text}");
    }
}

#[test]
fn redacts_secrets_without_an_id() {
    const SECRET: &str = "Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
    for (text, shown) in [
        (SECRET.to_owned(), "***"),
        (format!("_{SECRET}"), "_***"),
        (
            format!("/service-tokens/{SECRET}/rotate"),
            "/service-tokens/***/rotate",
        ),
        (format!("m9bTe_{SECRET}x, the rest"), "m9bTe_***, the rest"),
    ] {
        assert_eq!(redact_tokens(&text), shown);
        assert_eq!(redact_tokens(shown), shown);
        // An opaque token of another system may look so.
        assert!(!has_token(&text), "{text}");
    }
}

#[test]
fn redacts_secrets_with_slashes_encoding_and_invisible_characters() {
    const TOKEN: &str = "7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
    for inserted in [
        "/",
        "%2F",
        "\u{200d}",
        "\u{200b}",
        "\u{e0041}",
        "\\u{200d}",
        "\\u200d",
        "%E2%80%8D",
    ] {
        for prefix in ["svctok-", "acme_"] {
            let token = format!("{prefix}{TOKEN}");
            for at in 0..=token.len() {
                let text = format!("GET /a/{}{inserted}{}", &token[..at], &token[at..]);
                let shown = redact_tokens(&text);
                let secret = prefix.len() + 11;
                let (left, right) = token[secret..].split_at(at.saturating_sub(secret).min(30));
                for part in [left, right].into_iter().filter(|part| part.len() >= 4) {
                    assert!(!shown.contains(part), "{text}: {shown}");
                }
                assert!(shown.starts_with("GET /a/"), "{shown}");
            }
        }
    }
    let twice = "svctok-7Hq2mX9bTe_Zk3vN8pR/1sYdQ6wLfG/c5uJtA1YrM0n/rotate";
    assert_eq!(redact_tokens(twice), "svctok-***/rotate");
    let encoded = "svctok%2d7Hq2mX9bTe%5F%5Ak3vN8pR1sYdQ6wLfGc5uJtA1YrM0n%20x";
    assert_eq!(redact_tokens(encoded), "svctok%2d***%20x");
}

#[test]
fn redacts_secrets_between_slashes() {
    const SECRET: &str = "Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
    for slash in ["/", "//", "/./", "%2F", "%2f%2F", "%252F", "\\/", "\\u002f"] {
        for at in 1..SECRET.len() {
            let (left, right) = SECRET.split_at(at);
            let text = format!("/keys/{left}{slash}{right}/rotate");
            assert_eq!(redact_tokens(&text), "/keys/***/rotate", "{text}");
            for prefix in ["svctok-7Hq2mX9bTe_", "acme_7Hq2mX9bTe_"] {
                let text = format!("/keys/{prefix}{left}{slash}{right}/rotate");
                let shown = redact_tokens(&text);
                for part in [left, right].into_iter().filter(|part| part.len() >= 4) {
                    assert!(!shown.contains(part), "{text}: {shown}");
                }
                assert!(shown.ends_with("/rotate"), "{text}: {shown}");
            }
        }
    }
}

#[test]
fn redacts_the_rest_of_a_token_behind_other_separators() {
    for separator in [
        ".", "+", ",", ":", " ", "%20", "%2E", "%253A", ", ", "=", "~",
    ] {
        let text = format!("svctok-7Hq2mX9bTe_Zk3vN8pR1s{separator}YdQ6wLfGc5uJtA1YrM0n, the end");
        assert_eq!(redact_tokens(&text), "svctok-***, the end", "{text}");
        let ordinary = format!("svctok-7Hq2mX9bTe_Zk3vN8pR1s{separator}Unauthorized or not");
        let shown = format!("svctok-***{separator}Unauthorized or not");
        assert_eq!(redact_tokens(&ordinary), shown);
    }
    let whole = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n: 7Hq2mX9bTe";
    assert_eq!(redact_tokens(whole), "svctok-***: 7Hq2mX9bTe");
}

#[test]
fn encoding_does_not_hide_secrets() {
    for text in [
        "svctok%252D7Hq2mX9bTe%25255FZk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
        "acme%255f7Hq2mX9bTe%255FZk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
        "Zk3vN8pR1sYdQ6\\u0077LfGc5uJtA1YrM0n",
        "\\u005Ak3vN8pR1sYdQ6\\u{77}LfGc5uJtA1YrM0n",
        "Zk3vN8pR1sYdQ6%77LfGc5uJtA1YrM0n",
        "Zk3vN8pR1sYdQ6%2577LfGc5uJtA1YrM0n",
    ] {
        let shown = redact_tokens(text);
        assert!(shown.ends_with("***"), "{text}: {shown}");
        assert!(!shown.contains("LfGc5uJtA1YrM0n"), "{text}: {shown}");
    }
}

#[test]
fn keeps_paths_behind_ids_and_tokens() {
    for text in [
        "/service-tokens/7Hq2mX9bTe/rotate",
        "/srv/production_data/Release2024Build77Final",
        "/hints/svctok-7Hq2mX9bTe_***/7Hq2mX9bTe",
        "caf%C3%A9 100% \\u{1b}[31m \\n \u{200d}\u{1f4bb}",
        "0af7651916cd43dd8448eb211c80319c0af7651916cd43dd8448eb211c80319c",
        "TheNameOfAVeryLongTypeWithoutDigits",
        "/repositories/Build2024/release",
        "/v1/organizations/7Hq2mX9bTe/projects",
        "/srv/TheNameOfALongFolder/WithoutAny",
        "50%25 of 100%2525 and %25zz",
    ] {
        assert_eq!(redact_tokens(text), text);
    }
    let whole = "/svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n/7Hq2mX9bTe";
    assert_eq!(redact_tokens(whole), "/svctok-***/7Hq2mX9bTe");
}
