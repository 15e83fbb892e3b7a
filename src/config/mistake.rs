//! What is wrong with a text that somebody wrote: where, why, and what to write instead.
//!
//! Drawn by `annotate-snippets`, as the Rust compiler does it. It gets the one line that is shown, secrets taken
//! out, and never the whole text.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::redact;

/// What is wrong, and what mends it. No text of it holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong.
    pub what: String,
    /// What to write or to do instead.
    pub help: Option<String>,
}

/// One place of a text, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong, and what mends it.
    pub complaint: Complaint,
    /// Where the text comes from: the path of a file; none for a command line.
    pub path: Option<String>,
    /// The line's number, from 1.
    pub number: usize,
    /// The line as it may be shown.
    pub shown: String,
    /// The bytes of `shown` that are wrong.
    pub at: Range<usize>,
}

/// All that is wrong with a text, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Complaint {
    /// Says what is wrong, and what mends it.
    pub fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: Some(help.into()) }
    }
}

impl From<String> for Complaint {
    fn from(what: String) -> Self {
        Self { what, help: None }
    }
}

impl Mistake {
    /// A mistake in line `number` of the file at `path`: from character `column` on, so many characters. Of the
    /// line is only known what may be shown, which may be shorter.
    pub fn in_file(
        complaint: impl Into<Complaint>,
        path: &std::path::Path,
        (number, column): (usize, usize),
        shown: String,
        length: usize,
    ) -> Self {
        let offset = |n: usize| shown.char_indices().nth(n).map_or(shown.len(), |(i, _)| i);
        // A caret beyond what is shown would tell how long the rest is.
        let column = column.min(shown.chars().count());
        let at = offset(column)..offset(column.saturating_add(length));
        Self {
            complaint: complaint.into(),
            path: Some(redact::control(&path.display().to_string()).into_owned()),
            number,
            shown,
            at,
        }
    }

    /// As it is printed, with the colours of a terminal where they are asked for.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let snippet = Snippet::source(Cow::Borrowed(self.shown.as_str()))
            .line_start(self.number)
            .line_numbering(self.path.is_some())
            .path(self.path.as_deref())
            .annotation(AnnotationKind::Primary.span(self.at.clone()));
        let what = redact::control(&self.complaint.what);
        let mut report = vec![Level::ERROR.primary_title(what).element(snippet)];
        let help = self.complaint.help.as_deref().map(redact::control);
        report.extend(help.map(|help| Group::with_title(Level::HELP.secondary_title(help))));
        renderer.render(&report)
    }
}

impl Mistakes {
    /// Each as it is printed, a blank line between them.
    pub fn render(&self, colour: bool) -> String {
        self.0.iter().map(|m| m.render(colour)).collect::<Vec<_>>().join("\n\n")
    }
}

/// Without the `error: ` that its reader puts before it.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.render(false);
        f.write_str(text.strip_prefix("error: ").unwrap_or(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(shown: &str, at: Range<usize>) -> Mistake {
        let complaint = Complaint::new("what", "help");
        Mistake { complaint, path: Some("f".to_owned()), number: 7, shown: shown.to_owned(), at }
    }

    #[test]
    fn a_place_is_pointed_at_wherever_it_is() {
        let path = std::path::Path::new("f");
        for (column, length, at) in [(0, 1, 0..2), (1, 9, 2..5), (9, 9, 5..5), (usize::MAX, usize::MAX, 5..5)]
        {
            let m = Mistake::in_file(
                "w".to_owned(),
                path,
                (1, column),
                "äö…".chars().take(2).chain(['x']).collect(),
                length,
            );
            assert_eq!(m.at, at, "{column} {length}");
            assert!(m.render(false).contains('^'), "{}", m.render(false));
        }
        assert!(mistake("", 0..0).render(false).contains("f:7:1"));
    }

    #[test]
    fn only_a_terminal_gets_colours_and_no_one_gets_control_characters() {
        let mut m = mistake("a = 1", 0..1);
        m.complaint = Complaint::new("w\u{1b}[2J", "h\u{7}");
        assert!(!m.render(false).contains(['\u{1b}', '\u{7}']), "{}", m.render(false));
        assert!(m.render(true).contains("\u{1b}[") && !m.render(true).contains("\u{1b}[2J"));
    }
}
