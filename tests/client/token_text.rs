//! Text from which `AddServiceTokenLayer` reads a token.

use tower_service_token::client::{AddServiceTokenLayer, TokenSourceErrorKind};

use crate::outgoing_requests::{OTHER, TOKEN, TempFile, sent_headers};

#[test]
fn accepts_one_token_with_whitespace_around_it() {
    for text in [
        "TOKEN",
        "TOKEN\n",
        "TOKEN\r\n\r\n",
        "\u{feff}TOKEN\r\n",
        " \tTOKEN\t \n",
        "\n\nTOKEN",
    ] {
        let text = text.replace("TOKEN", TOKEN);
        let expected = format!("ApiKey {TOKEN}");
        let layer = AddServiceTokenLayer::new(&text).unwrap();
        assert_eq!(sent_headers(&layer)["authorization"], expected, "{text:?}");
        let file = TempFile::new("text");
        file.write(&text);
        let layer = AddServiceTokenLayer::from_file(&file.0).unwrap();
        assert_eq!(sent_headers(&layer)["authorization"], expected, "{text:?}");
    }
}

#[test]
fn error_names_the_reason_why_the_text_is_not_a_token() {
    let utf16: Vec<u8> = format!("\u{feff}{TOKEN}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let two_lines = format!("{TOKEN}\r\n{OTHER}\n");
    let space = format!("Bearer {TOKEN}");
    let inside = TOKEN.replace('_', "_\u{feff}");
    let long = "x".repeat(4_097);
    for (bytes, reason) in [
        (&b""[..], "it is empty"),
        (b"\xef\xbb\xbf \n", "it is empty"),
        (two_lines.as_bytes(), "it has 2 lines"),
        (space.as_bytes(), "it has a space inside"),
        (inside.as_bytes(), "it has a byte order mark inside"),
        (b"caf\xc3\xa9", "it has a character that is not ASCII"),
        (b"abc\x07", "it has a control character"),
        (&utf16, "it is UTF-16 text"),
        (b"abc\xff", "it is not UTF-8 text"),
        (long.as_bytes(), "it is longer than 4096 bytes"),
    ] {
        let file = TempFile::new("reason");
        std::fs::write(&file.0, bytes).unwrap();
        let error = AddServiceTokenLayer::from_file(&file.0).unwrap_err();
        assert_eq!(error.kind(), TokenSourceErrorKind::InvalidToken, "{reason}");
        let expected = format!("{} does not contain a token: {reason}", file.0.display());
        assert_eq!(error.to_string(), expected);
        assert!(!format!("{error:?}").contains(&TOKEN[18..]));
    }
}
