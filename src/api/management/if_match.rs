use http::HeaderMap;
use http::header::IF_MATCH;

use super::problem::Problem;

/// Returns the revisions in `If-Match` (RFC 9110 §13.1.1), or `None` for any. Weak tags and tags of
/// other servers match no revision.
pub(super) fn revisions(headers: &HeaderMap) -> Result<Option<Vec<u64>>, Problem> {
    let malformed = || Problem::malformed("if-match is not a list of entity tags");
    let mut revisions = Vec::new();
    let mut values = headers.get_all(IF_MATCH).iter().peekable();
    if values.peek().is_none() {
        return Ok(None);
    }
    for value in values {
        let text = value.to_str().map_err(|_| malformed())?.trim();
        if text == "*" {
            return Ok(None);
        }
        let tags = entity_tags(text).filter(|tags| !tags.is_empty());
        let strong = tags.ok_or_else(malformed)?.into_iter().flatten();
        revisions.extend(strong.filter_map(|tag| tag.parse::<u64>().ok()));
    }
    Ok(Some(revisions))
}

/// Returns the text of each tag of a list, `None` for a weak one (RFC 9110 §8.8.3). A tag may
/// contain a comma.
fn entity_tags(text: &str) -> Option<Vec<Option<&str>>> {
    let mut tags = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let weak = rest.strip_prefix("W/");
        let (tag, after) = weak.unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        if tag.contains([' ', '\t']) {
            return None;
        }
        tags.push(weak.is_none().then_some(tag));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Option<Vec<u64>>, ()> {
        let values = values.iter().map(|value| value.parse());
        let headers = values.map(|value| (IF_MATCH, value.expect("a header's value")));
        revisions(&headers.collect()).map_err(drop)
    }

    #[test]
    fn reads_tags_from_lists_and_repeated_headers() {
        for (values, expected) in [
            (&[][..], None),
            (&["*"], None),
            (&["\"1\""], Some(vec![1])),
            (&["\"1\" , \"2\",\"x\""], Some(vec![1, 2])),
            (&["\"1\"", "\"2\""], Some(vec![1, 2])),
            (&["W/\"1\", \"2\""], Some(vec![2])),
            (&["\"1,2\""], Some(vec![])),
            (&["\"\""], Some(vec![])),
        ] {
            assert_eq!(of(values), Ok(expected), "{values:?}");
        }
    }

    #[test]
    fn rejects_malformed_tags() {
        for value in [
            "",
            "1",
            "\"1",
            "1\"",
            "\"1\" \"2\"",
            "\"1\"2",
            "w/\"1\"",
            "\"1 2\"",
            ",\"1\"",
        ] {
            assert_eq!(of(&[value]), Err(()), "{value}");
        }
    }
}
