use toml_edit::{Array, Decor, Value};

use super::document::{indentation, raw_text};

/// Adds a value as the last one is written: on a line of its own, if that is.
pub(super) fn push(list: &mut Array, mut value: Value) {
    let has_comma = list.trailing_comma();
    let (mut prefix, mut suffix) = (String::new(), String::new());
    // What stands behind the last one: before the bracket, if there is no comma.
    let mut behind = raw_text(Some(list.trailing()));
    if let Some(place) = list.len().checked_sub(1)
        && let Some(last) = list.get_mut(place)
    {
        let above = raw_text(last.decor().prefix());
        prefix = match indentation(&above) {
            line if line.contains('\n') => line.to_owned(),
            _ => " ".to_owned(),
        };
        if !has_comma {
            behind = raw_text(last.decor().suffix());
            last.decor_mut().set_suffix("");
        }
    }
    // A comment behind the last one stays on its line.
    let (line, _) = split_first_line(&behind);
    let length = line.len();
    if line.contains('#') {
        let line_ending = if prefix.contains('\n') { "" } else { "\n" };
        prefix = format!("{line}{line_ending}{prefix}");
        behind.drain(..length);
    }
    if has_comma || list.is_empty() {
        list.set_trailing(behind);
    } else {
        suffix = behind;
    }
    *value.decor_mut() = Decor::new(prefix, suffix);
    list.push_formatted(value);
}

/// Makes these the names of the list: those that stay keep their places, and new ones come behind.
/// Does nothing, and says so, if the order would be another one.
pub(super) fn set_names(list: &mut Array, wanted: &[&str]) -> bool {
    let stays = |value: &Value| value.as_str().is_some_and(|it| wanted.contains(&it));
    let kept = list.iter().filter(|value| stays(value));
    let kept: Vec<&str> = kept.filter_map(Value::as_str).collect();
    if !wanted.starts_with(&kept) {
        return false;
    }
    // First, to be written as the others are.
    let added = &wanted[kept.len()..];
    for name in added {
        push(list, Value::from(*name));
    }
    loop {
        let gone = list.iter().position(|value| !stays(value));
        match gone {
            Some(place) => remove(list, place),
            None => return true,
        }
    }
}

/// Removes a value with the comment behind it. What stands before it stays.
fn remove(list: &mut Array, place: usize) {
    let before = raw_text(list.remove(place).decor().prefix());
    let behind = match list.get(place) {
        Some(next) => raw_text(next.decor().prefix()),
        None => raw_text(Some(list.trailing())),
    };
    let (line, rest) = split_first_line(&behind);
    let rest = if line.contains('#') { rest } else { &behind };
    let is_first = place == 0 && !list.is_empty() && !rest.contains('#');
    let joined = match before.rfind('\n') {
        Some(end) if before.contains('#') && rest.contains('\n') => {
            format!("{}{rest}", &before[..end])
        }
        _ if before.contains('#') || is_first => before,
        _ => rest.to_owned(),
    };
    match list.get_mut(place) {
        Some(next) => next.decor_mut().set_prefix(joined),
        None => list.set_trailing(joined),
    }
}

/// What stands before the first line end, and the rest with that.
fn split_first_line(text: &str) -> (&str, &str) {
    text.split_at(text.find('\n').unwrap_or(text.len()))
}
