use std::collections::HashSet;
use std::fmt;
use std::str::Split;

use serde::Deserializer;
use serde::de::{Error, SeqAccess, Visitor};

const SEPARATOR: char = '\n';

/// The maximum number of names for which a scan is cheaper than a set.
const MAX_LINEAR_SCAN: usize = 16;

/// An ordered set of names in one allocation: a record has few of them and there are many records.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Names(Box<str>);

impl Names {
    /// Collects the names that `is_name` accepts, without duplicates. It must reject the separator.
    pub(super) fn collect<S: AsRef<str>>(
        names: impl IntoIterator<Item = S>,
        is_name: fn(&str) -> bool,
    ) -> Self {
        let names: Vec<S> = names.into_iter().collect();
        let mut seen = (names.len() > MAX_LINEAR_SCAN).then(HashSet::new);
        let mut joined = String::new();
        for name in names.iter().map(AsRef::as_ref).filter(|name| is_name(name)) {
            let is_new = match &mut seen {
                Some(seen) => seen.insert(name),
                None => joined.split(SEPARATOR).all(|known| known != name),
            };
            if is_new {
                if !joined.is_empty() {
                    joined.push(SEPARATOR);
                }
                joined.push_str(name);
            }
        }
        Self(joined.into())
    }

    /// Returns a set of the names if a scan for each of this number of queries would cost more.
    pub(super) fn set_for(&self, queries: usize) -> Option<HashSet<&str>> {
        (queries > MAX_LINEAR_SCAN).then(|| self.iter().collect())
    }

    pub(super) fn iter(&self) -> Iter<'_> {
        Iter(self.0.split(SEPARATOR))
    }

    /// Writes the names with this text between two of them.
    pub(super) fn write(&self, between: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.iter().enumerate() {
            if place > 0 {
                f.write_str(between)?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// An iterator over [`Roles`](super::Roles) or [`Scopes`](super::Scopes), in their order.
#[derive(Clone, Debug)]
pub struct Iter<'a>(Split<'a, char>);

impl<'a> Iterator for Iter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        // The text of no names has one part, which is empty.
        self.0.find(|name| !name.is_empty())
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.rfind(|name| !name.is_empty())
    }
}

/// Reads a list of names. Unlike [`Names::collect`], it rejects a malformed name.
///
/// Errors do not repeat a text, because it may be a secret.
pub(super) struct NamesVisitor {
    pub(super) is_name: fn(&str) -> bool,
    /// What a list has to be, for errors.
    pub(super) expected: &'static str,
    /// The rule that a malformed name violates.
    pub(super) rule: &'static str,
}

impl NamesVisitor {
    pub(super) fn read<'de, D: Deserializer<'de>>(self, from: D) -> Result<Names, D::Error> {
        if from.is_human_readable() {
            // Otherwise the error of a format such as JSON repeats a text that is no list.
            from.deserialize_any(self)
        } else {
            from.deserialize_seq(self)
        }
    }
}

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element::<String>()? {
            if !(self.is_name)(&name) {
                return Err(A::Error::custom(self.rule));
            }
            names.push(name);
        }
        Ok(Names::collect(names, self.is_name))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Names, E> {
        Err(E::custom(format_args!(
            "a text instead of {}",
            self.expected
        )))
    }
}

/// Implements serde and iteration by reference for a newtype of [`Names`].
macro_rules! impl_name_set {
    ($set:ident, $is_name:path, $expected:literal, $rule:literal) => {
        impl<'a> IntoIterator for &'a $set {
            type Item = &'a str;
            type IntoIter = Iter<'a>;

            fn into_iter(self) -> Iter<'a> {
                self.iter()
            }
        }

        impl Serialize for $set {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_seq(self)
            }
        }

        impl<'de> Deserialize<'de> for $set {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let visitor = NamesVisitor {
                    is_name: $is_name,
                    expected: $expected,
                    rule: $rule,
                };
                visitor.read(from).map(Self)
            }
        }
    };
}

pub(super) use impl_name_set;
