//! Text in columns of a terminal.

use std::time::Duration;

use ratatui::text::Span;

/// How many columns `text` takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// `text` in `columns` at the most; where it was cut, it ends in `mark`.
pub(super) fn fit(text: &str, columns: usize, mark: char) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut left = columns.saturating_sub(1);
    for c in text.chars() {
        let wide = width(c.encode_utf8(&mut [0; 4]));
        if wide > left {
            break;
        }
        left -= wide;
        out.push(c);
    }
    if columns > 0 {
        out.push(mark);
    }
    out
}

/// `text` in `columns`, with blanks after it.
pub(super) fn padded(text: &str, columns: usize, mark: char) -> String {
    let mut out = fit(text, columns, mark);
    let blanks = columns.saturating_sub(width(&out));
    out.extend(std::iter::repeat_n(' ', blanks));
    out
}

/// The lines of `text`, broken between words where that can be, and inside where not. Blanks at its start stay.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    if width(text) <= columns {
        return vec![text.to_owned()];
    }
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split_inclusive(' ') {
        let whole = width(word.trim_end_matches(' '));
        if used > 0 && used + whole > columns {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        for c in word.chars() {
            let wide = width(c.encode_utf8(&mut [0; 4]));
            if used + wide > columns {
                if c == ' ' {
                    continue;
                }
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += wide;
        }
    }
    lines.push(line);
    lines
}

/// An age in a column: `12s`, `3m12s`, `5h07m`, `3d04h`.
pub(super) fn age(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_takes_the_columns_that_it_is_given() {
        for (text, columns, fitted) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("", 0, ""),
            ("a", 0, ""),
            ("\u{6f22}\u{5b57}x", 4, "\u{6f22}…"),
        ] {
            assert_eq!(fit(text, columns, '…'), fitted);
            assert_eq!(width(&padded(text, columns, '…')), columns, "{text}");
        }
    }

    #[test]
    fn no_word_and_no_line_is_lost_when_text_is_broken() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"].map(str::to_owned).as_slice());
        assert_eq!(wrap("averylongword x", 5), ["avery", "longw", "ord x"]);
        assert_eq!(wrap("    url: \"0123456789\"", 12), ["    url: ", "\"0123456789\""]);
        assert_eq!(wrap("", 5), [""]);
        for columns in 1..20 {
            let text = "a\u{6f22}\u{5b57} bb ccc dddd   eeeee ffffff";
            let lines = wrap(text, columns);
            let all: String = lines.concat().split(' ').collect();
            assert_eq!(all, text.split(' ').collect::<String>(), "{columns}");
            assert!(lines.iter().all(|l| width(l.trim_end()) <= columns.max(2)), "{lines:?}");
        }
    }

    #[test]
    fn an_age_is_short() {
        let cases = [(0, "0s"), (59, "59s"), (61, "1m01s"), (3_661, "1h01m"), (90_000, "1d01h")];
        for (s, said) in cases {
            assert_eq!(age(Duration::from_secs(s)), said);
        }
    }
}
