use crate::text::SECRET_AND_CHECKSUM_DIGITS;
use crate::token::TokenId;

/// Returns the line, counted from 1, of the first text that has the form of a
/// [token](crate::token), with any prefix and checksum. Comments are searched too.
///
/// Stricter than [`redact_tokens`](crate::text::redact_tokens): a file is rejected for it, so a digest
/// or a name that only resembles a token must not match.
pub(super) fn find_token_line(text: &str) -> Option<usize> {
    let mut lines = text.lines();
    Some(lines.position(|line| words(line).any(contains_token))? + 1)
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|char: char| !(char.is_ascii_alphanumeric() || "_-".contains(char)))
}

/// Returns whether a `_` follows a prefix and an id and precedes a secret.
fn contains_token(word: &str) -> bool {
    word.match_indices('_').any(|(index, _)| {
        let (before, after) = (&word[..index], &word[index + 1..]);
        let secret = after.as_bytes().first_chunk::<SECRET_AND_CHECKSUM_DIGITS>();
        let is_secret = secret.is_some_and(|secret| secret.iter().all(u8::is_ascii_alphanumeric));
        is_secret && ends_in_prefix_and_id(before)
    })
}

fn ends_in_prefix_and_id(text: &str) -> bool {
    text.rsplit_once(['_', '-']).is_some_and(|(prefix, id)| {
        id.parse::<TokenId>().is_ok() && prefix.contains(|char: char| char.is_ascii_alphabetic())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_tokens_with_any_prefix_checksum_and_position() {
        let rest = "7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
        for line in [
            format!("svctok-{rest}"),
            format!("digest = \"sha256:svctok-{rest}\""),
            format!("# was svctok-{rest}, until Monday"),
            format!("acme_prod-{rest}"),
            format!("x_{rest}"),
            format!("svctok-{}m", &rest[..rest.len() - 1]),
            format!("https://example.com/?key=svctok-{rest}&x=1"),
            format!("\"svctok-{rest}junk\""),
        ] {
            assert_eq!(find_token_line(&format!("\n\n{line}\n")), Some(3), "{line}");
        }
    }

    #[test]
    fn ignores_ids_hints_digests_and_plain_words() {
        for line in [
            "svctok-7Hq2mX9bTe_***",
            "svctok-7Hq2mX9bTe",
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "a-name-with-many-parts_and_more_of_them_until_it_is_long",
            "7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
            "",
        ] {
            assert_eq!(find_token_line(line), None, "{line}");
        }
    }
}
