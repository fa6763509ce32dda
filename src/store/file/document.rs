use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Cause, Location};

/// What a file is written in, told by the extension of its name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Toml,
    Json,
}

/// A value from a file of either format. Nothing of it is ever shown.
pub(super) struct Value {
    /// From 1; unknown in JSON.
    pub(super) line: Option<usize>,
    pub(super) data: Data,
}

pub(super) enum Data {
    Text(String),
    /// A date or time that TOML wrote without quotes.
    Time(String),
    List(Vec<Value>),
    /// In JSON, names may repeat.
    Map(Vec<(String, Value)>),
    /// Of a kind that no field has.
    Other,
}

impl Format {
    pub(super) fn from_path(path: &Path) -> Result<Self, Cause> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Ok(Self::Toml),
            Some("json") => Ok(Self::Json),
            _ => Err(Cause::Extension),
        }
    }

    /// The messages of the parsers are dropped: they quote the file.
    pub(super) fn parse(self, text: &str) -> Result<Value, Cause> {
        match self {
            Self::Toml => DeTable::parse(text)
                .map(|table| LineIndex::of(text).map(table.get_ref()))
                .map_err(|error| {
                    let line = error
                        .span()
                        .map(|span| LineIndex::of(text).line(span.start));
                    syntax("TOML", line, None)
                }),
            Self::Json => serde_json::from_str(text)
                .map_err(|error| syntax("JSON", Some(error.line()), Some(error.column()))),
        }
    }
}

fn syntax(format: &'static str, line: Option<usize>, column: Option<usize>) -> Cause {
    let location = Location {
        line,
        column,
        ..Location::default()
    };
    Cause::Syntax { format, location }
}

/// Where each line of a TOML text begins.
struct LineIndex(Vec<usize>);

impl LineIndex {
    fn of(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(ends.map(|(offset, _)| offset).collect())
    }

    /// The line, from 1, on which the byte at this place stands.
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
