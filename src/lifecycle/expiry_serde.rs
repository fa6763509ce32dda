//! The JSON of an [`Expiry`], which is that of the management API.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

use super::{Expiry, ExpiryKind};
use crate::clock::date_time;
use crate::text::deserialize_text;

impl Serialize for Expiry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            ExpiryKind::Never => to.serialize_none(),
            ExpiryKind::At(time) => {
                let text = date_time::format(*time);
                let text = text.ok_or_else(|| ser::Error::custom("an expiry before the year 0"))?;
                to.serialize_str(&text)
            }
            ExpiryKind::After(span) => to.collect_str(span),
        }
    }
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_option(ExpiryVisitor)
    }
}

struct ExpiryVisitor;

impl<'de> Visitor<'de> for ExpiryVisitor {
    type Value = Expiry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a date, a time, a duration or null")
    }

    fn visit_none<E: Error>(self) -> Result<Expiry, E> {
        Ok(Expiry::NEVER)
    }

    fn visit_unit<E: Error>(self) -> Result<Expiry, E> {
        Ok(Expiry::NEVER)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Expiry, D::Error> {
        deserialize_text(from, "a date, a time or a duration")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::lifecycle::expiry_date;

    #[test]
    fn serde_round_trips_each_form() {
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        for (expiry, json) in [
            (Expiry::NEVER, "null"),
            (Expiry::at(day), r#""1970-01-02T00:00:00Z""#),
            (
                Expiry::at(date_time::end_of_time()),
                r#""9999-12-31T23:59:59Z""#,
            ),
            ("1y 30d".parse().expect("a duration"), r#""P1Y30D""#),
            (Expiry::after(Duration::from_millis(1_500)), r#""PT1.5S""#),
        ] {
            assert_eq!(serde_json::to_string(&expiry).expect(json), json);
            let read: Expiry = serde_json::from_str(json).expect(json);
            let ends = |expiry: &Expiry| expiry.resolve(SystemTime::UNIX_EPOCH);
            assert_eq!(ends(&read), ends(&expiry), "{json}");
            assert_eq!(serde_json::to_string(&read).expect(json), json);
        }
        let read: Expiry = serde_json::from_str(r#""2026-11-22""#).expect("a date");
        assert_eq!(
            expiry_date(read.resolve(SystemTime::UNIX_EPOCH).unwrap().unwrap()).as_deref(),
            Some("2026-11-22")
        );
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(63_000_000_000);
        assert!(serde_json::to_string(&Expiry::at(before)).is_err());
        for json in [
            r#""hush""#,
            r#""never""#,
            r#""""#,
            "30",
            "[]",
            "{}",
            r#""0d""#,
        ] {
            let error = serde_json::from_str::<Expiry>(json)
                .expect_err(json)
                .to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
