use std::fmt;

const SEPARATOR: char = '\n';

/// An ordered set of names in one allocation: a record has few of them and there are many records.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Names(Box<str>);

impl Names {
    /// Leaves out what `is_name` refuses; it must refuse the separator.
    pub(super) fn collect<S: AsRef<str>>(
        names: impl IntoIterator<Item = S>,
        is_name: fn(&str) -> bool,
    ) -> Self {
        let mut joined = String::new();
        for name in names {
            let name = name.as_ref();
            if !is_name(name) || joined.split(SEPARATOR).any(|known| known == name) {
                continue;
            }
            if !joined.is_empty() {
                joined.push(SEPARATOR);
            }
            joined.push_str(name);
        }
        Self(joined.into())
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
