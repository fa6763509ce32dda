//! Rows of records as one JSON array each.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::columns::{BLOBS, COLUMN_COUNT, columns};
use super::session::{Column, NamedColumns};

/// The columns of a record in one value, in their order. A blob is a text of hexadecimal digits.
pub(super) struct JsonRow<'j> {
    values: [JsonValue<'j>; COLUMN_COUNT],
}

#[derive(Default)]
enum JsonValue<'j> {
    #[default]
    Null,
    Int(i64),
    Text(Cow<'j, str>),
    Bytes(Vec<u8>),
}

impl<'j> JsonRow<'j> {
    /// Reads the array. Errors contain the name of the column, as those of a row do.
    pub(super) fn parse(json: &'j [u8]) -> Result<Self, sqlx::Error> {
        let mut row = Self {
            values: std::array::from_fn(|_| JsonValue::Null),
        };
        let mut count = 0;
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let read = ValuesSeed(&mut row.values, &mut count)
            .deserialize(&mut deserializer)
            .and_then(|()| deserializer.end());
        match read {
            Ok(()) => Ok(row),
            Err(error) => {
                let name = columns!().split(", ").nth(count).unwrap_or("record");
                Err(decode_error(name, error))
            }
        }
    }

    fn value(&self, column: Column) -> Result<&JsonValue<'j>, sqlx::Error> {
        let value = column.position().and_then(|place| self.values.get(place));
        value.ok_or_else(|| sqlx::Error::ColumnNotFound(column.name().into()))
    }
}

impl NamedColumns for JsonRow<'_> {
    fn int(&self, column: impl Into<Column>) -> Result<Option<i64>, sqlx::Error> {
        let column = column.into();
        match self.value(column)? {
            JsonValue::Null => Ok(None),
            JsonValue::Int(number) => Ok(Some(*number)),
            _ => Err(decode_error(column.name(), "not an integer")),
        }
    }

    fn text(&self, column: impl Into<Column>) -> Result<Option<&str>, sqlx::Error> {
        let column = column.into();
        match self.value(column)? {
            JsonValue::Null => Ok(None),
            JsonValue::Text(text) => Ok(Some(text)),
            _ => Err(decode_error(column.name(), "not a text")),
        }
    }

    fn bytes(&self, column: impl Into<Column>) -> Result<Option<&[u8]>, sqlx::Error> {
        let column = column.into();
        match self.value(column)? {
            JsonValue::Null => Ok(None),
            JsonValue::Bytes(bytes) => Ok(Some(bytes)),
            _ => Err(decode_error(column.name(), "not a blob")),
        }
    }
}

fn decode_error(
    name: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: format!("{name:?}"),
        source: source.into(),
    }
}

/// Fills the values, and counts them.
struct ValuesSeed<'v, 'j>(&'v mut [JsonValue<'j>; COLUMN_COUNT], &'v mut usize);

impl<'j> DeserializeSeed<'j> for ValuesSeed<'_, 'j> {
    type Value = ();

    fn deserialize<D: Deserializer<'j>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'j> Visitor<'j> for ValuesSeed<'_, 'j> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the columns of a record")
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut array: A) -> Result<(), A::Error> {
        let Self(values, count) = self;
        for value in values {
            let seed = ValueSeed(BLOBS.contains(count));
            let missing = || A::Error::custom("a column is missing");
            *value = array.next_element_seed(seed)?.ok_or_else(missing)?;
            *count += 1;
        }
        Ok(())
    }
}

/// One value, which is hexadecimal digits if it is a blob.
struct ValueSeed(bool);

impl<'j> DeserializeSeed<'j> for ValueSeed {
    type Value = JsonValue<'j>;

    fn deserialize<D: Deserializer<'j>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'j> Visitor<'j> for ValueSeed {
    type Value = JsonValue<'j>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, an integer or a text")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(JsonValue::Null)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(JsonValue::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        let number = i64::try_from(number).map_err(E::custom)?;
        Ok(JsonValue::Int(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'j str) -> Result<Self::Value, E> {
        if self.0 {
            return self.visit_str(text);
        }
        Ok(JsonValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if self.0 {
            let bytes = hex::decode(text).map_err(E::custom)?;
            return Ok(JsonValue::Bytes(bytes));
        }
        Ok(JsonValue::Text(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[String]) -> Result<(), String> {
        let json = format!("[{}]", values.join(","));
        let row = JsonRow::parse(json.as_bytes());
        row.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_integers_texts_and_blobs_exactly() {
        let mut values = vec!["null".to_owned(); COLUMN_COUNT];
        values[0] = i64::MIN.to_string();
        values[1] = "\"00FF\"".to_owned();
        values[2] = "\"\"".to_owned();
        values[3] = i64::MAX.to_string();
        values[5] = r#""\u0000\"\\é\ud83d\ude00""#.to_owned();
        let json = format!("[{}]", values.join(","));
        let row = JsonRow::parse(json.as_bytes()).expect("valid");
        let at = |place| Column::at(place, "a");
        assert_eq!(row.int(at(0)).expect("an integer"), Some(i64::MIN));
        assert_eq!(row.bytes(at(1)).expect("a blob"), Some(&[0, 255][..]));
        assert_eq!(row.bytes(at(2)).expect("a blob"), Some(&[][..]));
        assert_eq!(row.int(at(3)).expect("an integer"), Some(i64::MAX));
        assert_eq!(row.text(at(4)).expect("NULL"), None);
        assert_eq!(row.text(at(5)).expect("a text"), Some("\0\"\\é😀"));
        assert!(row.int(at(5)).is_err() && row.text(at(0)).is_err());
    }

    #[test]
    fn errors_name_the_column() {
        let values = vec!["null".to_owned(); COLUMN_COUNT];
        parse(&values).expect("valid");
        for (place, value, name) in [(0, "1.5", "id"), (1, "\"0\"", "digest"), (5, "[]", "name")] {
            let mut values = values.clone();
            values[place] = value.to_owned();
            let error = parse(&values).expect_err("invalid");
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
        parse(&values[1..]).expect_err("a column is missing");
        parse(&[values.clone(), values].concat()).expect_err("too many columns");
        let mut json = format!("[{}]", vec!["null"; COLUMN_COUNT].join(",")).into_bytes();
        json.splice(1..5, *b"\"\xff\"");
        let error = JsonRow::parse(&json).map(drop).expect_err("not UTF-8");
        assert!(error.to_string().contains("\"id\""), "{error}");
    }
}
