//! The formatting engine of tables (docs/reference.md 6.3): columns, widths and values.

/// Characters that the columns may fill without `-o`.
const SCREEN: usize = 80;

/// A column of a mode.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// Header, and name in `-o`, where case does not matter.
    pub name: &'static str,
    /// Characters to the next column.
    pub width: usize,
}

impl Field {
    /// A column.
    pub const fn new(name: &'static str, width: usize) -> Self {
        Self { name, width }
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A value; an empty one is shown as `--`, and as empty in parsable mode.
    Value(String),
    /// A value that exists and could not be read: `?`.
    Unobtainable,
}

impl Cell {
    /// No value.
    pub fn empty() -> Self {
        Self::Value(String::new())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Value(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Value(value.into())
    }
}

/// Why a table cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Scripts must not depend on the default fields of a mode.
    #[error("output fields must be specified in parsable mode")]
    NoneInParsable,
    /// As above.
    #[error("output field `all' invalid in parsable mode")]
    AllInParsable,
    /// `-o` has no field of this mode.
    #[error("no valid output fields")]
    NoneValid,
    /// `-o` has fields that this mode does not have.
    #[error("unknown output {}", listed(.0))]
    Unknown(Vec<String>),
}

/// ``field: `x'``, ``fields: `x' `y'``.
fn listed(fields: &[String]) -> String {
    let plural = if fields.len() == 1 { "" } else { "s" };
    let quoted: String = fields.iter().map(|field| format!(" `{field}'")).collect();
    format!("field{plural}:{quoted}")
}

/// The columns of one run.
#[derive(Debug)]
pub struct Table {
    fields: &'static [Field],
    /// Indexes of the fields that are printed.
    columns: Vec<usize>,
    parsable: bool,
}

impl Table {
    /// The columns of `-o`, else those that fit into [`SCREEN`]; and a warning if fields of `-o` are ignored.
    pub fn new(
        fields: &'static [Field],
        selected: Option<&str>,
        parsable: bool,
    ) -> Result<(Self, Option<String>), Error> {
        let table = |columns| Self { fields, columns, parsable };
        let selected = match selected {
            None | Some("") if parsable => return Err(Error::NoneInParsable),
            None => {
                let mut end = 0;
                let fits = fields.iter().take_while(|field| {
                    end += field.width;
                    end <= SCREEN
                });
                return Ok((table((0..fits.count()).collect()), None));
            }
            Some(all) if all.eq_ignore_ascii_case("all") => {
                if parsable {
                    return Err(Error::AllInParsable);
                }
                return Ok((table((0..fields.len()).collect()), None));
            }
            Some(selected) => selected,
        };
        let (mut columns, mut unknown) = (Vec::new(), Vec::new());
        for name in selected.split(',').filter(|name| !name.is_empty()) {
            match fields.iter().position(|field| field.name.eq_ignore_ascii_case(name)) {
                Some(index) => columns.push(index),
                None => unknown.push(name.to_owned()),
            }
        }
        if columns.is_empty() {
            return Err(Error::NoneValid);
        }
        if parsable && !unknown.is_empty() {
            return Err(Error::Unknown(unknown));
        }
        let warning = (!unknown.is_empty()).then(|| format!("ignoring unknown output {}", listed(&unknown)));
        Ok((table(columns), warning))
    }

    /// Whether this field is a column.
    pub fn shows(&self, name: &str) -> bool {
        self.columns.iter().any(|&index| self.fields[index].name == name)
    }

    /// Formats rows, each with a cell for every field of the mode. A header starts every `page` lines, and counts as one.
    pub fn print(&self, rows: &[Vec<Cell>], page: usize) -> String {
        let mut lines = 0;
        rows.iter().map(|row| self.print_next(row, page, &mut lines)).collect()
    }

    /// Formats the next row, after a header if `lines` is at the start of a page.
    pub fn print_next(&self, row: &[Cell], page: usize, lines: &mut usize) -> String {
        if self.parsable {
            return self.parsable(row);
        }
        let mut text = String::new();
        if lines.is_multiple_of(page.max(1)) {
            text += &self.aligned(|index| self.fields[index].name);
            *lines += 1;
        }
        text += &self.aligned(|index| match &row[index] {
            Cell::Value(value) if value.is_empty() => "--",
            Cell::Value(value) => value,
            Cell::Unobtainable => "?",
        });
        *lines += 1;
        text
    }

    /// An aligned line. A value that fills its column is followed by one space, and the next columns have less padding until
    /// the alignment is restored.
    fn aligned<'a>(&'a self, value: impl Fn(usize) -> &'a str) -> String {
        let mut line = String::new();
        let mut behind = 0;
        for (place, &index) in self.columns.iter().enumerate() {
            let (value, width) = (value(index), self.fields[index].width);
            line += value;
            let end = behind + value.chars().count();
            if place + 1 < self.columns.len() {
                let padding = width.saturating_sub(end).max(1);
                line.extend(std::iter::repeat_n(' ', padding));
                behind = end + padding - width;
            }
        }
        line + "\n"
    }

