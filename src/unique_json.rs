//! JSON in which no object has two members of the same name, at any depth: otherwise the sender could
//! choose which of two values a reader uses (RFC 8259 §4).

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::text::escape_pointer;

/// What is wrong with a repeated member.
pub(crate) const REPEATED: &str = "the member is given twice";

/// A text is not JSON without repeated members.
#[cfg(feature = "api")]
pub(crate) enum UniqueJsonError {
    Syntax(serde_json::Error),
    /// The JSON pointer (RFC 6901) of the first repeated member.
    Repeated(String),
}

/// Parses JSON without repeated members.
#[cfg(feature = "api")]
pub(crate) fn from_slice(text: &[u8]) -> Result<Value, UniqueJsonError> {
    let repeated = OnceCell::new();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Location::Root(&repeated).deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| match repeated.into_inner() {
        Some(pointer) => UniqueJsonError::Repeated(pointer),
        None => UniqueJsonError::Syntax(error),
    })
}

/// Parses a JSON object.
#[cfg(any(feature = "introspection", test))]
pub(crate) fn object(text: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::from_slice(text)? {
        UniqueValue(Value::Object(members)) => Ok(members),
        UniqueValue(_) => Err(Error::custom("not an object")),
    }
}

/// A JSON value without repeated members. The error names a repeated member by its JSON pointer
/// (RFC 6901).
pub(crate) struct UniqueValue(pub(crate) Value);

impl<'de> Deserialize<'de> for UniqueValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let repeated = OnceCell::new();
        Location::Root(&repeated)
            .deserialize(deserializer)
            .map(Self)
    }
}

/// Where a value is in the document. Displays the JSON pointer.
#[derive(Clone, Copy)]
enum Location<'a> {
    /// The cell is set to the pointer of the first repeated member.
    Root(&'a OnceCell<String>),
    Member(&'a Location<'a>, &'a str),
    Item(&'a Location<'a>, usize),
}

impl Location<'_> {
    /// Returns the error for a member of this location that was there before.
    fn repeated<E: Error>(&self) -> E {
        let pointer = self.cell().get_or_init(|| self.to_string());
        E::custom(format_args!("{pointer}: {REPEATED}"))
    }

    fn cell(&self) -> &OnceCell<String> {
        match self {
            Self::Root(cell) => cell,
            Self::Member(parent, _) | Self::Item(parent, _) => parent.cell(),
        }
    }
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(_) => Ok(()),
            Self::Member(parent, name) => write!(f, "{parent}/{}", escape_pointer(name)),
            Self::Item(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Location<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor(self))
    }
}

struct ValueVisitor<'a>(Location<'a>);

impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Location::Item(&self.0, array.len()))? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let location = Location::Member(&self.0, &name);
            if members.contains_key(&name) {
                return Err(location.repeated());
            }
            let value = entries.next_value_seed(location)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

/// Reads an object without repeated members, as [`UniqueValue`] does.
pub(crate) fn deserialize_map<'de, T, D>(from: D) -> Result<BTreeMap<String, T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    from.deserialize_map(MapVisitor(PhantomData))
}

struct MapVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for MapVisitor<T> {
    type Value = BTreeMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom(REPEATED));
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_an_object_unchanged() {
        let text =
            r#"{"a":[1,-2,1.5,"x",null,true,{}],"b":{"c":"d\u00e9"},"n":18446744073709551615}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(Value::Object(object(text.as_bytes()).unwrap()), expected);
    }

    #[test]
    fn rejects_duplicate_members_at_any_depth() {
        for text in [
            r#"{"active":false,"active":true}"#,
            r#"{"active":true,"\u0061ctive":true}"#,
            r#"{"a":[{"b":1,"b":1}]}"#,
        ] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn error_points_to_the_repeated_member() {
        for (text, expected) in [
            (r#"{"a":1,"a":1}"#, "/a: "),
            (r#"{"a":[{},{"b~":1,"b~":1}]}"#, "/a/1/b~0: "),
            (r#"[{"a/b":{"":1,"":1}}]"#, "/0/a~1b/: "),
        ] {
            let error = serde_json::from_str::<UniqueValue>(text).err().expect(text);
            assert!(error.is_data(), "{error}");
            let expected = format!("{expected}{REPEATED} at line 1 column");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn maps_have_no_repeated_members() {
        let read =
            |json: &str| deserialize_map::<u8, _>(&mut serde_json::Deserializer::from_str(json));
        let map = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1)]);
        assert_eq!(read(r#"{"a":1,"b":1}"#).unwrap(), map);
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":1,"\u0061":1}"#,
            "[1]",
            "[]",
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn rejects_anything_but_one_object() {
        let deep = "[".repeat(100_000);
        let with_mark = "\u{feff}{}";
        for text in [
            "", "[]", "true", "null", "{", "{} {}", "{}x", with_mark, &deep,
        ] {
            assert!(object(text.as_bytes()).is_err());
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
        assert!(object(b" {} \n").is_ok());
    }
}
