use toml_edit::{Array, Decor, Value};

use super::document::{after_comments, text_of};

/// Adds a value as the last one is written: on a line of its own, if that is.
pub(super) fn push(list: &mut Array, mut value: Value) {
    let above = list.iter().last();
    let above = above.map(|above| text_of(above.decor().prefix()));
    let mut prefix = match &above {
        None => String::new(),
        Some(above) if above.contains('\n') => after_comments(above).to_owned(),
        Some(_) => " ".to_owned(),
    };
    // A comment behind the last one stays on its line.
    let trailing = text_of(Some(list.trailing()));
    let (line, rest) = split_line(&trailing);
    if line.contains('#') && prefix.starts_with('\n') {
        prefix.insert_str(0, line);
        list.set_trailing(rest);
    }
    *value.decor_mut() = Decor::new(prefix, "");
    list.push_formatted(value);
}

/// Makes these the names of the list: those that stay keep their places, and new ones come behind.
/// Does nothing, and says so, if the order would be another one.
pub(super) fn rename(list: &mut Array, wanted: &[&str]) -> bool {
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
    let before = text_of(list.remove(place).decor().prefix());
    let behind = match list.get(place) {
        Some(next) => text_of(next.decor().prefix()),
        None => text_of(Some(list.trailing())),
    };
    let (line, rest) = split_line(&behind);
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
fn split_line(text: &str) -> (&str, &str) {
    text.split_at(text.find('\n').unwrap_or(text.len()))
}
