use std::sync::Arc;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use quick_cache::sync::Cache;

use crate::principal::Principal;
use crate::token::TokenId;

/// The ASCII characters that a value percent-encodes. It encodes all others as well.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',').add(b'"').add(b'\\');

/// The maximum length of a list, in bytes. Proxies read the headers of a response into a buffer of
/// 4 kB to 16 kB, and reject a longer response.
const MAX_LIST_BYTES: usize = 2048;

const TOKEN_ID: HeaderName = HeaderName::from_static("x-service-token-id");
const NAME: HeaderName = HeaderName::from_static("x-service-token-name");
const SUBJECT: HeaderName = HeaderName::from_static("x-service-token-subject");
const ROLES: HeaderName = HeaderName::from_static("x-service-token-roles");
const SCOPES: HeaderName = HeaderName::from_static("x-service-token-scopes");
const TRUNCATED: HeaderName = HeaderName::from_static("x-service-token-truncated");

/// The number of the headers here.
const HEADERS: usize = 7;

/// The maximum number of callers whose headers are cached.
const CACHED_CALLERS: usize = 1_000;

/// The maximum bytes of headers that are cached, so that all of them and the records of their tokens
/// occupy a few megabytes.
const MAX_CACHED_BYTES: usize = 1024;

/// The headers of the last callers, because writing them takes longer than the check of a token. A
/// record stays in memory until others replace it here, also if its token is deleted.
pub(super) struct IdentityCache(Cache<TokenId, Arc<(Principal, HeaderMap)>>);

impl Default for IdentityCache {
    fn default() -> Self {
        Self(Cache::new(CACHED_CALLERS))
    }
}

impl IdentityCache {
    /// Returns the [headers](identity_headers) of a caller. They are found only by the same record,
    /// which a store in memory returns until the token changes.
    pub(super) fn headers_of(&self, caller: &Principal) -> HeaderMap {
        if let Some(cached) = self.0.get(&caller.id())
            && cached.0.has_same_record(caller)
        {
            return cached.1.clone();
        }
        let headers = identity_headers(caller);
        let bytes = headers.values().map(HeaderValue::len).sum::<usize>();
        if bytes <= MAX_CACHED_BYTES {
            let entry = Arc::new((caller.clone(), headers.clone()));
            self.0.insert(caller.id(), entry);
        }
        headers
    }
}

/// Returns the headers that describe the caller, and forbid caches to store them.
pub(super) fn identity_headers(caller: &Principal) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // One buffer, so that each value is one allocation.
    let mut text = String::new();
    let id = caller.display_id().to_string();
    headers.insert(TOKEN_ID, encoded(&id, &mut text));
    headers.insert(NAME, encoded(caller.name(), &mut text));
    let subject = caller.subject().unwrap_or_default();
    headers.insert(SUBJECT, encoded(subject, &mut text));
    let are_roles_cut = !join(caller.roles().iter(), ",", &mut text);
    headers.insert(ROLES, value(&text));
    let are_scopes_cut = !join(caller.scopes().iter(), " ", &mut text);
    headers.insert(SCOPES, value(&text));
    let truncated = match (are_roles_cut, are_scopes_cut) {
        (false, false) => "",
        (true, false) => "roles",
        (false, true) => "scopes",
        (true, true) => "roles, scopes",
    };
    headers.insert(TRUNCATED, HeaderValue::from_static(truncated));
    headers
}

/// Writes percent-encoded entries with separators. Returns `false` if the list is cut before its last
/// entry.
fn join<'a>(entries: impl Iterator<Item = &'a str>, separator: &str, text: &mut String) -> bool {
    text.clear();
    for (place, entry) in entries.enumerate() {
        let end = text.len();
        if place > 0 {
            text.push_str(separator);
        }
        text.extend(percent_encode(entry.as_bytes(), ENCODED));
        if text.len() > MAX_LIST_BYTES {
            text.truncate(end);
            return false;
        }
    }
    true
}

