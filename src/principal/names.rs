use std::collections::HashSet;
use std::fmt;

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

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(SEPARATOR).filter(|name| !name.is_empty())
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
