use std::path::Path;

use toml_edit::{DocumentMut, Item, RawString, TableLike, Value};
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::{TokenRecord, TokenState};

use super::array::push;
use super::entry::Entry;
use super::error::TokenFileError;
use super::literal::literals;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of a token file, of which a change leaves all as it is but what it is about.
///
/// It is known to be the good text of a token file: whoever reads it asks the crate's own reader
/// first.
pub(super) struct Document {
    content: DocumentMut,
    has_byte_order_mark: bool,
    line_ending: &'static str,
}

impl Document {
    /// Fails if writing it again would give another text.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, TokenFileError> {
        let unsupported = || TokenFileError::UnsupportedLayout(path.to_owned());
        let line_ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let document = Self {
            content: text.parse().map_err(|_| unsupported())?,
            has_byte_order_mark: text.starts_with(BYTE_ORDER_MARK),
            line_ending,
        };
        let written = document.to_text();
        // The last line may want its end.
        let is_same = written
            .strip_prefix(text)
            .is_some_and(|more| ["", line_ending].contains(&more));
        if is_same {
            Ok(document)
        } else {
            Err(unsupported())
        }
    }

    pub(super) fn to_text(&self) -> String {
        let text = self.content.to_string();
        let text = text.trim_start_matches(BYTE_ORDER_MARK);
        let mark = self.has_byte_order_mark.then_some(BYTE_ORDER_MARK);
        let mark = mark.map(String::from).unwrap_or_default();
        // Where a text goes over several lines, it has them still.
        mark + &text.replace("\r\n", "\n").replace('\n', self.line_ending)
    }

    /// Adds a token behind the others.
    pub(super) fn insert(&mut self, record: &TokenRecord) -> Result<(), TokenFileError> {
        let fields = literals(record)?.into_iter();
        let fields: Vec<String> = fields.map(|(name, it)| format!("{name} = {it}")).collect();
        self.replace_empty_array();
        if let Some(Item::Value(Value::Array(list))) = self.content.get_mut("tokens") {
            let entry = format!("{{ {} }}", fields.join(", "));
            push(list, entry.parse().expect("each is TOML"));
        } else {
            let mut text = self.content.to_string();
            if !text.trim_start_matches(BYTE_ORDER_MARK).is_empty() {
                let has_end = text.ends_with('\n');
                text.push_str(if has_end { "\n" } else { "\n\n" });
            }
            let text = format!("{text}[[tokens]]\n{}\n", fields.join("\n"));
            self.content = text.parse().expect("what was TOML, and more of it");
        }
        Ok(())
    }

    /// Makes the entry of one record that of another.
    pub(super) fn update(
        &mut self,
        before: &TokenRecord,
        after: &TokenRecord,
    ) -> Result<(), TokenFileError> {
        let (known, wanted) = (literals(before)?, literals(after)?);
        let mut entry = self
            .entry(before.digest())
            .ok_or(TokenFileError::UnexpectedContent)?;
        let literal = |of: &[(&str, String)], field: &str| {
            let found = of.iter().find(|(name, _)| *name == field);
            found.map(|(_, literal)| literal.clone())
        };
        if before.digest() != after.digest() {
            // Where none is written, it is made from the digest.
            let id = literal(&wanted, "id").expect("each has one");
            entry.set("id", &id);
        }
        for field in [
            "name",
            "digest",
            "subject",
            "description",
            "expires_at",
            "not_before",
            "state",
        ] {
            let is_active = field == "state" && after.state() == TokenState::Active;
            match literal(&wanted, field) {
                wanted if wanted == literal(&known, field) => {}
                None if is_active => entry.set(field, "\"active\""),
                None => entry.remove(field),
                Some(wanted) => entry.set(field, &wanted),
            }
        }
        if before.roles() != after.roles() {
            entry.set_list("roles", &after.roles().iter().collect::<Vec<_>>());
        }
        if before.scopes() != after.scopes() {
            entry.set_list("scopes", &after.scopes().iter().collect::<Vec<_>>());
        }
        if !before.labels().eq(after.labels()) {
            let labels = literal(&wanted, "labels").unwrap_or_else(|| "{}".to_owned());
            entry.set_labels(&labels);
        }
        Ok(())
    }

    /// Takes an entry out. The comments before it stay, as they may be of more than this entry.
    pub(super) fn remove(&mut self, record: &TokenRecord) {
        let is_it = |entry: &dyn TableLike| digest(entry) == Some(*record.digest());
        let mut left = None;
        match self.content.get_mut("tokens") {
            Some(Item::ArrayOfTables(entries)) => {
                let place = entries.iter().position(|it| is_it(it));
                if let Some(place) = place {
                    let comments = raw_text(entries.remove(place).decor().prefix());
                    left = Some((place, comments));
                }
            }
            Some(Item::Value(Value::Array(list))) => {
                list.retain(|value| !value.as_inline_table().is_some_and(|it| is_it(it)));
            }
            _ => {}
        }
        if let Some((place, comments)) = left.filter(|(_, it)| !it.trim().is_empty()) {
            self.insert_comments_before(place, &comments);
        }
        if self.content.get("tokens").is_some_and(|it| {
            it.as_array_of_tables()
                .is_some_and(toml_edit::ArrayOfTables::is_empty)
        }) {
            self.content
                .insert("tokens", toml_edit::value(toml_edit::Array::new()));
        }
    }

    /// Puts comments before the entry at this place, or at the end.
    fn insert_comments_before(&mut self, place: usize, comments: &str) {
        let entries = self
            .content
            .get_mut("tokens")
            .and_then(Item::as_array_of_tables_mut);
        if let Some(entry) = entries.and_then(|entries| entries.get_mut(place)) {
            let prefix = raw_text(entry.decor().prefix());
            entry.decor_mut().set_prefix(format!("{comments}{prefix}"));
        } else {
            let trailing = raw_text(Some(self.content.trailing()));
            self.content.set_trailing(format!("{comments}{trailing}"));
        }
    }

    /// Makes room for entries of their own in place of an empty list, if nobody says anything of it.
    fn replace_empty_array(&mut self) {
        let Some(Item::Value(Value::Array(list))) = self.content.get("tokens") else {
            return;
        };
        let comments = raw_text(Some(list.trailing())) + &raw_text(list.decor().suffix());
        if !list.is_empty() || !comments.trim().is_empty() {
            return;
        }
        if let Some((key, _)) = self.content.remove_entry("tokens") {
            let before = raw_text(key.leaf_decor().prefix());
            let trailing = raw_text(Some(self.content.trailing()));
            self.content.set_trailing(before + &trailing);
        }
    }

    fn entry(&mut self, of: &TokenDigest) -> Option<Entry<'_>> {
        match self.content.get_mut("tokens")? {
            Item::ArrayOfTables(entries) => {
                let mut entries = entries.iter_mut();
                entries
                    .find(|it| digest(*it) == Some(*of))
                    .map(Entry::Table)
            }
            Item::Value(Value::Array(list)) => {
                let mut entries = list.iter_mut().filter_map(Value::as_inline_table_mut);
                entries
                    .find(|it| digest(*it) == Some(*of))
                    .map(Entry::Inline)
            }
            _ => None,
        }
    }
}

