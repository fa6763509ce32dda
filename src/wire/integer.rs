use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A JSON integer that saturates to the range of `i64`. Accepts `5.0`, which JSON Schema counts as an
/// integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SaturatingInteger(pub(crate) i64);

impl<'de> Deserialize<'de> for SaturatingInteger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntegerVisitor)
    }
}

struct IntegerVisitor;

impl Visitor<'_> for IntegerVisitor {
    type Value = SaturatingInteger;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<SaturatingInteger, E> {
        Ok(SaturatingInteger(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<SaturatingInteger, E> {
        Ok(SaturatingInteger(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the conversion saturates")]
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<SaturatingInteger, E> {
        // Neither NaN nor infinity has a fraction of zero.
        if number.fract() == 0.0 {
            Ok(SaturatingInteger(number as i64))
        } else {
            Err(E::invalid_type(de::Unexpected::Float(number), &self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saturates_integers_and_rejects_other_values() {
        for (text, number) in [
            ("0", 0),
            ("-7", -7),
            ("5.0", 5),
            ("1.8e12", 1_800_000_000_000),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775808", i64::MAX),
            ("18446744073709551616", i64::MAX),
            ("1e300", i64::MAX),
            ("-9223372036854775809", i64::MIN),
        ] {
            let read: SaturatingInteger = serde_json::from_str(text).expect(text);
            assert_eq!(read.0, number, "{text}");
        }
        for text in ["1.5", "\"5\"", "true", "null", "[5]"] {
            let read = serde_json::from_str::<SaturatingInteger>(text);
            assert!(read.is_err(), "{text}");
        }
    }
}
