//! Files that are rejected, and the errors for them.

use std::error::Error;

use tower_service_token::store::file::{FileStoreError, FileStoreErrorKind};

use super::*;

/// A secret that the file contains by mistake.
const UNRELATED_SECRET: &str = "hunter2-swordfish";
/// A secret that has the format of a token.
const SECRET: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";

fn open_error(name: &str, text: &str) -> FileStoreError {
    let folder = Folder::new();
    let path = folder.write(name, text);
    let error = FileStore::open(&path).expect_err(text);
    assert_eq!(error.path(), path);
    assert_hides_content(&error, text);
    error
}

/// Asserts that the error contains no value of the file.
fn assert_hides_content(error: &FileStoreError, text: &str) {
    let source = error.source();
    let output = format!("{error} {error:?} {error:#?} {source:?}");
    for secret in [UNRELATED_SECRET, SECRET, "7Hq2mX9bTe", "Zk3vN8pR"] {
        assert!(!output.contains(secret), "{output}");
    }
    let hex = text.split(|char: char| !char.is_ascii_hexdigit());
    for digits in hex.filter(|digits| digits.len() >= 16) {
        assert!(!output.contains(digits), "{output}");
    }
}

/// Returns the message of the error without the path.
fn message(error: &FileStoreError) -> String {
    let start = format!("the token file {}: ", error.path().display());
    let text = error.to_string();
    text.strip_prefix(&start).expect(&text).to_owned()
}

fn assert_rejected(name: &str, text: &str, kind: FileStoreErrorKind, expected: &str) {
    let error = open_error(name, text);
    assert_eq!(message(&error), expected, "{text}");
    assert_eq!(error.kind(), kind, "{text}");
}

/// Returns a file with two tokens. The second one has its digest on line 4 and `field` on line 5.
fn with_second_token(field: &str) -> String {
    toml_with_token("first", "") + &toml_with_token("second", field)
}

const INVALID_TEXT: &str = "must not be empty or contain control characters";
const INVALID_SCOPE: &str = "must consist of visible ASCII characters without '\"' and '\\'";
const INVALID_STATE: &str = "must be active, disabled or revoked";

