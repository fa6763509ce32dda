use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::TokenFileError;
use super::text_edits::TextEdits;
use crate::digest::TokenDigest;
use crate::store::TokenRecord;
use crate::store::file::codec::{Fields, pair, string};
use crate::store::file::fields::FIELDS;

const BYTE_ORDER_MARK: char = '\u{feff}';

#[cfg(test)]
mod tests;

/// The text of a token file. Each edit returns a text that differs in what the edit is about.
///
/// The text must be a valid token file: the reader of the store checks it first.
pub(super) struct Document<'t> {
    tokens: Option<Field<'t>>,
    edits: TextEdits<'t>,
}

/// A key with its value, in a token's table or on the top level.
#[derive(Clone)]
struct Field<'t> {
    name: String,
    key: Range<usize>,
    value: Spanned<DeValue<'t>>,
}

/// The table of a token, or of its labels.
struct Entry<'t> {
    /// The header of a table, the braces of an inline table, or the key of dotted keys.
    span: Range<usize>,
    is_inline: bool,
    /// In the order of the file.
    fields: Vec<Field<'t>>,
}

impl<'t> Document<'t> {
    pub(super) fn parse(path: &Path, text: &'t str) -> Result<Self, TokenFileError> {
        let unsupported = || TokenFileError::UnsupportedLayout(path.to_owned());
        let edits = TextEdits::new(text).ok_or_else(unsupported)?;
        let root = DeTable::parse(text).map_err(|_| unsupported())?;
        let tokens = fields(root.get_ref()).pop();
        Ok(Self { tokens, edits })
    }

    /// Appends a token.
    pub(super) fn insert(mut self, fields: &Fields) -> String {
        let line_ending = self.edits.line_ending();
        if let Some(Field { key, value, .. }) = &self.tokens
            && !self.is_array_of_tables()
        {
            let array = value.span();
            let end = self.edits.line_end(array.end);
            let inside = self.edits.text(array.start + 1..array.end - 1);
            if !inside.trim().is_empty() || !self.edits.text(array.end..end).trim().is_empty() {
                let entry = format!("{{ {} }}", fields.join(", "));
                let elements = elements(value);
                self.edits.edit_array(array, &elements, |_| true, &[entry]);
                return self.edits.finish();
            }
            // Tables take the place of an empty array without comments.
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
        (before, known): (&TokenRecord, &Fields),
        (after, wanted): (&TokenRecord, &Fields),
    ) -> Result<String, TokenFileError> {
        let mut entries = self.entries().into_iter();
        let entry = entries.find(|entry| entry.has_digest(before.digest()));
        let entry = entry.ok_or(TokenFileError::UnexpectedContent)?;
        let edits = &mut self.edits;
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for name in FIELDS {
            let literal = wanted.get(name);
            let field = entry.field(name);
            // Without its field, the id would be derived from the new digest.
            let is_derived = name == "id" && field.is_none() && before.digest() != after.digest();
            if literal == known.get(name) && !is_derived {
                continue;
            }
            match (field, literal) {
                (None, None) => {}
                (None, Some(literal)) => added.push(format!("{name} = {literal}")),
                (Some(field), None) if name == "state" => {
                    edits.replace(field.value.span(), "\"active\"");
                }
                (Some(_), None) => removed.push(name),
                (Some(field), Some(literal)) => match name {
                    "roles" => field.set_names(edits, after.roles().iter(), literal),
                    "scopes" => field.set_names(edits, after.scopes().iter(), literal),
                    "labels" => field.set_labels(edits, after.labels().collect()),
                    _ => edits.replace(field.value.span(), literal),
                },
            }
        }
        entry.edit(edits, &removed, &added);
        Ok(self.edits.finish())
    }

    /// Removes a token. Keeps the comments before it, which may be about others too.
    pub(super) fn remove(mut self, record: &TokenRecord) -> String {
        let entries = self.entries();
        let is_kept = |index: usize| !entries[index].has_digest(record.digest());
        let Some(tokens) = &self.tokens else {
            return self.edits.finish();
        };
        if !self.is_array_of_tables() {
            let elements = elements(&tokens.value);
            self.edits
                .edit_array(tokens.value.span(), &elements, is_kept, &[]);
            return self.edits.finish();
        }
        for index in (0..entries.len()).filter(|index| !is_kept(*index)) {
            let end = self.edits.next_line(entries[index].end());
            self.edits.replace(entries[index].span.start..end, "");
        }
        if !(0..entries.len()).any(is_kept) {
            let has_byte_order_mark = self.edits.text(..).starts_with(BYTE_ORDER_MARK);
            let start = if has_byte_order_mark {
                BYTE_ORDER_MARK.len_utf8()
            } else {
                0
            };
            let empty = format!("tokens = []{}", self.edits.line_ending());
            self.edits.replace(start..start, empty);
        }
        self.edits.finish()
    }

    fn is_array_of_tables(&self) -> bool {
        let tokens = self.tokens.as_ref();
        tokens.is_some_and(|tokens| self.edits.text(tokens.value.span()).starts_with("[["))
    }

    /// Returns the tables of all tokens.
    fn entries(&self) -> Vec<Entry<'t>> {
        let tokens = self.tokens.as_ref();
        let tables = tokens.and_then(|tokens| tokens.value.get_ref().as_array());
        let tables = tables.into_iter().flat_map(|tables| tables.iter());
        tables
            .filter_map(|table| Entry::new(table, &self.edits))
            .collect()
    }
}

