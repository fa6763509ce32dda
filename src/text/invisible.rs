use std::ops::RangeInclusive;

/// The invisible characters of Unicode 17: control and format characters (categories Cc and Cf), line
/// and paragraph separators, and those that are ignored by default (`Default_Ignorable_Code_Point`),
/// such as tag characters. U+2800 is a blank of Braille. The noncharacters, such as U+FFFF, have no
/// form of their own. [Joiners](is_joiner) are none of them.
///
/// A flag of a region, such as that of Scotland, is an emoji with tag characters. It is not worth an
/// exception, because tags can hide a whole text.
pub(crate) const INVISIBLE: [RangeInclusive<char>; 47] = [
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
    '\u{fdd0}'..='\u{fdef}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{fffe}'..='\u{ffff}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{1fffe}'..='\u{1ffff}',
    '\u{2fffe}'..='\u{2ffff}',
    '\u{3fffe}'..='\u{3ffff}',
    '\u{4fffe}'..='\u{4ffff}',
    '\u{5fffe}'..='\u{5ffff}',
    '\u{6fffe}'..='\u{6ffff}',
    '\u{7fffe}'..='\u{7ffff}',
    '\u{8fffe}'..='\u{8ffff}',
    '\u{9fffe}'..='\u{9ffff}',
    '\u{afffe}'..='\u{affff}',
    '\u{bfffe}'..='\u{bffff}',
    '\u{cfffe}'..='\u{cffff}',
    '\u{dfffe}'..='\u{dffff}',
    '\u{e0000}'..='\u{e0fff}',
    '\u{efffe}'..='\u{effff}',
    '\u{ffffe}'..='\u{fffff}',
    '\u{10fffe}'..='\u{10ffff}',
];

/// The characters that are invisible by themselves, but part of a visible text: U+200C and U+200D of
/// Persian words and emoji, and U+FE0E and U+FE0F, which choose the form of an emoji.
pub(crate) const JOINERS: [RangeInclusive<char>; 2] =
    ['\u{200c}'..='\u{200d}', '\u{fe0e}'..='\u{fe0f}'];

/// Returns whether the character is [invisible](INVISIBLE).
///
/// Such a character can make two different names look the same, or split a line in two.
pub(crate) fn is_invisible(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_control();
    }
    INVISIBLE.iter().any(|range| range.contains(&char))
}

/// Returns whether the character is invisible by itself, but [part of a visible text](JOINERS).
pub(crate) fn is_joiner(char: char) -> bool {
    JOINERS.iter().any(|range| range.contains(&char))
}

/// Returns whether a text has a character that is [invisible](INVISIBLE), or a [joiner](JOINERS) at its
/// start or behind an ASCII character, where it joins nothing. Keycap emoji such as `1\u{fe0f}\u{20e3}`
/// are not worth an exception.
pub(crate) fn has_invisible(text: &str) -> bool {
    let mut before = '\0';
    text.chars().any(|char| {
        let after = std::mem::replace(&mut before, char);
        is_invisible(char) || (is_joiner(char) && after.is_ascii())
    })
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
    #[cfg(any(feature = "client", feature = "tracing"))]
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
            let code = u32::from(char);
            let is_noncharacter = code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code);
            let expected = (is_format || is_ignored || is_noncharacter || char == '\u{2800}')
                && !is_joiner(char);
            assert_eq!(is_invisible(char), expected, "{:?}", char.escape_unicode());
        }
    }

    #[test]
    fn joiners_are_invisible_where_they_join_nothing() {
        for text in [
            "admin\u{200c}",
            "ad\u{200d}min",
            "\u{fe0f}admin",
            "\u{200d}",
            "\u{e9}a\u{fe0e}",
            "1\u{fe0f}\u{20e3}",
            "a \u{200d}\u{1f4bb}",
            "admin\u{ffff}",
        ] {
            assert!(has_invisible(text), "{text:?}");
        }
        for text in [
            "",
            "admin",
            "\u{6cc}\u{200c}\u{6cc}",
            "\u{1f469}\u{200d}\u{1f4bb} a",
            "\u{2764}\u{fe0f}\u{200d}\u{1f525}",
        ] {
            assert!(!has_invisible(text), "{text:?}");
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
