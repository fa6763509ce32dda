use std::collections::HashSet;
use std::fmt;

const SEPARATOR: char = '\n';

/// Up to this number of names a scan is cheaper than a set.
const MAX_LINEAR_SCAN: usize = 16;

/// An ordered set of names in one allocation: a record has few of them and there are many records.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Names(Box<str>);

impl Names {
    /// Leaves out what `is_name` refuses; it must refuse the separator.
    pub(super) fn collect<S: AsRef<str>>(
        names: impl IntoIterator<Item = S>,
        is_name: fn(&str) -> bool,
    ) -> Self {
        let names: Vec<S> = names.into_iter().collect();
        let mut seen = SeenNames::of(names.len());
        let mut joined = String::new();
        for name in &names {
            let name = name.as_ref();
            if !is_name(name) || !seen.insert(name, &joined) {
                continue;
            }
            if !joined.is_empty() {
                joined.push(SEPARATOR);
            }
            joined.push_str(name);
        }
        Self(joined.into())
    }

    /// Returns a set of the names if so many queries are worth one: a scan for each of many would be
    /// quadratic.
    pub(super) fn set_for(&self, queries: usize) -> Option<HashSet<&str>> {
        (queries > MAX_LINEAR_SCAN).then(|| self.iter().collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(SEPARATOR).filter(|name| !name.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The names collected so far.
enum SeenNames<'a> {
    /// Scans the joined names.
    Few,
    Many(HashSet<&'a str>),
}

impl<'a> SeenNames<'a> {
    fn of(len: usize) -> Self {
        if len <= MAX_LINEAR_SCAN {
            Self::Few
        } else {
            Self::Many(HashSet::with_capacity(len))
        }
    }

    /// Returns whether `name` is new.
    fn insert(&mut self, name: &'a str, joined: &str) -> bool {
        match self {
            Self::Few => joined.split(SEPARATOR).all(|known| known != name),
            Self::Many(seen) => seen.insert(name),
        }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
