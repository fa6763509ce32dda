use toml_edit::{Array, Decor, InlineTable, Item, Table, TableLike, Value};

use super::array::set_names;
use super::document::{indentation, raw_text};

/// One token in a document, or the labels of one.
pub(super) enum Entry<'a> {
    Table(&'a mut Table),
    Inline(&'a mut InlineTable),
}

impl<'a> Entry<'a> {
    pub(super) fn from_item(item: &'a mut Item) -> Option<Self> {
        match item {
            Item::Table(table) => Some(Self::Table(table)),
            Item::Value(value) => value.as_inline_table_mut().map(Self::Inline),
            _ => None,
        }
    }

    /// Writes a field, in its place if it is there.
    pub(super) fn set(&mut self, field: &str, literal: &str) {
        self.set_value(field, parse_literal(literal));
    }

    /// Names that stay keep their places and their comments, unless the order is another one.
    pub(super) fn set_list(&mut self, field: &str, names: &[&str]) {
        let list = self.fields().get_mut(field).and_then(Item::as_array_mut);
        if list.is_some_and(|list| set_names(list, names)) {
            return;
        }
        let list: Array = names.iter().copied().collect();
        self.set_value(field, Value::Array(list));
    }

    /// Writes the labels, given as an inline table.
    pub(super) fn set_labels(&mut self, literal: &str) {
        let wanted = parse_literal(literal);
        let wanted = wanted.as_inline_table().expect("a table was written");
        let Some(mut labels) = self.fields().get_mut("labels").and_then(Entry::from_item) else {
            self.set("labels", literal);
            return;
        };
        let known = labels.fields().iter().map(|(key, _)| key.to_owned());
        let known: Vec<String> = known.collect();
        for (key, value) in wanted {
            let known = labels.fields().get(key).and_then(Item::as_str);
            if known.is_none() || known != value.as_str() {
                let mut value = value.clone();
                value.decor_mut().clear();
                labels.set_value(key, value);
            }
        }
        // The last, so that there is a place for the comments above them.
        for key in known.iter().filter(|key| !wanted.contains_key(key)) {
            labels.remove(key);
        }
    }

    /// Removes a field. What stands above it goes to the field before it, or to the one behind.
    pub(super) fn remove(&mut self, field: &str) {
        let fields = self.fields();
        let keys: Vec<String> = fields.iter().map(|(key, _)| key.to_owned()).collect();
        let place = keys.iter().position(|key| key == field);
        let above = fields
            .key(field)
            .map(|key| raw_text(key.leaf_decor().prefix()));
        let (Some(place), Some(above)) = (place, above) else {
            return;
        };
        fields.remove(field);
        if !above.contains('#') {
            return;
        }
        let before = place.checked_sub(1).map(|before| &*keys[before]);
        let before = before.and_then(|key| fields.get_mut(key)?.as_value_mut());
        if let Some(value) = before {
            let own = raw_text(value.decor().suffix());
            value
                .decor_mut()
                .set_suffix(format!("{own}\n{}", above.trim_end()));
        } else if let Some(mut key) = keys.get(place + 1).and_then(|key| fields.key_mut(key)) {
            let own = raw_text(key.leaf_decor().prefix());
            key.leaf_decor_mut().set_prefix(above + &own);
        }
    }

    fn set_value(&mut self, key: &str, mut value: Value) {
        if let Some(old) = self.fields().get_mut(key).and_then(Item::as_value_mut) {
            *value.decor_mut() = old.decor().clone();
            *old = value;
            return;
        }
        let is_inline = matches!(self, Self::Inline(_));
        let fields = self.fields();
        let last = fields.iter().filter(|(_, item)| item.is_value()).last();
        let Some(last) = last.map(|(key, _)| key.to_owned()) else {
            fields.insert(key, Item::Value(value));
            return;
        };
        let prefix = fields
            .key(&last)
            .map(|key| raw_text(key.leaf_decor().prefix()));
        let prefix = prefix.unwrap_or_default();
        let indent = if is_inline {
            indentation(&prefix).to_owned()
        } else {
            let prefix = format!("\n{prefix}");
            indentation(&prefix).trim_start_matches('\n').to_owned()
        };
        if let Some(last) = fields.get_mut(&last).and_then(Item::as_value_mut)
            && is_inline
        {
            // What stood before the brace, and not before the comma.
            let suffix = raw_text(last.decor().suffix());
            last.decor_mut().set_suffix("");
            *value.decor_mut() = Decor::new(" ", suffix);
        }
        fields.insert(key, Item::Value(value));
        if let Some(mut key) = fields.key_mut(key) {
            key.leaf_decor_mut().set_prefix(indent);
        }
    }

    fn fields(&mut self) -> &mut dyn TableLike {
        match self {
            Self::Table(table) => *table,
            Self::Inline(table) => *table,
        }
    }
}

fn parse_literal(literal: &str) -> Value {
    literal.parse().expect("it was written as TOML")
}