    /// A line in parsable mode.
    fn parsable(&self, row: &[Cell]) -> String {
        let values = self.columns.iter().map(|&index| match &row[index] {
            Cell::Value(value) => value.as_str(),
            Cell::Unobtainable => "?",
        });
        let line = match values.clone().count() {
            1 => values.collect(),
            _ => values.map(|v| v.replace('\\', "\\\\").replace(':', "\\:")).collect::<Vec<_>>().join(":"),
        };
        line + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FIELDS: [Field; 4] =
        [Field::new("NAME", 6), Field::new("STATE", 7), Field::new("SHARE", 67), Field::new("MORE", 1)];

    fn print(wanted: Option<&str>, parsable: bool, rows: &[[&str; 4]]) -> String {
        let (table, warning) = Table::new(&FIELDS, wanted, parsable).unwrap();
        assert_eq!(warning, None);
        let rows: Vec<Vec<Cell>> = rows.iter().map(|row| row.map(Cell::from).to_vec()).collect();
        table.print(&rows, 24)
    }

    #[test]
    fn all_columns_but_the_last_are_padded() {
        let row = ["a", "ok", "1", "x"];
        assert_eq!(print(Some("name,state"), false, &[row]), "NAME  STATE\na     ok\n");
        assert_eq!(print(Some("State,nAME"), false, &[row]), "STATE  NAME\nok     a\n");
        assert_eq!(print(Some("more,name,name"), false, &[row]), "MORE NAME NAME\nx a    a\n");
    }

    #[test]
    fn default_fields_fit_into_80_columns_and_all_prints_every_field() {
        let row = ["a", "ok", "1", "x"];
        assert_eq!(print(None, false, &[row]), "NAME  STATE  SHARE\na     ok     1\n");
        assert!(print(Some("ALL"), false, &[row]).starts_with("NAME  STATE  SHARE "));
        assert!(print(Some("ALL"), false, &[row]).ends_with(" x\n"));
    }

    #[test]
    fn long_value_reduces_padding_of_next_columns() {
        let header = "NAME  STATE  SHARE\n";
        for (name, state, line) in [
            ("12345", "ok", "12345 ok     9\n"),
            ("123456", "ok", "123456 ok    9\n"),
            ("123456789", "ok", "123456789 ok 9\n"),
            ("1234567890", "ok", "1234567890 ok 9\n"),
            ("1234567890", "1234567", "1234567890 1234567 9\n"),
            ("größer", "ok", "größer ok    9\n"),
        ] {
            let printed = print(Some("name,state,share"), false, &[[name, state, "9", ""]]);
            assert_eq!(printed, format!("{header}{line}"));
        }
    }

    #[test]
    fn empty_and_unobtainable_values_have_placeholders() {
        let (table, _) = Table::new(&FIELDS, Some("name,state,share"), false).unwrap();
        let row = vec![Cell::empty(), Cell::Unobtainable, Cell::empty(), Cell::empty()];
        assert_eq!(table.print(std::slice::from_ref(&row), 24), "NAME  STATE  SHARE\n--    ?      --\n");
        let (table, _) = Table::new(&FIELDS, Some("name,state,share"), true).unwrap();
        assert_eq!(table.print(&[row], 24), ":?:\n");
    }

    #[test]
    fn parsable_output_escapes_separators() {
        let rows = [["fe80::1", "a\\b", "", "x"]];
        assert_eq!(print(Some("name,state,share,more"), true, &rows), "fe80\\:\\:1:a\\\\b::x\n");
        assert_eq!(print(Some("name"), true, &rows), "fe80::1\n");
        assert_eq!(print(Some("share"), true, &rows), "\n");
    }

    #[test]
    fn header_is_repeated_on_every_page() {
        let (table, _) = Table::new(&FIELDS, Some("name"), false).unwrap();
        let rows: Vec<Vec<Cell>> = (0..5).map(|n| vec![Cell::from(n.to_string())]).collect();
        assert_eq!(table.print(&rows, 3), "NAME\n0\n1\nNAME\n2\n3\nNAME\n4\n");
        assert_eq!(table.print(&rows[..2], 1), "NAME\n0\nNAME\n1\n");
        assert_eq!(table.print(&[], 3), "", "no row, no header");
    }

    #[test]
    fn unknown_fields_are_ignored_or_rejected() {
        let new = |wanted, parsable| {
            Table::new(&FIELDS, wanted, parsable).map(|(_, warning)| warning).map_err(|e| e.to_string())
        };
        let warning = |text: &str| Ok(Some(text.to_owned()));
        let error = |text: &str| Err(text.to_owned());
        assert_eq!(new(Some("x,name"), false), warning("ignoring unknown output field: `x'"));
        assert_eq!(new(Some("x,name,y"), false), warning("ignoring unknown output fields: `x' `y'"));
        assert_eq!(new(Some("x,name"), true), error("unknown output field: `x'"));
        assert_eq!(new(Some("x,name,all"), true), error("unknown output fields: `x' `all'"));
        for nothing in ["x", "x,y", ","] {
            assert_eq!(new(Some(nothing), false), error("no valid output fields"));
            assert_eq!(new(Some(nothing), true), error("no valid output fields"));
        }
        assert_eq!(new(Some(""), false), error("no valid output fields"));
        for none in [None, Some("")] {
            assert_eq!(new(none, true), error("output fields must be specified in parsable mode"));
        }
        assert_eq!(new(Some("All"), true), error("output field `all' invalid in parsable mode"));
    }
}
