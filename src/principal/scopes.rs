use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::names::{Iter, Names, NamesVisitor, impl_name_set};

/// The scopes of a token, such as `projects:write`.
///
/// 1. A scope consists of the characters that RFC 6749 §3.3 allows: visible ASCII without `"` and `\`.
///    Collecting scopes skips anything else.
/// 2. Segments are separated by `:`. The segment `*` matches any one segment, the last segment `**`
///    matches one or more. The scope `*` covers everything. Within a longer segment, `*` is a plain
///    character.
/// 3. Scopes that begin with `service-tokens` or `introspect` are reserved for the administration of
///    tokens. Only the wildcards `*`, `**` and those after the reserved name, such as
///    `service-tokens:*`, cover them. Wildcards such as `*:read` and `*:*` do not.
/// 4. An empty set allows nothing.
/// 5. serde reads and writes a list of texts, and rejects anything else. `Display` writes the OAuth
///    parameter `scope` (RFC 6749 §3.3): the scopes separated by spaces.
///
/// ```
/// use tower_service_token::principal::Scopes;
///
/// let scopes: Scopes = ["projects:*", "audit:**"].into_iter().collect();
/// assert!(scopes.allow("projects:write"));
/// assert!(scopes.allow("audit:log:read"));
/// assert!(!scopes.allow("projects:env:write"));
/// assert!(!scopes.allow("projects"));
/// assert!(!Scopes::default().allow("projects:write"));
///
/// let readers: Scopes = ["*:read"].into_iter().collect();
/// assert!(readers.allow("projects:read"));
/// assert!(!readers.allow("service-tokens:read"));
/// assert_eq!(scopes.to_string(), "projects:* audit:**");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Scopes(Names);

impl Scopes {
    /// Returns whether the text is a valid scope: one or more of the characters that RFC 6749 §3.3
    /// allows.
    pub fn is_scope(text: &str) -> bool {
        let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
        !text.is_empty() && text.bytes().all(is_allowed)
    }

    /// Returns whether one of these scopes covers `scope`.
    ///
    /// If `scope` has wildcards itself, it must be covered completely.
    pub fn allow(&self, scope: &str) -> bool {
        self.iter().any(|held| covers(held, scope))
    }

    /// Returns whether these scopes cover all of `others`. Only then may their holder grant `others`.
    pub fn covers(&self, others: &Self) -> bool {
        self.allow_all(others.iter(), others.iter().count())
    }

    /// Returns whether these scopes cover all of `scopes`, of which there are `count`. Looks up literal
    /// scopes in a set, and scans only the wildcards.
    pub(super) fn allow_all<'s>(
        &self,
        mut scopes: impl Iterator<Item = &'s str>,
        count: usize,
    ) -> bool {
        let Some(held) = self.0.set_for(count) else {
            return scopes.all(|scope| self.allow(scope));
        };
        let wildcards: Vec<&str> = self.iter().filter(|held| held.contains('*')).collect();
        scopes.all(|scope| held.contains(scope) || wildcards.iter().any(|held| covers(held, scope)))
    }

    /// Returns the scopes in order.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter()
    }

    /// Returns whether there are no scopes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Scopes {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(Names::collect(names, Self::is_scope))
    }
}

impl_name_set!(
    Scopes,
    Scopes::is_scope,
    "a list of scopes",
    "a scope is visible ASCII without a quotation mark or a backslash"
);

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(" ", f)
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The scope that permits to list all tokens.
pub(crate) const READ_SCOPE: &str = "service-tokens:read";

/// The scope that permits to grant and change everything.
pub(crate) const ADMIN_SCOPE: &str = "service-tokens:admin";

/// The scopes that cover [`ADMIN_SCOPE`]. A token that may administer tokens has one of them.
pub(crate) const ADMIN_SCOPES: [&str; 5] = [
    ADMIN_SCOPE,
    "service-tokens:*",
    "service-tokens:**",
    "*",
    "**",
];

/// Reserved first segments. Only the same segment, `*` and `**` cover them.
const RESERVED: [&str; 2] = ["service-tokens", "introspect"];

fn covers(held: &str, wanted: &str) -> bool {
    if held == "*" || held == "**" {
        return true;
    }
    let (wanted_first, _) = first_segment(wanted);
    if RESERVED.contains(&wanted_first) && first_segment(held).0 != wanted_first {
        return false;
    }
    covers_segments(Some(held), Some(wanted))
}

fn covers_segments(held: Option<&str>, wanted: Option<&str>) -> bool {
    let (Some(held), Some(wanted)) = (held, wanted) else {
        return held.is_none() && wanted.is_none();
    };
    let (held, held_rest) = first_segment(held);
    let (wanted, wanted_rest) = first_segment(wanted);
    if held == "**" && held_rest.is_none() {
        return true;
    }
    let wants_the_rest = wanted == "**" && wanted_rest.is_none();
    (held == wanted || (held == "*" && !wants_the_rest)) && covers_segments(held_rest, wanted_rest)
}