fn encoded(plain: &str, text: &mut String) -> HeaderValue {
    text.clear();
    text.extend(percent_encode(plain.as_bytes(), ENCODED));
    value(text)
}

fn value(encoded: &str) -> HeaderValue {
    if encoded.is_empty() {
        return HeaderValue::from_static("");
    }
    HeaderValue::from_str(encoded).expect("all other characters are encoded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::{Credential, TokenRecord, verdict};
    use crate::token::TokenFormat;

    #[test]
    fn cached_headers_are_those_of_the_same_record() {
        let token = TokenFormat::default().mint().expect("random bytes");
        let caller_of = |record: &TokenRecord| {
            let credential = Credential::new(token.presented());
            let caller = verdict(Some(record.clone()), &credential, &SystemClock);
            caller.expect("a valid token")
        };
        let before = TokenRecord::from(&token).with_name("before");
        let after = before.clone().with_name("after").with_roles(["a", "b"]);
        let equal = after.clone().with_name("after");
        let identities = IdentityCache::default();
        for record in [&before, &before, &after, &after, &equal, &before] {
            let caller = caller_of(record);
            assert_eq!(identities.headers_of(&caller), identity_headers(&caller));
            let cached = identities.0.get(&token.id()).expect("an entry");
            assert!(cached.0.has_same_record(&caller));
        }
        // What is cached is returned.
        let mark = HeaderValue::from_static("from the cache");
        let marked = HeaderMap::from_iter([(NAME, mark.clone())]);
        let entry = Arc::new((caller_of(&before), marked));
        identities.0.insert(token.id(), entry);
        assert_eq!(identities.headers_of(&caller_of(&before))[NAME], mark);
        assert_eq!(identities.headers_of(&caller_of(&after))[NAME], "after");
    }

    #[test]
    fn long_headers_are_not_cached() {
        let token = TokenFormat::default().mint().expect("random bytes");
        let record = TokenRecord::from(&token).with_name("x".repeat(MAX_CACHED_BYTES));
        let credential = Credential::new(token.presented());
        let caller = verdict(Some(record), &credential, &SystemClock).expect("a valid token");
        let identities = IdentityCache::default();
        assert_eq!(identities.headers_of(&caller), identity_headers(&caller));
        assert_eq!(identities.0.len(), 0);
    }

    #[test]
    fn escapes_separators_and_control_characters() {
        for (texts, expected) in [
            (&["a\r\nx: y"][..], "a%0D%0Ax:%20y"),
            (&["a,b", "c"], "a%2Cb,c"),
            (&["100%", "\u{e9}\"\\\u{7f}\0"], "100%25,%C3%A9%22%5C%7F%00"),
            (&[], ""),
            (&[""], ""),
            (&["projects:*"], "projects:*"),
        ] {
            let mut list = "of an earlier value".to_owned();
            assert!(join(texts.iter().copied(), ",", &mut list));
            assert_eq!(value(&list), expected);
            if let [text] = texts {
                assert_eq!(encoded(text, &mut list), expected);
            }
        }
    }

    #[test]
    fn cuts_lists_at_the_end_of_an_entry() {
        let half = "x".repeat(MAX_LIST_BYTES / 2);
        let rest = &half[1..];
        // Three bytes each.
        let spaces = " ".repeat(MAX_LIST_BYTES / 3);
        for (entries, length, is_truncated) in [
            (&[&*half, rest][..], MAX_LIST_BYTES, false),
            (&[&*half, &half], MAX_LIST_BYTES / 2, true),
            (&[&*half, rest, ""], MAX_LIST_BYTES, true),
            (&[&*half, &half, "a"], MAX_LIST_BYTES / 2, true),
            (&[&*spaces], spaces.len() * 3, false),
            (&["a", &spaces, "b"], MAX_LIST_BYTES, true),
            (&["ab", &spaces], 2, true),
            (&[&format!("{half}{half}a")], 0, true),
        ] {
            let mut list = String::new();
            let is_whole = join(entries.iter().copied(), ",", &mut list);
            assert_eq!((list.len(), !is_whole), (length, is_truncated));
        }
    }
}