/// A field, an invalid value and the error. The test replaces `UNRELATED_SECRET` by a secret.
const INVALID_VALUES: &[(&str, &str, &str)] = &[
    (
        "id",
        r#""UNRELATED_SECRET""#,
        "must be ten characters of 0-9, A-Z and a-z",
    ),
    ("id", "7", "must be a string"),
    ("name", r#"["UNRELATED_SECRET"]"#, "must be a string"),
    ("name", r#""""#, INVALID_TEXT),
    (
        "name",
        r#""UNRELATED_SECRET\nforged log line""#,
        INVALID_TEXT,
    ),
    ("subject", r#""UNRELATED_SECRET\u0000""#, INVALID_TEXT),
    ("subject", "true", "must be a string"),
    ("owner", r#""""#, INVALID_TEXT),
    ("owner", r#""UNRELATED_SECRET\u001f""#, INVALID_TEXT),
    ("owner", "7", "must be a string"),
    ("description", "1.5", "must be a string"),
    (
        "roles",
        r#""UNRELATED_SECRET""#,
        "must be an array of strings",
    ),
    (
        "roles",
        r#"["UNRELATED_SECRET", 1]"#,
        "must be an array of strings",
    ),
    ("roles", r#"["UNRELATED_SECRET", ""]"#, INVALID_TEXT),
    ("roles", r#"["UNRELATED_SECRET\nadmin"]"#, INVALID_TEXT),
    (
        "roles",
        r#"["UNRELATED_SECRET", "UNRELATED_SECRET"]"#,
        "contains a duplicate",
    ),
    ("scopes", r#"["UNRELATED_SECRET and more"]"#, INVALID_SCOPE),
    ("scopes", r#"[""]"#, INVALID_SCOPE),
    (
        "scopes",
        r#"["UNRELATED_SECRET", "UNRELATED_SECRET"]"#,
        "contains a duplicate",
    ),
    (
        "scopes",
        "{ UNRELATED_SECRET = 1 }",
        "must be an array of strings",
    ),
    (
        "labels",
        r#"["UNRELATED_SECRET"]"#,
        "must be a table of strings",
    ),
    (
        "labels",
        "{ UNRELATED_SECRET = 1 }",
        "must be a table of strings",
    ),
    ("labels", r#"{ "UNRELATED_SECRET\n" = "x" }"#, INVALID_TEXT),
    ("labels", r#"{ x = "UNRELATED_SECRET\n" }"#, INVALID_TEXT),
    ("state", r#""UNRELATED_SECRET""#, INVALID_STATE),
    ("state", r#""expired""#, INVALID_STATE),
    ("state", r#""Active""#, INVALID_STATE),
    ("state", "false", "must be a string"),
    ("expires_at", "1801353600", "must be a date or a time"),
];

#[test]
fn reports_invalid_values_with_line_token_and_field() {
    for (field, value, expected) in INVALID_VALUES {
        let text = with_second_token(&format!(
            "{field} = {}",
            value.replace("UNRELATED_SECRET", UNRELATED_SECRET)
        ));
        let expected = format!("line 5: token 2: `{field}` {expected}");
        assert_rejected("t.toml", &text, FileStoreErrorKind::Invalid, &expected);
        assert_eq!(open_error("t.toml", &text).line(), Some(5));
    }
}

#[test]
fn rejects_malformed_times() {
    for text in [
        "\"2026-1-2\"",
        "\"2026-02-30\"",
        "\"30d\"",
        "\"P30D\"",
        "\"\"",
        "\"never\"",
        "\"2026-01-02T03:04:05\"",
        "\"2026-01-02T03:04:05Z[UTC]\"",
        "2026-01-02T03:04:05",
        "03:04:05",
    ] {
        for field in ["expires_at", "not_before"] {
            let expected = format!(
                "line 5: token 2: `{field}` must be a valid date, yyyy-MM-dd, or an RFC 3339 \
                 time with an offset"
            );
            let text = with_second_token(&format!("{field} = {text}"));
            assert_rejected("t.toml", &text, FileStoreErrorKind::Invalid, &expected);
        }
    }
}

#[test]
fn reports_invalid_digest_without_quoting_it() {
    let expected = "line 2: token 1: `digest` must be 'sha256:' and 64 hexadecimal digits; \
                    the file holds digests, never tokens";
    let hex = &TokenDigest::of(UNRELATED_SECRET).to_string()[7..];
    for digest in [
        UNRELATED_SECRET.to_owned(),
        String::new(),
        hex.to_owned(),
        format!("sha512:{hex}"),
        format!("SHA256:{hex}"),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{UNRELATED_SECRET}"),
    ] {
        let text = format!("[[tokens]]\ndigest = \"{digest}\"\n");
        assert_rejected("t.toml", &text, FileStoreErrorKind::Invalid, expected);
    }
    for (text, expected) in [
        (
            "[[tokens]]\nname = \"x\"\n",
            "line 1: token 1: `digest` is missing",
        ),
        (
            "[[tokens]]\ndigest = 1\n",
            "line 2: token 1: `digest` must be a string",
        ),
    ] {
        assert_rejected("t.toml", text, FileStoreErrorKind::Invalid, expected);
    }
}

#[test]
fn rejects_duplicate_ids_and_digests() {
    let same = toml_with_token("a", "") + &toml_with_token("a", "");
    let expected = "line 4: token 2: `digest` is already used by an earlier token";
    assert_rejected("t.toml", &same, FileStoreErrorKind::Invalid, expected);

    let id = "id = \"7Hq2mX9bTe\"";
    let same = toml_with_token("a", id) + &toml_with_token("b", id);
    let expected = "line 6: token 2: `id` is already used by an earlier token";
    assert_rejected("t.toml", &same, FileStoreErrorKind::Invalid, expected);

    let derived = find(&store_from_toml(&toml_with_token("a", "")), "a")
        .unwrap()
        .id();
    let same = toml_with_token("a", "") + &toml_with_token("b", &format!("id = \"{derived}\""));
    let expected = "line 5: token 2: `id` is already used by an earlier token";
    assert_rejected("t.toml", &same, FileStoreErrorKind::Invalid, expected);
}

#[test]
fn rejects_unknown_field_without_quoting_it() {
    for field in [
        format!("{UNRELATED_SECRET} = 1"),
        "rolse = []".to_owned(),
        "Roles = []".to_owned(),
    ] {
        let error = open_error("t.toml", &with_second_token(&field));
        let message = message(&error);
        assert!(
            message.starts_with("line 5: token 2: unknown field, expected one of name, digest, "),
            "{message}"
        );
        assert!(!message.contains("rolse"), "{message}");
    }
    let text = format!("tokens = []\n{UNRELATED_SECRET} = 1\n");
    let expected = "line 2: unknown field, expected `tokens`";
    assert_rejected("t.toml", &text, FileStoreErrorKind::Invalid, expected);
}

#[test]
fn rejects_file_without_tokens_list() {
    for (name, text, expected) in [
        ("t.toml", "", "`tokens` is missing"),
        ("t.toml", "# nothing yet\n", "`tokens` is missing"),
        ("t.json", "{}", "`tokens` is missing"),
        ("t.json", "[]", "must be an object with the field `tokens`"),
        (
            "t.json",
            "null",
            "must be an object with the field `tokens`",
        ),
        (
            "t.toml",
            "tokens = \"hunter2-swordfish\"",
            "line 1: `tokens` must be an array of tokens",
        ),
        (
            "t.toml",
            "[tokens]\nci = 1",
            "line 1: `tokens` must be an array of tokens",
        ),
        ("t.toml", "tokens = [1]", "line 1: token 1: must be a table"),
        (
            "t.json",
            r#"{"tokens": null}"#,
            "`tokens` must be an array of tokens",
        ),
        (
            "t.json",
            r#"{"tokens": [null]}"#,
            "token 1: must be a table",
        ),
        (
            "t.json",
            r#"{"tokens": [], "tokens": []}"#,
            "`tokens` is given twice",
        ),
    ] {
        assert_rejected(name, text, FileStoreErrorKind::Invalid, expected);
    }
}

/// JSON parsers differ in which of two values they use.
#[test]
fn rejects_repeated_fields_in_file() {
    let digest = TokenDigest::of("a");
    for (fields, expected) in [
        (
            r#""state": "revoked", "state": "active""#,
            "token 1: `state` is given twice",
        ),
        (
            r#""labels": {"a": "1", "a": "2"}"#,
            "token 1: `labels` contains a duplicate",
        ),
    ] {
        let text = format!(r#"{{"tokens": [{{"digest": "{digest}", {fields}}}]}}"#);
        assert_rejected("t.json", &text, FileStoreErrorKind::Invalid, expected);
    }
    let text = toml_with_token("a", "state = \"revoked\"\nstate = \"active\"");
    assert_rejected(
        "t.toml",
        &text,
        FileStoreErrorKind::Malformed,
        "line 4: is not TOML",
    );
}

#[test]
fn reports_syntax_errors_by_location_only() {
    for (name, text, expected) in [
        (
            "t.toml",
            "[[tokens]]\nname = hunter2-swordfish\n",
            "line 2: is not TOML",
        ),
        (
            "t.toml",
            "[[tokens]]\nname = \"hunter2-swordfish\n",
            "line 2: is not TOML",
        ),
        ("t.toml", "{\"tokens\": []}", "line 1: is not TOML"),
        (
            "t.json",
            "{\"tokens\": [\n{\"name\": hunter2-swordfish}]}",
            "line 2: column 10: is not JSON",
        ),
        (
            "t.json",
            "{\"tokens\": []} hunter2-swordfish",
            "line 1: column 16: is not JSON",
        ),
        ("t.json", "", "line 1: column 0: is not JSON"),
        ("t.json", "[[tokens]]", "line 1: column 4: is not JSON"),
    ] {
        assert_rejected(name, text, FileStoreErrorKind::Malformed, expected);
    }
    let deeply_nested = "[".repeat(100_000);
    for name in ["t.toml", "t.json"] {
        let error = open_error(name, &format!("tokens = {deeply_nested}"));
        assert_eq!(error.kind(), FileStoreErrorKind::Malformed, "{name}");
    }
    assert_eq!(
        open_error("t.json", &deeply_nested).kind(),
        FileStoreErrorKind::Malformed
    );

    let folder = Folder::new();
    let path = folder.path("t.toml");
    write(&path, "");
    fs::write(&path, b"tokens = []\n# \xff\n").unwrap();
    assert_eq!(
        message(&FileStore::open(&path).unwrap_err()),
        "is not UTF-8"
    );
}

#[test]
fn rejects_token_anywhere_in_file_without_quoting_it() {
    let damaged = format!("{}m", &SECRET[..SECRET.len() - 1]);
    for token in [SECRET, &*damaged, &SECRET.replace("svctok-", "acme_")] {
        for text in [
            format!("tokens = []\n# {token}\n"),
            format!("[[tokens]]\ndigest = \"{token}\"\n"),
            format!("[[tokens]]\ndigest = \"sha256:{token}\"\n"),
            format!("[[tokens]]\nname = \"{token}\"\n"),
            format!("[[tokens]]\n{token} = 1\n"),
            format!("[[tokens]]\nlabels = {{ x = \"{token}\" }}\n"),
        ] {
            let expected = "line 2: this looks like a token; \
                            the file must hold digests, never tokens";
            assert_rejected("t.toml", &text, FileStoreErrorKind::ContainsToken, expected);
        }
    }
    // The name of the field indicates that the value is a token.
    for field in ["token", "secret", "api_key"] {
        let expected = "line 5: token 2: this looks like a token; \
                        the file must hold digests, never tokens";
        let text = with_second_token(&format!("{field} = \"{UNRELATED_SECRET}\""));
        assert_rejected("t.toml", &text, FileStoreErrorKind::ContainsToken, expected);
    }
    let text = format!(r#"{{"tokens": [{{"token": "{UNRELATED_SECRET}"}}]}}"#);
    let expected = "token 1: this looks like a token; the file must hold digests, never tokens";
    assert_rejected("t.json", &text, FileStoreErrorKind::ContainsToken, expected);
}

#[test]
fn reports_missing_irregular_or_huge_file_as_unreadable() {
    let folder = Folder::new();
    let error = FileStore::open(folder.path("t.toml")).unwrap_err();
    assert_eq!(error.kind(), FileStoreErrorKind::Unreadable);
    assert_eq!(message(&error), "cannot be read");
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>());
    assert_eq!(source.unwrap().kind(), std::io::ErrorKind::NotFound);

    let directory = folder.path("directory.toml");
    fs::create_dir(&directory).unwrap();
    let error = FileStore::open(directory).unwrap_err();
    assert_eq!(error.kind(), FileStoreErrorKind::Unreadable);
    assert_eq!(message(&error), "is not an ordinary file");

    let huge_file = folder.write("huge.toml", "");
    let file = OpenOptions::new().write(true).open(&huge_file).unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    let error = FileStore::open(huge_file).unwrap_err();
    assert_eq!(message(&error), "is longer than 268435456 bytes");
}

#[test]
fn requires_toml_or_json_extension() {
    let folder = Folder::new();
    for name in ["tokens", "tokens.yaml", "tokens.TOML", "toml", ".toml"] {
        let error = FileStore::open(folder.write(name, "tokens = []")).unwrap_err();
        assert_eq!(error.kind(), FileStoreErrorKind::Malformed, "{name}");
        assert_eq!(message(&error), "its name must end in .toml or .json");
    }
}

#[cfg(unix)]
mod on_unix {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn rejects_writable_by_others_and_accepts_readable_by_others() {
        let folder = Folder::new();
        let path = folder.write("t.toml", "tokens = []");
        // Kubernetes mounts files behind symbolic links, whose own mode is irrelevant.
        let link = folder.path("link.toml");
        symlink(&path, &link).unwrap();
        for (mode, is_accepted) in [
            (0o600, true),
            (0o640, true),
            (0o644, true),
            (0o444, true),
            (0o755, true),
            (0o620, false),
            (0o602, false),
            (0o660, false),
            (0o664, false),
            (0o666, false),
            (0o4646, false),
        ] {
            chmod(&path, mode);
            for path in [&path, &link] {
                let outcome = FileStore::open(path);
                assert_eq!(outcome.is_ok(), is_accepted, "{mode:o}");
                let Err(error) = outcome else { continue };
                assert_eq!(error.kind(), FileStoreErrorKind::Insecure, "{mode:o}");
                let expected = format!(
                    "is writable by users other than its owner (mode {mode:04o}); run chmod go-w"
                );
                assert_eq!(message(&error), expected);
            }
        }
    }

    #[test]
    fn rejects_pipe_without_blocking() {
        let folder = Folder::new();
        let path = folder.path("t.toml");
        let status = Command::new("mkfifo")
            .arg("-m")
            .arg("600")
            .arg(&path)
            .status();
        assert!(status.unwrap().success());
        let error = FileStore::open(&path).unwrap_err();
        assert_eq!(message(&error), "is not an ordinary file");
    }

    #[test]
    fn reports_dangling_symlink_as_unreadable() {
        let folder = Folder::new();
        let link = folder.path("link.toml");
        symlink(folder.path("gone.toml"), &link).unwrap();
        let error = FileStore::open(&link).unwrap_err();
        assert_eq!(error.kind(), FileStoreErrorKind::Unreadable);
    }
}
