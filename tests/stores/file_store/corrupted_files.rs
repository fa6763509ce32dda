//! Files that an editor, a copy or a crash has corrupted. Each of them is rejected.

use tower_service_token::store::file::FileStoreErrorKind;

use super::*;

/// A name, a function that corrupts the text of a valid file, and the kind of the error.
type Corruption = (&'static str, fn(&str) -> Vec<u8>, FileStoreErrorKind);

const CORRUPTIONS: [Corruption; 16] = [
    ("empty", |_| Vec::new(), FileStoreErrorKind::Invalid),
    (
        "whitespace",
        |_| b" \r\n\t\n".to_vec(),
        FileStoreErrorKind::Invalid,
    ),
    (
        "bom_only",
        |_| "\u{feff}".into(),
        FileStoreErrorKind::Invalid,
    ),
    (
        "truncated",
        |text| text.as_bytes()[..text.len() - 20].to_vec(),
        FileStoreErrorKind::Malformed,
    ),
    (
        "missing_head",
        |text| text.as_bytes()[5..].to_vec(),
        FileStoreErrorKind::Malformed,
    ),
    (
        "zeros",
        |text| vec![0; text.len()],
        FileStoreErrorKind::Malformed,
    ),
    (
        "zero_tail",
        |text| [text.as_bytes(), &[0; 512]].concat(),
        FileStoreErrorKind::Malformed,
    ),
    (
        "duplicate_key",
        |text| text.replace("[[tokens]]", "tokens = []\n[[tokens]]").into(),
        FileStoreErrorKind::Malformed,
    ),
    (
        "repeated_content",
        |text| text.repeat(2).into(),
        FileStoreErrorKind::Invalid,
    ),
    (
        "utf16",
        |text| text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        FileStoreErrorKind::Malformed,
    ),
    (
        "latin1",
        |text| [text.as_bytes(), b"# \xe9\n"].concat(),
        FileStoreErrorKind::Malformed,
    ),
    (
        "carriage_returns",
        |text| text.replace('\n', "\r").into(),
        FileStoreErrorKind::Malformed,
    ),
    (
        "merge_conflict",
        |text| format!("<<<<<<< ours\n{text}=======\n{text}>>>>>>> theirs\n").into(),
        FileStoreErrorKind::Malformed,
    ),
    (
        "html",
        |_| b"<!DOCTYPE html><title>Sign in</title>".to_vec(),
        FileStoreErrorKind::Malformed,
    ),
    (
        "typographic_quotes",
        |text| text.replace('"', "\u{201c}").into(),
        FileStoreErrorKind::Malformed,
    ),
    (
        "overlong_digest",
        |text| text.replacen("sha256:", "sha256:0", 1).into(),
        FileStoreErrorKind::Invalid,
    ),
];

#[test]
fn rejects_corrupted_files_with_the_kind_of_error() {
    let text = toml_with_token("ci", "");
    for (name, corrupt, kind) in CORRUPTIONS {
        let folder = Folder::new();
        let path = folder.write("t.toml", "");
        fs::write(&path, corrupt(&text)).unwrap();
        let error = FileStore::open(&path).expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
}

#[test]
fn accepts_byte_order_mark_and_crlf() {
    let digest = TokenDigest::of("ci");
    let json = format!("{{\"tokens\": [{{\"digest\": \"{digest}\", \"name\": \"ci\"}}]}}");
    for (name, text) in [("t.toml", toml_with_token("ci", "")), ("t.json", json)] {
        for text in [
            format!("\u{feff}{text}"),
            text.replace('\n', "\r\n"),
            format!("\u{feff}{}\r\n\r\n", text.replace('\n', "\r\n")),
        ] {
            let folder = Folder::new();
            let store = FileStore::open(folder.write(name, &text));
            assert!(store.is_ok(), "{name} {text:?}: {store:?}");
        }
    }
}
