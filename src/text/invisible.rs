use std::ops::RangeInclusive;

/// The invisible characters of Unicode 17: control and format characters (categories Cc and Cf), line
/// and paragraph separators, and those that are ignored by default (`Default_Ignorable_Code_Point`),
/// such as tag characters. U+2800 is a blank of Braille. [Joiners](is_joiner) are none of them.
///
/// A flag of a region, such as that of Scotland, is an emoji with tag characters. It is not worth an
/// exception, because tags can hide a whole text.
pub(crate) const INVISIBLE: [RangeInclusive<char>; 29] = [
    '\0'..='\u{1f}',
    '\u{7f}'..='\u{9f}',
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200b}',
    '\u{200e}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0d}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// The characters that are invisible by themselves, but part of a visible text: U+200C and U+200D of
/// Persian words and emoji, and U+FE0E and U+FE0F, which choose the form of an emoji.
pub(crate) const JOINERS: [RangeInclusive<char>; 2] =
    ['\u{200c}'..='\u{200d}', '\u{fe0e}'..='\u{fe0f}'];

/// Returns whether the character is [invisible](INVISIBLE).
///
/// Such a character can make two different names look the same, or split a line in two.
pub(crate) fn is_invisible(char: char) -> bool {
    INVISIBLE.iter().any(|range| range.contains(&char))
}

/// Returns whether the character is invisible by itself, but [part of a visible text](JOINERS).
pub(crate) fn is_joiner(char: char) -> bool {
    JOINERS.iter().any(|range| range.contains(&char))
}

/// Returns whether nothing of a text is visible.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars()
        .all(|char| char.is_whitespace() || is_invisible(char) || is_joiner(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Default_Ignorable_Code_Point` of Unicode 17, `DerivedCoreProperties.txt`.
    const IGNORED_BY_DEFAULT: [RangeInclusive<u32>; 17] = [
        0xad..=0xad,
        0x34f..=0x34f,
        0x61c..=0x61c,
        0x115f..=0x1160,
        0x17b4..=0x17b5,
        0x180b..=0x180f,
        0x200b..=0x200f,
        0x202a..=0x202e,
        0x2060..=0x206f,
        0x3164..=0x3164,
        0xfe00..=0xfe0f,
        0xfeff..=0xfeff,
        0xffa0..=0xffa0,
        0xfff0..=0xfff8,
        0x1bca0..=0x1bca3,
        0x1d173..=0x1d17a,
        0xe0000..=0xe0fff,
    ];

    #[cfg(any(feature = "client", feature = "tracing"))]
    #[test]
    fn invisible_characters_are_those_of_unicode() {
        use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

        for char in '\0'..=char::MAX {
            let is_format = matches!(
                char.general_category(),
                GeneralCategory::Control
                    | GeneralCategory::Format
                    | GeneralCategory::LineSeparator
                    | GeneralCategory::ParagraphSeparator
            );
            let is_ignored = IGNORED_BY_DEFAULT
                .iter()
                .any(|range| range.contains(&u32::from(char)));
            let expected = (is_format || is_ignored || char == '\u{2800}') && !is_joiner(char);
            assert_eq!(is_invisible(char), expected, "{:?}", char.escape_unicode());
        }
    }

    #[test]
    fn texts_without_a_visible_character_are_blank() {
        for blank in [
            "",
            " ",
            "\u{200d}",
            " \u{200c}\u{fe0f} ",
            "\u{e0041}",
            "\u{3164}",
        ] {
            assert!(is_blank(blank), "{blank:?}");
        }
        for visible in ["a", " . ", "\u{200d}\u{1f4bb}", "\u{301}"] {
            assert!(!is_blank(visible), "{visible:?}");
        }
    }
}
