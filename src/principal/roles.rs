use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::names::{Iter, Names, NamesVisitor, impl_name_set};

/// The roles of a token: names in the given order, without duplicates.
///
/// A name is not empty and has no control characters. Collecting roles skips anything else, so that
/// a list of roles is unambiguous. serde reads and writes a list of texts, and rejects anything else.
///
/// ```
/// use tower_service_token::principal::Roles;
///
/// let roles: Roles = ["admin", "auditor"].into_iter().collect();
/// assert!(roles.contains("auditor"));
/// assert!(!roles.contains("audit"));
/// assert!(!Roles::default().contains("admin"));
/// assert_eq!(roles.to_string(), "admin, auditor");
/// assert_eq!(serde_json::to_value(&roles)?, serde_json::json!(["admin", "auditor"]));
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Roles(Names);

impl Roles {
    /// Returns whether the text is a valid role: not empty, and without control characters.
    pub fn is_name(text: &str) -> bool {
        !text.is_empty() && !text.contains(char::is_control)
    }

    /// Returns whether `role` is one of these roles.
    pub fn contains(&self, role: &str) -> bool {
        self.iter().any(|held| held == role)
    }

    /// Returns whether these roles include all of `others`. Only then may their holder grant `others`.
    pub fn covers(&self, others: &Self) -> bool {
        self.contain_all(others.iter(), others.iter().count())
    }

    /// Returns whether these roles include all of `roles`, of which there are `count`.
    pub(super) fn contain_all<'r>(
        &self,
        mut roles: impl Iterator<Item = &'r str>,
        count: usize,
    ) -> bool {
        match self.0.set_for(count) {
            Some(held) => roles.all(|role| held.contains(role)),
            None => roles.all(|role| self.contains(role)),
        }
    }

    /// Returns the names in order.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter()
    }

    /// Returns whether there are no roles.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Roles {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(Names::collect(names, Self::is_name))
    }
}

impl_name_set!(
    Roles,
    Roles::is_name,
    "a list of roles",
    "a role is not empty and has no control characters"
);

/// Writes the roles separated by a comma and a space, for people.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(", ", f)
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_keep_their_order_without_duplicates() {
        let roles: Roles = ["b", "a", "b", "with space"].into_iter().collect();
        assert_eq!(roles.iter().collect::<Vec<_>>(), ["b", "a", "with space"]);
        assert_eq!(format!("{roles:?}"), r#"["b", "a", "with space"]"#);
    }

    #[test]
    fn large_role_sets_behave_like_small_ones() {
        for count in [15, 16, 17, 1000] {
            let names: Vec<String> = (0..count).map(|place| format!("r{place}")).collect();
            let repeated = names.iter().chain(&names).map(String::as_str);
            let roles: Roles = repeated.chain(["", "a\n"]).collect();
            assert!(roles.iter().eq(&names), "{count}");
            assert!(roles.covers(&roles));
            let fewer: Roles = names[1..].iter().collect();
            assert!(roles.covers(&fewer) && !fewer.covers(&roles));
        }
    }

    #[test]
    fn drops_names_with_control_characters() {
        let roles: Roles = ["guest\nadmin", "", "x\0", "guest"].into_iter().collect();
        assert_eq!(roles.iter().collect::<Vec<_>>(), ["guest"]);
        assert!(!roles.contains("admin"));
        assert!(!roles.contains(""));
    }

    #[test]
    fn serde_rejects_malformed_roles_without_repeating_them() {
        let read = |json: &str| serde_json::from_str::<Roles>(json);
        let roles = read(r#"["b", "a", "b"]"#).expect("a list");
        assert_eq!(
            serde_json::to_string(&roles).expect("a list"),
            r#"["b","a"]"#
        );
        assert_eq!(read("[]").expect("a list"), Roles::default());
        for json in [
            r#""hush""#,
            r#"["a", ""]"#,
            r#"["hush\n"]"#,
            "[1]",
            "null",
            "{}",
        ] {
            let error = read(json).expect_err(json).to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn iterates_by_reference_from_both_ends() {
        let roles: Roles = ["a", "b", "c"].into_iter().collect();
        let mut reversed = Vec::new();
        for role in roles.iter().rev() {
            reversed.insert(0, role);
        }
        assert!((&roles).into_iter().eq(reversed));
        let none = Roles::default();
        assert_eq!((none.iter().next(), none.iter().next_back()), (None, None));
        assert_eq!(none.to_string(), "");
    }

    #[test]
    fn covers_requires_every_role() {
        let held: Roles = ["a", "b"].into_iter().collect();
        let none = Roles::default();
        assert!(held.covers(&["b"].into_iter().collect()));
        assert!(held.covers(&none) && none.covers(&none));
        assert!(!held.covers(&["b", "c"].into_iter().collect()));
        assert!(!none.covers(&held));
    }
}