fn digest(entry: &dyn TableLike) -> Option<TokenDigest> {
    entry.get("digest")?.as_str()?.parse().ok()
}

pub(super) fn raw_text(raw: Option<&RawString>) -> String {
    raw.and_then(RawString::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// The white space from the last line end on: what indents a line.
pub(super) fn indentation(prefix: &str) -> &str {
    let start = prefix.rfind('\n').unwrap_or(0);
    if prefix[start..].trim().is_empty() {
        &prefix[start..]
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(token: &str) -> TokenRecord {
        let id = "7Hq2mX9bTe".parse().expect("an id");
        TokenRecord::new(id, TokenDigest::of(token))
    }

    fn entry(token: &str) -> String {
        format!("[[tokens]]\ndigest = \"{}\"\n", TokenDigest::of(token))
    }

    #[test]
    fn removing_a_token_keeps_the_comments_before_it() {
        let (a, b) = (entry("a"), entry("b"));
        let text = format!("# all\n\n{a}\n# second\n{b}\n# end\n");
        for (tokens, left) in [
            (&["a"] as &[_], format!("# all\n\n\n# second\n{b}\n# end\n")),
            (&["b"], format!("# all\n\n{a}\n# second\n\n# end\n")),
            (
                &["b", "a"],
                "tokens = []\n# all\n\n\n# second\n\n# end\n".to_owned(),
            ),
        ] {
            let mut document = Document::parse(Path::new("t.toml"), &text).expect("TOML");
            for token in tokens {
                document.remove(&record(token));
            }
            assert_eq!(document.to_text(), left);
        }
    }
}
