use comfy_table::{ContentLineStyle, Table, TableStyle};
use tower_service_token::internal::escape_invisible;

const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction('|'))
    .content_lines(ContentLineStyle::none().junction('|'));

/// Formats a table with a heading above each column.
pub(crate) fn columns<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.set_header(heading);
    table.add_rows(
        rows.into_iter()
            .map(|row| row.map(|cell| escape_invisible(&cell))),
    );
    text(table)
}

/// Formats a table with a name before each value.
pub(crate) fn details<'a>(details: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    let details = details.into_iter();
    table.add_rows(details.map(|(name, value)| [name.to_owned(), escape_invisible(&value)]));
    text(table)
}

fn text(mut table: Table) -> String {
    table.load_style(STYLE);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separates_columns_by_bars() {
        let rows = [
            ["7Hq2mX9bTe", "ci", "", "[a b]"],
            ["1", "näme", "2027-01-31", "[]"],
        ];
        let table = columns(
            ["ID", "NAME", "EXPIRATION", "ROLES"],
            rows.map(|row| row.map(str::to_owned)),
        );
        let expected = "\
ID         | NAME | EXPIRATION | ROLES
7Hq2mX9bTe | ci   |            | [a b]
1          | näme | 2027-01-31 | []
";
        assert_eq!(table, expected);
    }

    #[test]
    fn replaces_control_characters() {
        let text = details([("NAME", "a\u{1b}[31m\nb".to_owned())]);
        assert_eq!(text, "NAME | a\\u{1b}[31m\\u{a}b\n");
    }

    #[test]
    fn replaces_bidirectional_formatting() {
        let text = details([(
            "NAME",
            "ci\u{202e}toor\u{2066}\u{200f}\u{61c}\u{2028}x".to_owned(),
        )]);
        let shown = r"ci\u{202e}toor\u{2066}\u{200f}\u{61c}\u{2028}x";
        assert_eq!(text, format!("NAME | {shown}\n"));
    }
}