fn first_segment(scope: &str) -> (&str, Option<&str>) {
    match scope.split_once(':') {
        Some((first, rest)) => (first, Some(rest)),
        None => (scope, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_only_matching_scopes() {
        for (held, wanted, expected) in [
            ("a:b", "a:b", true),
            ("a:b", "a:c", false),
            ("a:b", "a", false),
            ("a", "a:b", false),
            ("a:*", "a:b", true),
            ("a:*", "a:b:c", false),
            ("*:read", "a:read", true),
            ("*:read", "a:write", false),
            ("a:**", "a:b:c", true),
            ("a:**", "a", false),
            ("a:**:c", "a:b:c", false),
            ("*", "a:b:c", true),
            ("**", "a:b:c", true),
            ("a*", "ab", false),
            // Patterns as the required scope: a holder grants no more than it holds.
            ("a:b", "a:*", false),
            ("a:*", "a:*", true),
            ("a:*", "a:**", false),
            ("a:**", "a:*", true),
            ("a:**", "a:b:**", true),
            ("a:b:**", "a:**", false),
            ("*:**", "*", false),
            ("**", "*", true),
            ("*", "**", true),
            // Reserved: not covered by a leading wildcard.
            ("*:read", "service-tokens:read", false),
            ("*:*", "service-tokens:admin", false),
            ("*:**", "service-tokens:admin", false),
            ("*:*", "introspect:any", false),
            ("*:**", "service-tokens:*", false),
            ("*", "service-tokens:admin", true),
            ("**", "service-tokens:admin", true),
            ("**", "introspect", true),
            ("*", "introspect", true),
            ("service-tokens:*", "service-tokens:admin", true),
            ("service-tokens:**", "service-tokens:admin", true),
            ("service-tokens:*", "service-tokens:*", true),
            ("introspect", "introspect", true),
            ("*:read", "*:read", true),
        ] {
            assert_eq!(covers(held, wanted), expected, "{held} over {wanted}");
        }
    }

    #[test]
    fn large_scope_sets_behave_like_small_ones() {
        let wildcards = ["a:*", "b:**", "*:read", "service-tokens:*", "c*"];
        let exact: Vec<String> = (0..40).map(|place| format!("x{place}:y")).collect();
        let held: Scopes = exact.iter().map(String::as_str).chain(wildcards).collect();
        let wanted = [
            "a:b",
            "b:c:d",
            "z:read",
            "service-tokens:admin",
            "c*",
            "a:*",
        ];
        let refused = [
            "a:b:c",
            "b",
            "z:write",
            "introspect:read",
            "cd",
            "*:*",
            "**",
            "x41:y",
        ];
        let with = |scope: &str| -> Scopes {
            let many = exact.iter().map(String::as_str);
            many.chain([scope]).collect()
        };
        for scope in wanted {
            assert!(held.allow(scope) && held.covers(&with(scope)), "{scope}");
        }
        for scope in refused {
            assert!(!held.allow(scope) && !held.covers(&with(scope)), "{scope}");
        }
    }

    #[test]
    fn drops_malformed_scopes() {
        let scopes: Scopes = ["", "a b", "a\n*", "a\"", "a\\", "é", "ok"]
            .into_iter()
            .collect();
        assert_eq!(scopes.iter().collect::<Vec<_>>(), ["ok"]);
    }

    #[test]
    fn serde_rejects_malformed_scopes_without_repeating_them() {
        let read = |json: &str| serde_json::from_str::<Scopes>(json);
        let scopes = read(r#"["a:*", "b:c"]"#).expect("a list");
        assert_eq!(
            serde_json::to_string(&scopes).expect("a list"),
            r#"["a:*","b:c"]"#
        );
        for json in [
            r#""hush a""#,
            r#"["a", "hush a"]"#,
            r#"["hush\""]"#,
            "[null]",
            "7",
        ] {
            let error = read(json).expect_err(json).to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }

    /// Covering a pattern must imply covering all that the pattern covers: no escalation.
    #[test]
    fn covering_is_reflexive_and_transitive() {
        let segments = ["a", "service-tokens", "*", "**"];
        let mut scopes: Vec<String> = segments.iter().map(ToString::to_string).collect();
        for _ in 0..2 {
            let longer = |scope: &String| segments.map(|segment| format!("{scope}:{segment}"));
            scopes.extend(scopes.iter().flat_map(longer).collect::<Vec<_>>());
        }
        for a in &scopes {
            assert!(covers(a, a), "{a}");
            for b in scopes.iter().filter(|b| covers(a, b)) {
                for c in scopes.iter().filter(|c| covers(b, c)) {
                    assert!(covers(a, c), "{a} over {b} over {c}");
                }
            }
        }
    }
}
