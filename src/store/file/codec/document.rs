use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::store::file::error::{Cause, Location};

/// The format of a file, by the extension of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::file) enum Format {
    Toml,
    Json,
}

/// A value from a file of either format. It may be a secret, so errors never quote it.
pub(in crate::store::file) struct Value {
    /// Counted from 1; unknown in JSON.
    pub(super) line: Option<usize>,
    pub(super) data: Data,
}

pub(super) enum Data {
    Text(String),
    /// A TOML date or time without quotes.
    Time(String),
    List(Vec<Value>),
    /// In JSON, a name may occur twice.
    Map(Vec<(String, Value)>),
    /// A value of a type that no field has.
    Other,
}

impl Data {
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
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
                let lines = LineIndex::new(text);
                let table = DeTable::parse(text).map_err(|error| Cause::Syntax {
                    format: "TOML",
                    location: Location::line(error.span().map(|span| lines.line(span.start))),
                })?;
                Ok(lines.map(table.get_ref()))
            }
            Self::Json => serde_json::from_str(text).map_err(|error| Cause::Syntax {
                format: "JSON",
                location: Location {
                    column: Some(error.column()),
                    ..Location::line(error.line())
                },
            }),
        }
    }
}

/// The offsets of the line ends of a TOML text.
struct LineIndex(Vec<usize>);

impl LineIndex {
    fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(ends.map(|(offset, _)| offset).collect())
    }

    /// Returns the line of the byte at this offset, counted from 1.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }

    fn map(&self, table: &DeTable<'_>) -> Value {
        let fields = table.iter().map(|(name, value)| {
            let line = Some(self.line(name.span().start));
            let data = self.value(value).data;
            (name.get_ref().to_string(), Value { line, data })
        });
        let data = Data::Map(fields.collect());
        Value { line: None, data }
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Value {
        let line = Some(self.line(value.span().start));
        let data = match value.get_ref() {
            DeValue::String(text) => Data::Text(text.to_string()),
            DeValue::Datetime(time) => Data::Time(time.to_string()),
            DeValue::Array(values) => Data::List(values.iter().map(|it| self.value(it)).collect()),
            DeValue::Table(table) => self.map(table).data,
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => Data::Other,
        };
        Value { line, data }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let data = deserializer.deserialize_any(DataVisitor)?;
        Ok(Self { line: None, data })
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
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Data::Map(map))
    }
}
