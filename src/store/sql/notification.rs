use std::fmt::Write;

use crate::digest::TokenDigest;
use crate::store::TokenChange;
use crate::token::TokenId;

const EVERYTHING: &str = "*";

/// Encodes a change for other processes: the ID as a number and each digest in hexadecimal, or `*`.
pub(super) fn encode(change: &TokenChange) -> String {
    let TokenChange::Token { id, digests } = change else {
        return EVERYTHING.to_owned();
    };
    let mut text = id.as_i64().to_string();
    for digest in digests {
        write!(text, " {}", hex::encode(digest.as_bytes()))
            .expect("writing to a string cannot fail");
    }
    text
}

/// Decodes a change. A text that is not valid is [`TokenChange::Everything`].
pub(super) fn decode(text: &str) -> TokenChange {
    token(text).unwrap_or(TokenChange::Everything)
}

fn token(text: &str) -> Option<TokenChange> {
    let mut words = text.split(' ');
    let id = TokenId::from_i64(words.next()?.parse().ok()?)?;
    let digests = words.map(|word| {
        let mut bytes = [0; 32];
        hex::decode_to_slice(word, &mut bytes).ok()?;
        Some(TokenDigest::from_bytes(bytes))
    });
    let digests = digests.collect::<Option<_>>()?;
    Some(TokenChange::Token { id, digests })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_encoded_changes() {
        let id = TokenId::from_i64(42).expect("in range");
        for digests in [vec![], vec![TokenDigest::of("a"), TokenDigest::of("b")]] {
            let change = TokenChange::Token {
                id,
                digests: digests.clone(),
            };
            let text = encode(&change);
            let TokenChange::Token {
                id: decoded_id,
                digests: decoded_digests,
            } = decode(&text)
            else {
                panic!("{text}");
            };
            assert_eq!((decoded_id, decoded_digests), (id, digests));
        }
        assert!(matches!(
            decode(&encode(&TokenChange::Everything)),
            TokenChange::Everything
        ));
    }

    #[test]
    fn decodes_invalid_texts_as_everything() {
        for text in ["", "x", "-1", "42 ", "42 abcd", "42  "] {
            assert!(matches!(decode(text), TokenChange::Everything), "{text:?}");
        }
    }
}
