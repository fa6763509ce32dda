use std::ops::Range;
use std::slice::SliceIndex;

use crate::store::file::codec::Value;

/// Replacements in a text. All other bytes stay the same.
pub(super) struct TextEdits<'t> {
    text: &'t str,
    line_ending: &'static str,
    edits: Vec<(Range<usize>, String)>,
}

impl<'t> TextEdits<'t> {
    /// Returns `None` if the line endings of the text differ.
    pub(super) fn new(text: &'t str) -> Option<Self> {
        let line_ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let is_uniform = text.matches('\n').count() == text.matches(line_ending).count();
        is_uniform.then_some(Self {
            text,
            line_ending,
            edits: Vec::new(),
        })
    }

    pub(super) fn line_ending(&self) -> &'static str {
        self.line_ending
    }

    /// Returns the original text in a range.
    pub(super) fn text(&self, range: impl SliceIndex<str, Output = str>) -> &'t str {
        &self.text[range]
    }

    pub(super) fn replace(&mut self, range: Range<usize>, with: impl Into<String>) {
        self.edits.push((range, with.into()));
    }

    /// Removes the lines of a range, with the line ending before them.
    pub(super) fn remove_lines(&mut self, range: &Range<usize>) {
        let before = self.text[..self.line_start(range.start)].strip_suffix(self.line_ending);
        let start = before.map_or(0, str::len);
        self.replace(start..self.line_end(range.end), "");
    }

    /// Inserts a line after the line of a range, with the same indentation.
    pub(super) fn insert_line(&mut self, after: &Range<usize>, line: &str) {
        let before = &self.text[self.line_start(after.start)..after.start];
        let indentation = &before[..before.len() - before.trim_start().len()];
        let end = self.line_end(after.end);
        self.replace(end..end, format!("{}{indentation}{line}", self.line_ending));
    }

    /// Removes and appends the items of an inline list or table, given by their ranges.
    pub(super) fn edit_items(
        &mut self,
        items: &[Range<usize>],
        is_kept: impl Fn(usize) -> bool,
        added: &[String],
    ) {
        let Some(last) = items.last() else { return };
        let first_kept = (0..items.len()).find(|index| is_kept(*index));
        match first_kept {
            None => self.replace(items[0].start..last.end, ""),
            Some(first) => self.replace(items[0].start..items[first].start, ""),
        }
        for index in first_kept.map_or(items.len(), |first| first + 1)..items.len() {
            if !is_kept(index) {
                self.replace(items[index - 1].end..items[index].end, "");
            }
        }
        let separator = if first_kept.is_some() { ", " } else { "" };
        if !added.is_empty() {
            let added = format!("{separator}{}", added.join(", "));
            self.replace(last.end..last.end, added);
        }
    }

    /// Removes and appends the elements of an array. Keeps a layout with a line per element, and the
    /// comments on the lines of other elements.
    pub(super) fn edit_array(
        &mut self,
        array: &Value,
        is_kept: impl Fn(&Value) -> bool,
        added: &[String],
    ) {
        let elements = array.elements();
        let Some(last) = elements.last() else {
            let content = self.text(array.span.start + 1..array.span.end - 1);
            let added = added.join(", ");
            return if content.trim().is_empty() {
                self.replace(array.span.clone(), format!("[{added}]"));
            } else {
                let end = array.span.end - 1;
                self.replace(end..end, format!("{added}{}", self.line_ending));
            };
        };
        if !elements.iter().all(|element| self.is_alone(&element.span)) {
            let items: Vec<_> = elements.iter().map(|it| it.span.clone()).collect();
            return self.edit_items(&items, |index| is_kept(&elements[index]), added);
        }
        let end = last.span.end;
        let has_comma = self.text[end..].trim_start().starts_with(',');
        if !has_comma && is_kept(last) && !added.is_empty() {
            self.replace(end..end, ",");
        }
        for element in elements.iter().filter(|element| !is_kept(element)) {
            self.remove_lines(&element.span);
        }
        for (index, element) in added.iter().enumerate() {
            let is_end = index + 1 == added.len() && !has_comma;
            let comma = if is_end { "" } else { "," };
            self.insert_line(&last.span, &format!("{element}{comma}"));
        }
    }

    /// Returns the edited text.
    pub(super) fn finish(mut self) -> String {
        // Stable, so that insertions at the same offset keep their order.
        self.edits.sort_by_key(|(range, _)| range.start);
        let (mut text, mut copied) = (String::with_capacity(self.text.len()), 0);
        for (range, with) in self.edits {
            text.push_str(&self.text[copied..range.start.max(copied)]);
            text.push_str(&with);
            copied = copied.max(range.end);
        }
        text.push_str(&self.text[copied..]);
        text
    }

    /// Returns whether an element is the only content of its lines, apart from a comment.
    fn is_alone(&self, element: &Range<usize>) -> bool {
        let before = &self.text[self.line_start(element.start)..element.start];
        let after = self.text[element.end..self.line_end(element.end)].trim_start();
        let after = after.strip_prefix(',').unwrap_or(after).trim_start();
        before.trim().is_empty() && (after.is_empty() || after.starts_with('#'))
    }

    fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].rfind('\n').map_or(0, |end| end + 1)
    }

    /// Returns the offset of the line ending after an offset.
    pub(super) fn line_end(&self, offset: usize) -> usize {
        let end = self.text[offset..].find(self.line_ending);
        end.map_or(self.text.len(), |end| offset + end)
    }

    /// Returns the offset of the next line.
    pub(super) fn next_line(&self, offset: usize) -> usize {
        let next = self.line_end(offset) + self.line_ending.len();
        next.min(self.text.len())
    }
}
