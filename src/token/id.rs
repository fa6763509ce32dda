use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::base62;
use crate::text::{ID_DIGITS, deserialize_text};

/// The public id of a token: safe to log, to display and to use in a path.
///
/// A number below 62¹⁰ (59 bits and a fraction), written as ten base62 digits; it is part of the
/// token's text. [`as_i64`](Self::as_i64) returns it as an integer for databases. For clients with
/// integer ids, [`number`](Self::number) returns an integer that every client can read.
///
/// serde reads and writes the text, so an id is a path parameter of axum: `Path<TokenId>`.
///
/// ```
/// use tower_service_token::token::TokenId;
///
/// let id: TokenId = "7Hq2mX9bTe".parse()?;
/// assert_eq!(id.to_string(), "7Hq2mX9bTe");
/// assert_eq!(TokenId::from_i64(id.as_i64()), Some(id));
/// # Ok::<_, tower_service_token::token::ParseTokenIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(u64);

impl TokenId {
    pub(super) const DIGITS: usize = ID_DIGITS;
    const END: u64 = 62_u64.pow(10);

    /// All numbers are below it. The statements and indexes of SQL stores contain it.
    pub(crate) const NUMBER_END: i64 = 10_i64.pow(13);

    /// Returns the id with this integer, or `None` if it is negative or not below 62¹⁰.
    pub fn from_i64(number: i64) -> Option<Self> {
        let number = u64::try_from(number).ok()?;
        (number < Self::END).then_some(Self(number))
    }

    /// Returns the id as an integer, never negative.
    pub fn as_i64(self) -> i64 {
        self.0.cast_signed()
    }

    /// Returns the number of the id, for clients with integer ids: at most 13 decimal digits, because
    /// JavaScript and jq round integers above 2⁵³.
    ///
    /// It is the remainder of the id modulo 10¹³. A registry inserts no token whose number another one
    /// has, so [`ServiceTokens::get_by_number`](crate::ServiceTokens::get_by_number) finds the token.
    ///
    /// ```
    /// use tower_service_token::token::TokenId;
    ///
    /// let id = TokenId::from_i64(107_484_341_630_693).expect("in range");
    /// assert_eq!(id.number(), 7_484_341_630_693);
    /// ```
    pub fn number(self) -> i64 {
        self.as_i64() % Self::NUMBER_END
    }

    /// Creates the id of a hash, for ids that are derived instead of random.
    pub(crate) fn from_hash(hash: u64) -> Self {
        Self(hash % Self::END)
    }

    pub(super) fn from_digits(digits: &[u8]) -> Option<Self> {
        if digits.len() != Self::DIGITS {
            return None;
        }
        base62::decode(digits).map(Self)
    }

    pub(super) fn digits(self) -> [u8; Self::DIGITS] {
        // The divisions of one half do not wait for those of the other.
        const HALF: u64 = 62_u64.pow(5);
        let [high, low] = [self.0 / HALF, self.0 % HALF].map(base62::encode::<5>);
        let mut digits = [0; Self::DIGITS];
        digits[..5].copy_from_slice(&high);
        digits[5..].copy_from_slice(&low);
        digits
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits();
        f.pad(std::str::from_utf8(&digits).expect("base62 digits are ASCII"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}

impl FromStr for TokenId {
    type Err = ParseTokenIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_digits(text.as_bytes()).ok_or(ParseTokenIdError(()))
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        deserialize_text(from, "a token id")
    }
}

/// Parses a decimal number without leading zeros. `0000000042` is the text of another ID.
#[cfg(feature = "api")]
#[cfg_attr(
    not(feature = "cli"),
    expect(unreachable_pub, reason = "`internal` exports it for `svctok`")
)]
pub fn parse_decimal(text: &str) -> Option<i64> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = is_decimal && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_canonical)
}

/// A text is not a [`TokenId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token id is ten characters of 0-9, A-Z and a-z")]
pub struct ParseTokenIdError(());

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "api")]
    #[test]
    fn decimal_numbers_have_no_leading_zeros() {
        for (text, number) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("042", None),
            ("00", None),
            ("+42", None),
            ("-42", None),
            ("4 2", None),
            ("", None),
        ] {
            assert_eq!(parse_decimal(text), number, "{text}");
        }
    }

    #[test]
    fn first_and_last_id_round_trip_as_text_and_number() {
        for text in ["0000000000", "zzzzzzzzzz", "7Hq2mX9bTe"] {
            let id: TokenId = text.parse().expect("ten digits");
            assert_eq!(id.to_string(), text);
            assert_eq!(TokenId::from_i64(id.as_i64()), Some(id));
        }
    }

    #[test]
    fn serde_reads_and_writes_the_text_and_does_not_repeat_a_malformed_one() {
        let id: TokenId = "7Hq2mX9bTe".parse().expect("ten digits");
        assert_eq!(serde_json::to_string(&id).expect("text"), r#""7Hq2mX9bTe""#);
        let read = |json: &str| serde_json::from_str::<TokenId>(json);
        assert_eq!(read(r#""7Hq2mX9bTe""#).expect("an id"), id);
        assert_eq!(read(r#""7Hq2mX9bT\u0065""#).expect("an id"), id);
        for json in [r#""hush""#, "1", "null", "[]"] {
            let error = read(json).expect_err(json).to_string();
            assert!(
                error.contains("a token id") && !error.contains("hush"),
                "{error}"
            );
        }
    }

    #[test]
    fn rejects_out_of_range_numbers_and_malformed_ids() {
        assert_eq!(TokenId::from_i64(-1), None);
        assert_eq!(TokenId::from_i64(62_i64.pow(10)), None);
        for text in ["", "123456789", "12345678901", "12345_7890", "123456789é"] {
            assert!(text.parse::<TokenId>().is_err(), "{text}");
        }
    }
}
