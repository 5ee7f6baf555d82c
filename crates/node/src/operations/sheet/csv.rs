//! Comma-separated values (RFC 4180), as spreadsheets write them.

/// One record and the line that it begins on, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) line: usize,
    pub(super) fields: Vec<String>,
}

/// All records that are not empty. The separator is that of the first line: a comma, a semicolon
/// or a tab. Answers the line of a quote that is not closed.
pub(super) fn parse(text: &str) -> Result<Vec<Record>, usize> {
    // Spreadsheets put a byte order mark before UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let separator = separator_of(text);
    let mut records = Vec::new();
    let mut record = Record {
        line: 1,
        fields: Vec::new(),
    };
    let (mut field, mut line) = (String::new(), 1);
    let mut quoted: Option<usize> = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted.is_some() && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted.is_some() => quoted = None,
            '"' if field.is_empty() => quoted = Some(line),
            _ if quoted.is_some() => field.push(c),
            '\n' => {
                end_field(&mut record, &mut field);
                let next = Record {
                    line,
                    fields: Vec::new(),
                };
                records.push(std::mem::replace(&mut record, next));
            }
            _ if c == separator => end_field(&mut record, &mut field),
            '\r' if characters.peek() == Some(&'\n') => {}
            _ => field.push(c),
        }
    }
    if let Some(line) = quoted {
        return Err(line);
    }
    end_field(&mut record, &mut field);
    records.push(record);
    records.retain(|record| record.fields.iter().any(|field| !field.is_empty()));
    Ok(records)
}

fn separator_of(text: &str) -> char {
    let first = text.lines().next().unwrap_or_default();
    [',', ';', '\t']
        .into_iter()
        .find(|&separator| first.contains(separator))
        .unwrap_or(',')
}

fn end_field(record: &mut Record, field: &mut String) {
    record.fields.push(field.trim().to_owned());
    field.clear();
}

/// One line of a sheet.
pub(super) fn write_record<'a>(out: &mut String, fields: impl IntoIterator<Item = &'a str>) {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        // A spreadsheet takes a field that begins so for a formula.
        let formula = field.starts_with(['=', '+', '@']);
        if formula || field.contains([',', ';', '\t', '"', '\n', '\r']) {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(field);
        }
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<(usize, Vec<String>)> {
        let records = parse(text).unwrap();
        records
            .into_iter()
            .map(|record| (record.line, record.fields))
            .collect()
    }

    #[test]
    fn quotes_hold_separators_quotes_and_line_ends() {
        let text = "\u{feff}a,b\r\n\"x,\"\"y\"\"\nz\",2\r\n\r\n,\n3, 4 ";
        let expected = [
            (1, vec!["a".to_owned(), "b".to_owned()]),
            (2, vec!["x,\"y\"\nz".to_owned(), "2".to_owned()]),
            (6, vec!["3".to_owned(), "4".to_owned()]),
        ];
        assert_eq!(fields(text), expected);
    }

    #[test]
    fn semicolons_and_tabs_separate_too() {
        assert_eq!(fields("a;b,c")[0].1, ["a;b", "c"]);
        assert_eq!(fields("a;b\n1,5;2")[1].1, ["1,5", "2"]);
        assert_eq!(fields("a\tb")[0].1, ["a", "b"]);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_named_by_its_line() {
        assert_eq!(parse("a\n\"b\nc\n"), Err(2));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let row = ["좌석 1", "a,b", "say \"hi\"", "", "=1+1", "two\nlines"];
        let mut text = String::new();
        write_record(&mut text, row);
        assert_eq!(fields(&text)[0].1, row);
    }
}
