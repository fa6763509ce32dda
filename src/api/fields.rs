use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::{Span, SpanRelativeTo, Timestamp, Unit};
use serde_json::{Map, Value};

use crate::lifecycle::{Expiry, FieldProblem};

/// How many problems an error names at most: a body can hold thousands of unknown members.
const MAX_PROBLEMS: usize = 100;

/// The members of a request's body, taken out one by one; what is wrong with them is gathered.
pub(super) struct Fields {
    members: Map<String, Value>,
    /// Where in the body these members stand, as a JSON pointer (RFC 6901).
    pointer_prefix: &'static str,
    problems: Vec<FieldProblem>,
}

/// A member that may be absent, `null`, or there.
pub(super) enum FieldValue<T> {
    Absent,
    Null,
    Value(T),
}

impl<T> FieldValue<T> {
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }
}

impl Fields {
    pub(super) fn new(members: Map<String, Value>) -> Self {
        Self::with_pointer_prefix("", members)
    }

    pub(super) fn with_pointer_prefix(
        pointer_prefix: &'static str,
        members: Map<String, Value>,
    ) -> Self {
        Self {
            members,
            pointer_prefix,
            problems: Vec::new(),
        }
    }

    pub(super) fn string(&mut self, name: &'static str) -> FieldValue<String> {
        self.take(name, "a string", |value| value.as_str().map(Into::into))
    }

    pub(super) fn strings(&mut self, name: &'static str) -> FieldValue<Vec<String>> {
        self.take(name, "an array of strings", |value| {
            let items = value.as_array()?.iter();
            items.map(|item| item.as_str().map(Into::into)).collect()
        })
    }

    pub(super) fn boolean(&mut self, name: &'static str) -> FieldValue<bool> {
        self.take(name, "true or false", Value::as_bool)
    }

    pub(super) fn count(&mut self, name: &'static str) -> FieldValue<usize> {
        // To JSON Schema `5.0` is an integer, and some clients write it so.
        self.take(name, "a count", |value| match value.as_u64() {
            Some(count) => count.try_into().ok(),
            None => value.as_f64()?.to_string().parse().ok(),
        })
    }

    pub(super) fn object(&mut self, name: &'static str) -> FieldValue<Map<String, Value>> {
        self.take(name, "an object", |value| value.as_object().cloned())
    }

    /// A text that is read further.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> FieldValue<T> {
        match self.string(name) {
            FieldValue::Absent => FieldValue::Absent,
            FieldValue::Null => FieldValue::Null,
            FieldValue::Value(text) => match text.parse() {
                Ok(value) => FieldValue::Value(value),
                Err(error) => {
                    self.problem(name, error.to_string());
                    FieldValue::Absent
                }
            },
        }
    }

    pub(super) fn timestamp(&mut self, name: &'static str) -> FieldValue<SystemTime> {
        match self.string(name) {
            FieldValue::Absent => FieldValue::Absent,
            FieldValue::Null => FieldValue::Null,
            FieldValue::Value(text) => {
                if let Ok(time) = text.parse::<Timestamp>() {
                    return FieldValue::Value(time.into());
                }
                self.problem(name, "not a time of RFC 3339");
                FieldValue::Absent
            }
        }
    }

    /// When a token shall stop working: `expires_at` or `expires_in`; `null` is never.
    pub(super) fn expiry(&mut self) -> Option<Expiry> {
        match ["expires_at", "expires_in"].map(|name| self.parsed::<Expiry>(name)) {
            [FieldValue::Absent, FieldValue::Absent] => None,
            [FieldValue::Value(expiry), FieldValue::Absent]
            | [FieldValue::Absent, FieldValue::Value(expiry)] => Some(expiry),
            [
                FieldValue::Absent | FieldValue::Null,
                FieldValue::Absent | FieldValue::Null,
            ] => Some(Expiry::NEVER),
            [FieldValue::Value(_), _] | [_, FieldValue::Value(_)] => {
                self.problem("expires_in", "either this or expires_at");
                None
            }
        }
    }

    /// How long, as ISO 8601 has it or as people write it; days are of 24 hours.
    pub(super) fn duration(&mut self, name: &'static str) -> FieldValue<Duration> {
        match self.parsed::<Span>(name) {
            FieldValue::Absent => FieldValue::Absent,
            FieldValue::Null => FieldValue::Null,
            FieldValue::Value(span) => {
                let days = SpanRelativeTo::days_are_24_hours();
                let seconds = span.total((Unit::Millisecond, days));
                let duration = seconds
                    .ok()
                    .and_then(|millis| Duration::try_from_secs_f64(millis / 1_000.0).ok());
                if let Some(duration) = duration {
                    return FieldValue::Value(duration);
                }
                self.problem(
                    name,
                    "not a duration of zero or more in weeks, days or shorter units",
                );
                FieldValue::Absent
            }
        }
    }

    pub(super) fn problem(&mut self, name: &str, detail: impl Into<Cow<'static, str>>) {
        if self.problems.len() == MAX_PROBLEMS {
            return;
        }
        let name = name.replace('~', "~0").replace('/', "~1");
        let pointer = format!("{}/{name}", self.pointer_prefix);
        self.problems.push(FieldProblem::new(pointer, detail));
    }

    /// A member of which nothing is known is a slip that would otherwise go unnoticed.
    pub(super) fn finish(mut self) -> Result<(), Vec<FieldProblem>> {
        for name in std::mem::take(&mut self.members).keys() {
            self.problem(name, "there is no such field");
        }
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(self.problems)
        }
    }

    fn take<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> FieldValue<T> {
        match self.members.remove(name) {
            None => FieldValue::Absent,
            Some(Value::Null) => FieldValue::Null,
            Some(value) => {
                if let Some(value) = read(&value) {
                    return FieldValue::Value(value);
                }
                self.problem(name, format!("not {expected}"));
                FieldValue::Absent
            }
        }
    }
}
