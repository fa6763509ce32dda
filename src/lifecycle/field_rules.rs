//! The rules for single texts.

use super::FieldProblem;
use crate::principal::Roles;
use crate::text::{has_invisible, is_blank};

pub(super) const MAX_TEXT_CHARS: usize = 200;
const MAX_DESCRIPTION: usize = 2000;

/// Removes the white space around names, except of those that are stored with it.
pub(super) fn trimmed(mut names: Vec<String>, known: &[String]) -> Vec<String> {
    for name in &mut names {
        let text = name.trim();
        if text.len() < name.len() && !known.contains(name) {
            *name = text.to_owned();
        }
    }
    names
}

pub(super) fn is_role(name: &str) -> bool {
    Roles::is_name(name) && !is_blank(name) && !has_invisible(name)
}

/// Checks the names that are not in `known`.
pub(super) fn check_names(
    pointer: &'static str,
    names: &[String],
    known: &[String],
    is_valid: fn(&str) -> bool,
    problems: &mut Vec<FieldProblem>,
) {
    for (index, name) in names.iter().enumerate() {
        let is_valid = is_valid(name) && name.chars().count() <= MAX_TEXT_CHARS;
        if !is_valid && !known.contains(name) {
            let detail = match pointer {
                "/scopes" => "a scope is visible ASCII without quotes and backslashes",
                _ => "a role is not empty and has no control or invisible characters",
            };
            let detail = format!("{detail}, at most {MAX_TEXT_CHARS} characters");
            problems.push(FieldProblem::new(format!("{pointer}/{index}"), detail));
        }
    }
}

/// Checks a single line: it has a visible character, no invisible one, and no white space at either
/// end.
pub(super) fn check_line(pointer: &'static str, text: &str, problems: &mut Vec<FieldProblem>) {
    if is_blank(text) {
        problems.push(FieldProblem::new(pointer, "must not be empty"));
    } else if text.trim() != text || has_invisible(text) {
        let detail = "no space at either end, and no control or invisible characters";
        problems.push(FieldProblem::new(pointer, detail));
    }
    check_length(pointer, text, MAX_TEXT_CHARS, problems);
}

/// Returns whether [`check_line`] finds no problem.
pub(super) fn is_line(text: &str) -> bool {
    let mut problems = Vec::new();
    check_line("", text, &mut problems);
    problems.is_empty()
}

/// Checks a text of several lines.
pub(super) fn check_description(text: &str, problems: &mut Vec<FieldProblem>) {
    const POINTER: &str = "/description";
    let is_control = |char: char| char.is_control() && !matches!(char, '\n' | '\t');
    if text.replace("\r\n", "\n").contains(is_control) {
        let detail = "no control characters except line breaks and tabs";
        problems.push(FieldProblem::new(POINTER, detail));
    }
    check_length(POINTER, text, MAX_DESCRIPTION, problems);
}

pub(super) fn check_count(
    pointer: &'static str,
    count: usize,
    max: usize,
    problems: &mut Vec<FieldProblem>,
) {
    if count > max {
        problems.push(FieldProblem::new(pointer, format!("at most {max} entries")));
    }
}

fn check_length(pointer: &'static str, text: &str, max: usize, problems: &mut Vec<FieldProblem>) {
    if text.chars().count() > max {
        problems.push(FieldProblem::new(
            pointer,
            format!("at most {max} characters"),
        ));
    }
}
