use std::collections::BTreeMap;
use std::path::Path;

use super::text_edits::TextEdits;
use crate::digest::TokenDigest;
use crate::store::TokenRecord;
use crate::store::file::codec::{Data, FIELDS, Field, Fields, Format, Value, pair, string};
use crate::store::file::token_file_error::TokenFileError;

const BYTE_ORDER_MARK: char = '\u{feff}';

#[cfg(test)]
mod tests;

/// The text of a token file. Each edit returns a new text and keeps all bytes that it need not change.
///
/// The text must be a valid token file: the reader of the store checks it first.
pub(super) struct Document<'t> {
    tokens: Option<Field>,
    edits: TextEdits<'t>,
}

impl<'t> Document<'t> {
    pub(super) fn parse(path: &Path, text: &'t str) -> Result<Self, TokenFileError> {
        let unsupported = || TokenFileError::UnsupportedLayout(path.to_owned());
        let edits = TextEdits::new(text).ok_or_else(unsupported)?;
        let root = Format::Toml.parse(text).map_err(|_| unsupported())?;
        let tokens = match root.data {
            Data::Map(mut fields) => fields.pop(),
            _ => None,
        };
        Ok(Self { tokens, edits })
    }

    /// Appends a token.
    pub(super) fn insert(mut self, fields: &Fields) -> String {
        let line_ending = self.edits.line_ending();
        if let Some(Field { key, value, .. }) = &self.tokens
            && !is_array_of_tables(value, &self.edits)
        {
            let array = &value.span;
            let end = self.edits.line_end(array.end);
            let inside = self.edits.text(array.start + 1..array.end - 1);
            if !inside.trim().is_empty() || !self.edits.text(array.end..end).trim().is_empty() {
                let entry = format!("{{ {} }}", fields.join(", "));
                self.edits.edit_array(value, |_| true, &[entry]);
                return self.edits.finish();
            }
            // Tables replace an empty array without comments.
            self.edits.replace(key.start..self.edits.next_line(end), "");
        }
        let mut text = self.edits.finish();
        if !text.trim_start_matches(BYTE_ORDER_MARK).is_empty() {
            let has_end = text.ends_with('\n');
            text.push_str(if has_end { "" } else { line_ending });
            text.push_str(line_ending);
        }
        text + "[[tokens]]" + line_ending + &fields.join(line_ending) + line_ending
    }

    /// Changes the fields of a token that differ.
    pub(super) fn update(
        mut self,
        before: &TokenRecord,
        after: &TokenRecord,
    ) -> Result<String, TokenFileError> {
        let (known, wanted) = (Fields::of(before)?, Fields::of(after)?);
        let mut entries = self.tokens.iter().flat_map(|it| it.value.elements());
        let entry = entries.find(|entry| has_digest(entry, before.digest()));
        let entry = entry.ok_or(TokenFileError::UnexpectedContent)?;
        let edits = &mut self.edits;
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for name in FIELDS {
            let literal = wanted.get(name);
            let field = entry.field(name);
            // Without this field, the id would be derived from the new digest.
            let is_derived = name == "id" && field.is_none() && before.digest() != after.digest();
            if literal == known.get(name) && !is_derived {
                continue;
            }
            match (field, literal) {
                (None, None) => {}
                (None, Some(literal)) => added.push(format!("{name} = {literal}")),
                (Some(field), None) if name == "state" => {
                    edits.replace(field.value.span.clone(), "\"active\"");
                }
                (Some(_), None) => removed.push(name),
                (Some(field), Some(literal)) => match name {
                    "roles" => set_names(edits, &field.value, after.roles().iter(), literal),
                    "scopes" => set_names(edits, &field.value, after.scopes().iter(), literal),
                    "labels" => set_labels(edits, field, after.labels().collect()),
                    _ => edits.replace(field.value.span.clone(), literal),
                },
            }
        }
        edit_table(edits, entry, &removed, &added);
        Ok(self.edits.finish())
    }

