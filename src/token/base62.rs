//! Base62 digits, `0-9A-Za-z`, most significant first.

pub(super) const DIGITS: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The value of one digit.
pub(super) fn value(digit: u8) -> Option<u64> {
    let value = match digit {
        b'0'..=b'9' => digit - b'0',
        b'A'..=b'Z' => digit - b'A' + 10,
        b'a'..=b'z' => digit - b'a' + 36,
        _ => return None,
    };
    Some(value.into())
}

/// The value of up to ten digits; `None` if there is another byte among them.
pub(super) fn decode(digits: &[u8]) -> Option<u64> {
    digits
        .iter()
        .try_fold(0_u64, |sum, &digit| Some(sum * 62 + value(digit)?))
}

/// `N` digits of `number`, padded with zeros; higher digits are cut off.
pub(super) fn encode<const N: usize>(mut number: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[usize::try_from(number % 62).expect("a remainder below 62")];
        number /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_has_the_value_of_its_place() {
        for (place, &digit) in (0_u64..).zip(DIGITS) {
            assert_eq!(value(digit), Some(place));
            assert_eq!(encode::<1>(place), [digit]);
        }
        assert_eq!((0..=u8::MAX).filter(|&b| value(b).is_some()).count(), 62);
    }

    #[test]
    fn numbers_are_padded_and_come_back() {
        for number in [0, 1, 61, 62, 3843, u64::from(u32::MAX)] {
            let digits: [u8; 6] = encode(number);
            assert_eq!(decode(&digits), Some(number));
        }
        assert_eq!(&encode::<6>(0), b"000000");
        assert_eq!(decode(b"00-0"), None);
    }
}
