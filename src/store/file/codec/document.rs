use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::store::file::error::{Cause, Location};

/// The fields of a token, in the order in which they are written.
pub(in crate::store::file) const FIELDS: [&str; 12] = [
    "name",
    "digest",
    "id",
    "roles",
    "scopes",
    "subject",
    "owner",
    "description",
    "labels",
    "expires_at",
    "not_before",
    "state",
];

/// The format of a file, by the extension of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::file) enum Format {
    Toml,
    Json,
}

/// A value of a file in either format. It may be a secret, so errors never quote it.
pub(in crate::store::file) struct Value {
    /// The bytes in a TOML text. Unknown in JSON, and then empty.
    pub(in crate::store::file) span: Range<usize>,
    pub(in crate::store::file) data: Data,
}

pub(in crate::store::file) enum Data {
    Text(String),
    /// A TOML date or time without quotes.
    Time(String),
    List(Vec<Value>),
    /// In the order of the file. In JSON, a name may occur twice.
    Map(Vec<Field>),
    /// A value of a type that no field has.
    Other,
}

pub(in crate::store::file) struct Field {
    pub(in crate::store::file) name: String,
    pub(in crate::store::file) key: Range<usize>,
    pub(in crate::store::file) value: Value,
}

impl Format {
    pub(in crate::store::file) fn from_path(path: &Path) -> Result<Self, Cause> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Ok(Self::Toml),
            Some("json") => Ok(Self::Json),
            _ => Err(Cause::Extension),
        }
    }

    /// Parses a file. Drops the messages of the parsers, which quote the file.
    pub(in crate::store::file) fn parse(self, text: &str) -> Result<Value, Cause> {
        match self {
            Self::Toml => {
                let table = DeTable::parse(text).map_err(|error| Cause::Syntax {
                    format: "TOML",
                    location: Location::line(error.span().map(|span| line(text, span.start))),
                })?;
                Ok(Value::new(table.span(), map(table.get_ref())))
            }
            // TOML allows a byte order mark.
            Self::Json => {
                serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
                    Cause::Syntax {
                        format: "JSON",
                        location: Location {
                            column: Some(error.column()),
                            ..Location::line(error.line())
                        },
                    }
                })
            }
        }
    }
}

/// Returns the line of the byte at this offset, counted from 1.
pub(super) fn line(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

impl Value {
    fn new(span: Range<usize>, data: Data) -> Self {
        Self { span, data }
    }

    fn from_toml(value: &Spanned<DeValue<'_>>) -> Self {
        let data = match value.get_ref() {
            DeValue::String(text) => Data::Text(text.to_string()),
            DeValue::Datetime(time) => Data::Time(time.to_string()),
            DeValue::Array(values) => Data::List(values.iter().map(Self::from_toml).collect()),
            DeValue::Table(table) => map(table),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => Data::Other,
        };
        Self::new(value.span(), data)
    }

    pub(in crate::store::file) fn as_text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the text of a time, with or without quotes.
    pub(super) fn as_time(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) | Data::Time(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&[Self]> {
        match &self.data {
            Data::List(values) => Some(values),
            _ => None,
        }
    }

    pub(super) fn as_map(&self) -> Option<&[Field]> {
        match &self.data {
            Data::Map(fields) => Some(fields),
            _ => None,
        }
    }

    pub(super) fn as_texts(&self) -> Option<Vec<&str>> {
        self.as_list()?.iter().map(Self::as_text).collect()
    }

    pub(super) fn as_pairs(&self) -> Option<Vec<(&str, &str)>> {
        let fields = self.as_map()?.iter();
        fields
            .map(|field| Some((&*field.name, field.value.as_text()?)))
            .collect()
    }
}

#[cfg(feature = "cli")]
impl Value {
    /// Returns the elements of an array, or none.
    pub(in crate::store::file) fn elements(&self) -> &[Self] {
        self.as_list().unwrap_or_default()
    }

    /// Returns the fields of a table, or none.
    pub(in crate::store::file) fn fields(&self) -> &[Field] {
        self.as_map().unwrap_or_default()
    }

    pub(in crate::store::file) fn field(&self, name: &str) -> Option<&Field> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// Returns the end of the value, including nested fields.
    pub(in crate::store::file) fn end(&self) -> usize {
        let ends = self.fields().iter().map(|field| field.value.end());
        ends.fold(self.span.end, usize::max)
    }
}

#[cfg(feature = "cli")]
impl Field {
    /// Returns the range from the key to the end of the value, including nested fields.
    pub(in crate::store::file) fn extent(&self) -> Range<usize> {
        self.key.start..self.value.end()
    }

    /// Returns the ranges of the lines of the field. Other fields may stand between dotted keys.
    pub(in crate::store::file) fn lines(&self) -> Vec<Range<usize>> {
        if self.value.span == self.key {
            self.value.fields().iter().map(Self::extent).collect()
        } else {
            vec![self.extent()]
        }
    }
}

fn map(table: &DeTable<'_>) -> Data {
    let fields = table.iter().map(|(key, value)| Field {
        name: key.get_ref().to_string(),
        key: key.span(),
        value: Value::from_toml(value),
    });
    let mut fields: Vec<Field> = fields.collect();
    fields.sort_by_key(|field| field.key.start);
    Data::Map(fields)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let data = deserializer.deserialize_any(DataVisitor)?;
        Ok(Self::new(0..0, data))
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Data, E> {
        Ok(Data::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Data, E> {
        Ok(Data::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Data, E> {
        Ok(Data::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Data, E> {
        Ok(Data::Other)
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Data, E> {
        Ok(Data::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Data, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element()? {
            list.push(value);
        }
        Ok(Data::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Data, A::Error> {
        let mut map = Vec::new();
        while let Some((name, value)) = fields.next_entry()? {
            let key = 0..0;
            map.push(Field { name, key, value });
        }
        Ok(Data::Map(map))
    }
}
