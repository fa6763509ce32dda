//! Strict decoding of request bodies.
//!
//! Errors never repeat a value, because a client may paste a secret into the wrong member. The
//! messages of serde quote values, so [`Violation`] replaces them.

use std::fmt::Display;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Error, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

use crate::lifecycle::FieldProblem;
use crate::text::escape_pointer;
#[cfg(feature = "api")]
use crate::unique_json::{self, REPEATED, UniqueJsonError};

/// A body is not the JSON that a request takes.
#[cfg(feature = "api")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    #[error("the body is not a JSON object (line {line}, column {column})")]
    Syntax { line: usize, column: usize },
    /// An object has two members of the same name.
    #[error("{}: {}", .0.pointer, .0.detail)]
    Duplicate(FieldProblem),
    /// A member is unknown or has the wrong type.
    #[error("{}: {}", .0.pointer, .0.detail)]
    Invalid(FieldProblem),
}

/// Decodes a JSON object.
#[cfg(feature = "api")]
pub(crate) fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    let value = unique_json::from_slice(body).map_err(|error| match error {
        UniqueJsonError::Syntax(error) => JsonError::Syntax {
            line: error.line(),
            column: error.column(),
        },
        UniqueJsonError::Repeated(pointer) => {
            JsonError::Duplicate(FieldProblem::new(pointer, REPEATED))
        }
    })?;
    match value {
        Value::Object(members) => from_members(members).map_err(JsonError::Invalid),
        _ => Err(JsonError::Syntax { line: 1, column: 0 }),
    }
}

/// Decodes the members of an object. Returns the first unknown member or wrong type.
pub(crate) fn from_members<T: DeserializeOwned>(
    members: Map<String, Value>,
) -> Result<T, FieldProblem> {
    let value = Node(Value::Object(members));
    serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = pointer(error.path());
        FieldProblem::new(pointer, error.into_inner().0)
    })
}

fn pointer(path: &Path) -> String {
    let segments = path.iter().map(|segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", escape_pointer(key)),
        Segment::Enum { .. } | Segment::Unknown => String::new(),
    });
    segments.collect()
}

/// A JSON value whose errors are [`Violation`]s.
struct Node(Value);

impl<'de> Deserializer<'de> for Node {
    type Error = Violation;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Violation> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Self)))
            }
            Value::Object(members) => {
                let members = members.into_iter().map(|(name, value)| (name, Self(value)));
                visitor.visit_map(MapDeserializer::new(members))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Violation> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// Otherwise serde reads an array as the members of a struct, in their order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Violation> {
        match self.0 {
            Value::Array(_) => Err(Violation::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, Violation> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// What is wrong with a member, without its value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Violation(String);

impl Error for Violation {
    /// The messages come from the types of this crate.
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(match &*expected.to_string() {
            "a sequence" => "not an array".to_owned(),
            "a map" => "not an object".to_owned(),
            "a boolean" => "not true or false".to_owned(),
            "i64" => "not an integer".to_owned(),
            expected => format!("not {expected}"),
        })
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self("unknown member".to_owned())
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self("unknown value".to_owned())
    }
}

#[cfg(test)]
#[cfg(feature = "api")]
mod tests {
    use super::*;
    use crate::wire::{BulkRequest, CreateRequest};

    fn error(body: &str) -> JsonError {
        let Err(error) = from_slice::<CreateRequest>(body.as_bytes()) else {
            panic!("{body} was accepted");
        };
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        error
    }

    #[test]
    fn rejects_repeated_members_at_any_depth() {
        for (body, expected) in [
            (r#"{"name":"a","name":"a"}"#, "/name"),
            (r#"{"scopes":[],"scop\u0065s":["hush"]}"#, "/scopes"),
            (r#"{"labels":{"a/b":"1","a/b":"2"}}"#, "/labels/a~1b"),
            (r#"{"roles":[{"x":1},{"x":1,"x":1}]}"#, "/roles/1/x"),
            (r#"{"unknown":{"x":{"y":1,"y":2}}}"#, "/unknown/x/y"),
            (r#"{"":1,"":1}"#, "/"),
        ] {
            let JsonError::Duplicate(problem) = error(body) else {
                panic!("{body}");
            };
            assert_eq!(problem.pointer, expected, "{body}");
        }
        assert!(from_slice::<CreateRequest>(br#"{"name":"a","labels":{"name":"b"}}"#).is_ok());
    }

    #[test]
    fn points_to_the_first_unknown_member_or_wrong_type() {
        for (body, pointer, detail) in [
            (r#"{"nmae":"hush"}"#, "/nmae", "unknown member"),
            (r#"{"a/b~c":"hush"}"#, "/a~1b~0c", "unknown member"),
            (r#"{"name":["hush"]}"#, "/name", "not a string"),
            (r#"{"roles":"hush"}"#, "/roles", "not an array"),
            (r#"{"roles":["r",5]}"#, "/roles/1", "not a string"),
            (r#"{"labels":["hush"]}"#, "/labels", "not an object"),
            (r#"{"labels":{"a":null}}"#, "/labels/a", "not a string"),
            (
                r#"{"expires_at":1800000000}"#,
                "/expires_at",
                "not a string",
            ),
        ] {
            let JsonError::Invalid(problem) = error(body) else {
                panic!("{body}");
            };
            assert_eq!((&*problem.pointer, &*problem.detail), (pointer, detail));
        }
    }

    #[test]
    fn rejects_arrays_as_objects() {
        for body in [
            r#"{"filter":["hush"]}"#,
            r#"{"filter":[]}"#,
            r#"{"filter":"hush"}"#,
        ] {
            let Err(JsonError::Invalid(problem)) = from_slice::<BulkRequest>(body.as_bytes())
            else {
                panic!("{body}");
            };
            assert_eq!(problem.to_string(), "/filter: not an object", "{body}");
        }
    }

    #[test]
    fn rejects_what_is_not_one_json_object() {
        for body in [
            "",
            "{",
            "[]",
            "null",
            "\"hush\"",
            "{hush}",
            "{} {}",
            r#"{"a":1e999}"#,
        ] {
            assert!(matches!(error(body), JsonError::Syntax { .. }), "{body}");
        }
        let deep = format!(r#"{{"name":{}1{}}}"#, "[".repeat(999), "]".repeat(999));
        assert!(matches!(error(&deep), JsonError::Syntax { .. }));
    }
}