    /// Removes a token. Keeps the comments before it, which may describe other tokens too.
    pub(super) fn remove(mut self, record: &TokenRecord) -> String {
        let Some(Field { value: tokens, .. }) = &self.tokens else {
            return self.edits.finish();
        };
        let is_kept = |entry: &Value| !has_digest(entry, record.digest());
        if !is_array_of_tables(tokens, &self.edits) {
            self.edits.edit_array(tokens, is_kept, &[]);
            return self.edits.finish();
        }
        let (kept, removed): (Vec<_>, _) = tokens.elements().iter().partition(|it| is_kept(it));
        for entry in removed {
            let end = self.edits.next_line(entry.end());
            self.edits.replace(entry.span.start..end, "");
        }
        if kept.is_empty() {
            let text = self.edits.text(..);
            let start = text.len() - text.trim_start_matches(BYTE_ORDER_MARK).len();
            let empty = format!("tokens = []{}", self.edits.line_ending());
            self.edits.replace(start..start, empty);
        }
        self.edits.finish()
    }
}

fn is_array_of_tables(tokens: &Value, edits: &TextEdits<'_>) -> bool {
    edits.text(tokens.span.clone()).starts_with("[[")
}

fn has_digest(entry: &Value, digest: &TokenDigest) -> bool {
    let text = entry.field("digest").and_then(|it| it.value.as_text());
    text.and_then(|text| text.parse().ok()) == Some(*digest)
}

/// Sets an array of names. Names that remain keep their positions and comments, unless the order
/// changes.
fn set_names<'n>(
    edits: &mut TextEdits<'_>,
    array: &Value,
    wanted: impl Iterator<Item = &'n str>,
    literal: &str,
) {
    let wanted: Vec<&str> = wanted.collect();
    let is_kept = |name: &Value| name.as_text().is_some_and(|it| wanted.contains(&it));
    let kept = array.elements().iter().filter(|name| is_kept(name));
    let kept: Vec<&str> = kept.filter_map(Value::as_text).collect();
    if !wanted.starts_with(&kept) {
        return edits.replace(array.span.clone(), literal);
    }
    let added: Vec<_> = wanted[kept.len()..].iter().map(|it| string(it)).collect();
    edits.edit_array(array, is_kept, &added);
}

/// Sets the labels. Labels that remain keep their positions.
fn set_labels(edits: &mut TextEdits<'_>, labels: &Field, mut wanted: BTreeMap<&str, &str>) {
    let (table, mut removed) = (&labels.value, Vec::new());
    for field in table.fields() {
        match wanted.remove(&*field.name) {
            None => removed.push(&*field.name),
            Some(value) if field.value.as_text() == Some(value) => {}
            Some(value) => edits.replace(field.value.span.clone(), string(value)),
        }
    }
    // Dotted keys repeat the name of the table.
    let prefix = match table.fields().first() {
        Some(first) if table.span == labels.key => edits.text(labels.key.start..first.key.start),
        _ => "",
    };
    let added = wanted.into_iter().map(|(key, value)| pair(key, value));
    let added: Vec<_> = added.map(|pair| format!("{prefix}{pair}")).collect();
    edit_table(edits, table, &removed, &added);
}

/// Removes fields of a table, and adds others after the last one.
fn edit_table(edits: &mut TextEdits<'_>, table: &Value, removed: &[&str], added: &[String]) {
    let is_kept = |field: &Field| !removed.contains(&&*field.name);
    let fields = table.fields();
    if edits.text(table.span.clone()).starts_with('{') {
        let items: Vec<_> = fields.iter().map(Field::extent).collect();
        if items.is_empty() && !added.is_empty() {
            let content = format!("{{ {} }}", added.join(", "));
            return edits.replace(table.span.clone(), content);
        }
        return edits.edit_items(&items, |index| is_kept(&fields[index]), added);
    }
    for field in fields.iter().filter(|field| !is_kept(field)) {
        for lines in field.lines() {
            edits.remove_lines(&lines);
        }
    }
    // A table with a header follows the other fields.
    let has_header = |field: &Field| {
        let text = edits.text(field.value.span.clone());
        matches!(field.value.data, Data::Map(_)) && text.starts_with('[')
    };
    let direct = fields.iter().filter(|field| !has_header(field));
    let last = direct.map(Field::extent).max_by_key(|extent| extent.end);
    let last = last.unwrap_or(table.span.clone());
    for line in added {
        edits.insert_line(&last, line);
    }
}
