//! Base62 digits, `0-9A-Za-z`, most significant first.

pub(super) const DIGITS: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const NO_DIGIT: u8 = 0xff;

/// A table instead of comparisons, because branches on random digits are mispredicted.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 62 {
        values[DIGITS[value as usize] as usize] = value;
        value += 1;
    }
    values
};

fn value(digit: u8) -> u8 {
    VALUES[usize::from(digit)]
}

/// Returns whether all bytes are digits.
pub(super) fn all_digits(bytes: &[u8]) -> bool {
    // Only the value of a byte that is not a digit has this bit.
    bytes.iter().fold(0, |sum, &byte| sum | value(byte)) & 0x80 == 0
}

/// Returns the value of up to ten digits, or `None` if one of the bytes is not a digit.
pub(super) fn decode(digits: &[u8]) -> Option<u64> {
    let number = digits
        .iter()
        .fold(0_u64, |sum, &digit| sum * 62 + u64::from(value(digit)));
    all_digits(digits).then_some(number)
}

/// Returns the lowest `N` digits of `number`, padded with zeros.
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
    fn each_digit_decodes_to_its_index() {
        for (place, digit) in (0_u64..).zip(DIGITS) {
            assert_eq!(decode(&[*digit]), Some(place));
            assert_eq!(encode::<1>(place), [*digit]);
        }
        for byte in 0..=u8::MAX {
            assert_eq!(all_digits(&[byte]), DIGITS.contains(&byte), "{byte}");
            assert_eq!(all_digits(&[byte]), byte.is_ascii_alphanumeric(), "{byte}");
        }
    }

    #[test]
    fn numbers_are_padded_and_round_trip() {
        for number in [0, 1, 61, 62, 3843, u64::from(u32::MAX)] {
            let digits: [u8; 6] = encode(number);
            assert_eq!(decode(&digits), Some(number));
        }
        assert_eq!(&encode::<6>(0), b"000000");
        assert_eq!(decode(b"00-0"), None);
    }
}