impl<'t> Entry<'t> {
    fn new(value: &Spanned<DeValue<'t>>, edits: &TextEdits<'t>) -> Option<Self> {
        Some(Self {
            span: value.span(),
            is_inline: edits.text(value.span()).starts_with('{'),
            fields: fields(value.get_ref().as_table()?),
        })
    }

    fn field(&self, name: &str) -> Option<&Field<'t>> {
        self.fields.iter().find(|field| field.name == name)
    }

    fn has_digest(&self, digest: &TokenDigest) -> bool {
        let text = self
            .field("digest")
            .and_then(|it| it.value.get_ref().as_str());
        text.and_then(|text| text.parse().ok()) == Some(*digest)
    }

    /// Returns the end of the last field.
    fn end(&self) -> usize {
        let ends = self.fields.iter().map(|field| field.extent().end);
        ends.fold(self.span.end, usize::max)
    }

    /// Removes fields, and adds others after the last one.
    fn edit(&self, edits: &mut TextEdits<'t>, removed: &[&str], added: &[String]) {
        let is_kept = |field: &Field<'_>| !removed.contains(&&*field.name);
        if self.is_inline {
            let items: Vec<_> = self.fields.iter().map(Field::extent).collect();
            return edits.edit_items(&items, |index| is_kept(&self.fields[index]), added);
        }
        for field in self.fields.iter().filter(|field| !is_kept(field)) {
            field
                .lines()
                .iter()
                .for_each(|lines| edits.remove_lines(lines));
        }
        // A table with a header follows the other fields.
        let direct = self.fields.iter().filter(|field| !field.has_header(edits));
        let last = direct.map(Field::extent).max_by_key(|extent| extent.end);
        let last = last.unwrap_or(self.span.clone());
        for line in added {
            edits.insert_line(&last, line);
        }
    }
}

impl<'t> Field<'t> {
    /// Returns the range from the key to the end of the value, including nested keys.
    fn extent(&self) -> Range<usize> {
        let nested = self.nested().into_iter().map(|field| field.extent().end);
        self.key.start..nested.fold(self.value.span().end, usize::max)
    }

    /// Returns the ranges of the lines of the field, which dotted keys may mix with others.
    fn lines(&self) -> Vec<Range<usize>> {
        if self.value.span() == self.key {
            self.nested().iter().map(Self::extent).collect()
        } else {
            vec![self.extent()]
        }
    }

    fn nested(&self) -> Vec<Self> {
        self.value
            .get_ref()
            .as_table()
            .map(fields)
            .unwrap_or_default()
    }

    fn has_header(&self, edits: &TextEdits<'t>) -> bool {
        self.value.get_ref().is_table() && edits.text(self.value.span()).starts_with('[')
    }

    /// Sets an array of names. Names that remain keep their positions and comments, unless the order
    /// changes.
    fn set_names<'n>(
        &self,
        edits: &mut TextEdits<'t>,
        wanted: impl Iterator<Item = &'n str>,
        literal: &str,
    ) {
        let wanted: Vec<&str> = wanted.collect();
        let known = self.value.get_ref().as_array().into_iter();
        let known = known.flat_map(|array| array.iter().map(|it| it.get_ref().as_str()));
        let known: Vec<&str> = known.map(Option::unwrap_or_default).collect();
        let is_kept = |index: usize| wanted.contains(&known[index]);
        let kept = (0..known.len()).filter(|index| is_kept(*index));
        let kept: Vec<&str> = kept.map(|index| known[index]).collect();
        if !wanted.starts_with(&kept) {
            return edits.replace(self.value.span(), literal);
        }
        let added: Vec<_> = wanted[kept.len()..].iter().map(|it| string(it)).collect();
        edits.edit_array(self.value.span(), &elements(&self.value), is_kept, &added);
    }

    /// Sets the labels. Those that remain keep their positions.
    fn set_labels(&self, edits: &mut TextEdits<'t>, mut wanted: BTreeMap<&str, &str>) {
        let nested = self.nested();
        let kept: Vec<_> = nested
            .iter()
            .map(|it| (it, wanted.remove(&*it.name)))
            .collect();
        let added = wanted.into_iter().map(|(key, value)| pair(key, value));
        if edits.text(self.value.span()).starts_with('{') {
            let kept = kept
                .iter()
                .filter_map(|(field, value)| Some(pair(&field.name, (*value)?)));
            let pairs: Vec<_> = kept.chain(added).collect();
            return edits.replace(self.value.span(), format!("{{ {} }}", pairs.join(", ")));
        }
        for (field, value) in kept {
            match value {
                None => edits.remove_lines(&field.extent()),
                Some(value) if field.value.get_ref().as_str() == Some(value) => {}
                Some(value) => edits.replace(field.value.span(), string(value)),
            }
        }
        let prefix = match nested.first() {
            Some(first) if !self.has_header(edits) => edits.text(self.key.start..first.key.start),
            _ => "",
        };
        let last = nested.last().map_or(self.value.span(), Self::extent);
        for pair in added {
            edits.insert_line(&last, &format!("{prefix}{pair}"));
        }
    }
}

/// Returns the fields of a table in the order of the file.
fn fields<'t>(table: &DeTable<'t>) -> Vec<Field<'t>> {
    let fields = table.iter().map(|(key, value)| Field {
        name: key.get_ref().to_string(),
        key: key.span(),
        value: value.clone(),
    });
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by_key(|field| field.key.start);
    fields
}

fn elements(array: &Spanned<DeValue<'_>>) -> Vec<Range<usize>> {
    let elements = array.get_ref().as_array().into_iter();
    elements
        .flat_map(|array| array.iter().map(Spanned::span))
        .collect()
}
