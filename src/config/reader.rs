//! Reads a TOML file by hand, so that every complaint has its place and the nearest accepted word.
//!
//! All that is wrong with a file is said in one go.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Complaint, Mistake, Mistakes};
use super::redact;

/// One thing that is wrong with a file.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    at: Range<usize>,
    complaint: Complaint,
    /// Whether the value on that line helps to see what is wrong, and may be shown.
    show_value: bool,
}

/// A file's text and what was found wrong with it.
#[derive(Debug)]
pub(super) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

/// One table of the file: hands out its values, and knows in the end which keys nobody asked for.
#[derive(Debug)]
pub(super) struct Section<'a> {
    document: &'a Document<'a>,
    table: &'a DeTable<'a>,
    /// As the user writes it: `[poll]`.
    title: String,
    at: Range<usize>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Document<'a> {
    pub(super) const fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, problems: RefCell::new(Vec::new()) }
    }

    /// The file's tables, or what is wrong with its syntax.
    pub(super) fn parse(&self) -> Option<Spanned<DeTable<'a>>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(table),
            Err(e) => {
                let at = e.span().unwrap_or(0..0);
                let message = e.message().replace('\n', ", ");
                let help = if message.contains("expected `\"`") {
                    Some("text begins and ends with `\"`, on one line")
                } else if message.contains("expected `=`") {
                    Some("write KEY = VALUE, or [SECTION]")
                } else {
                    None
                };
                let complaint =
                    Complaint { what: format!("not valid TOML: {message}"), help: help.map(str::to_owned) };
                self.problems.borrow_mut().push(Problem { at, complaint, show_value: true });
                None
            }
        }
    }

    /// The whole file as a section.
    pub(super) fn root(&'a self, table: &'a DeTable<'a>) -> Section<'a> {
        Section { document: self, table, title: String::new(), at: 0..0, known: RefCell::default() }
    }

    /// Whether nothing was found wrong so far.
    pub(super) fn is_sound(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// Every problem with its line, in the order of the file; none when there is none.
    pub(super) fn mistakes(&self) -> Option<Mistakes> {
        let mut problems = self.problems.take();
        problems.sort_by_key(|p| p.at.start);
        let mistakes: Vec<Mistake> = problems.into_iter().map(|p| self.mistake(p)).collect();
        (!mistakes.is_empty()).then_some(Mistakes(mistakes))
    }

    fn mistake(&self, problem: Problem) -> Mistake {
        let start = problem.at.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = self.text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let column = self.text.get(line_start..start).unwrap_or_default().chars().count();
        let wrong = self.text.get(start..problem.at.end.max(start)).unwrap_or_default();
        let length = wrong.lines().next().unwrap_or_default().chars().count();
        let place = (before.matches('\n').count() + 1, column);
        Mistake::in_file(problem.complaint, self.path, place, redact::line(line, problem.show_value), length)
    }
}

impl<'a> Section<'a> {
    /// Says what is wrong with the value of `key`, at its place. The value is shown.
    pub(super) fn refuse(&self, key: &str, complaint: impl Into<Complaint>) {
        let at = self.table.get(key).map_or_else(|| self.at.clone(), Spanned::span);
        self.push(at, complaint, true);
    }

    /// Says what is wrong with this section, at its head.
    pub(super) fn refuse_all(&self, message: String) {
        self.push(self.at.clone(), message, false);
    }

    fn push(&self, at: Range<usize>, complaint: impl Into<Complaint>, show_value: bool) {
        let complaint = complaint.into();
        self.document.problems.borrow_mut().push(Problem { at, complaint, show_value });
    }

    /// The section's name as the user writes it.
    pub(super) fn title(&self) -> &str {
        &self.title
    }

    fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().push(key);
        self.table.get(key)
    }

    /// Whether the file has `key` here.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The string under `key`; nothing is said where it is none.
    pub(super) fn peek(&self, key: &str) -> Option<&'a str> {
        self.table.get(key)?.get_ref().as_str()
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.push(value.span(), format!("`{key}` takes {wanted}, not {}", with_article(found)), true);
    }

    pub(super) fn string(&self, key: &'static str) -> Option<String> {
        let value = self.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, "a string");
        }
        text.map(str::to_owned)
    }

    /// A list of strings.
    pub(super) fn strings(&self, key: &'static str) -> Option<Vec<String>> {
        let value = self.get(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, r#"a list of strings, such as ["a", "b"]"#);
            return None;
        };
        let mut list = Vec::new();
        for item in array {
            match item.get_ref().as_str() {
                Some(text) => list.push(text.to_owned()),
                None => self.wrong_type(key, item, "strings in its list"),
            }
        }
        Some(list)
    }

    /// A path as the user wrote it.
    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        let text = self.string(key)?;
        if text.is_empty() {
            self.refuse(key, Complaint::new(format!("`{key}` is empty"), "it takes the path of a file"));
            return None;
        }
        Some(PathBuf::from(text))
    }

    pub(super) fn bool(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        flag
    }

    /// A duration in the form of humantime, between the two ends of `range`.
    pub(super) fn duration(&self, key: &'static str, range: (Duration, Duration)) -> Option<Duration> {
        let value = self.get(key)?;
        let Some(text) = value.get_ref().as_str() else {
            if let Some(n) = value.get_ref().as_integer() {
                let help = format!(r#"write {key} = "{n}s" for seconds"#);
                let what = format!("`{key}` takes a duration in quotes, not an integer");
                self.push(value.span(), Complaint::new(what, help), true);
            } else {
                self.wrong_type(key, value, r#"a duration in quotes, such as "500ms", "2s" or "1h 30m""#);
            }
            return None;
        };
        match humantime::parse_duration(text) {
            Ok(d) if range.0 <= d && d <= range.1 => Some(d),
            Ok(d) => {
                self.out_of_range(key, &show_duration(d), &show_duration(range.0), &show_duration(range.1));
                None
            }
            Err(_) => {
                let help = r#"write it as "500ms", "2s" or "1h 30m""#;
                self.refuse(key, Complaint::new(format!(r#"bad duration "{text}" for `{key}`"#), help));
                None
            }
        }
    }

    /// A whole number between the two ends of `range`.
    pub(super) fn whole(&self, key: &'static str, range: (u64, u64)) -> Option<u64> {
        let value = self.get(key)?;
        let Some(number) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(n) if range.0 <= n && n <= range.1 => Some(n),
            _ => {
                self.out_of_range(key, &number.to_string(), &range.0.to_string(), &range.1.to_string());
                None
            }
        }
    }

    /// A number between the two ends of `range`.
    pub(super) fn number(&self, key: &'static str, range: (f64, f64)) -> Option<f64> {
        let value = self.get(key)?;
        let text = match value.get_ref() {
            DeValue::Float(f) => f.as_str().to_owned(),
            DeValue::Integer(i) if i.radix() == 10 => i.as_str().to_owned(),
            _ => {
                self.wrong_type(key, value, "a number");
                return None;
            }
        };
        match text.parse::<f64>() {
            Ok(n) if range.0 <= n && n <= range.1 => Some(n),
            _ => {
                self.out_of_range(key, &text, &range.0.to_string(), &range.1.to_string());
                None
            }
        }
    }

    fn out_of_range(&self, key: &str, found: &str, low: &str, high: &str) {
        let help = format!("accepted: {low} to {high}");
        self.refuse(key, Complaint::new(format!("`{key}` is {found}"), help));
    }

    /// The table `[…key]`.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let value = self.get(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, value, &format!("a table, written [{}]", self.inner_path(key)));
        }
        table.map(|t| self.inner(format!("[{}]", self.inner_path(key)), t, self.place(key, value)))
    }

    /// Each table `[[…key]]`.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let title = format!("[[{}]]", self.inner_path(key));
        let tables: Option<Vec<_>> = value
            .get_ref()
            .as_array()
            .and_then(|array| array.iter().map(|v| v.get_ref().as_table().map(|t| (t, v.span()))).collect());
        if tables.is_none() {
            self.wrong_type(key, value, &format!("tables, each written {title}"));
        }
        tables.unwrap_or_default().into_iter().map(|(t, at)| self.inner(title.clone(), t, at)).collect()
    }

    /// Where a header stands: the value's own span where it has one, else its key's.
    fn place(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Range<usize> {
        let span = value.span();
        if span.is_empty() { self.table.get_key_value(key).map_or(span, |(k, _)| k.span()) } else { span }
    }

    fn inner_path(&self, key: &str) -> String {
        let path = self.title.trim_matches(['[', ']']);
        if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
    }

    fn inner(&self, title: String, table: &'a DeTable<'a>, at: Range<usize>) -> Section<'a> {
        Section { document: self.document, table, title, at, known: RefCell::default() }
    }

    /// Refuses every key that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        let (what, place) = if self.title.is_empty() {
            ("section", String::new())
        } else if self.title == "[checks]" {
            ("check", format!(" in {}", self.title))
        } else {
            ("key", format!(" in {}", self.title))
        };
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let hint = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "it takes none".to_owned(),
                None => {
                    let list: Vec<String> = known.iter().map(|k| format!("`{k}`")).collect();
                    format!("accepted: {}", list.join(", "))
                }
            };
            let message = format!("unknown {what} `{}`{place}", redact::control(name));
            self.push(key.span(), Complaint::new(message, hint), false);
        }
    }
}

/// The word of `among` that was likely meant.
pub fn nearest<'w>(word: &str, among: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let word = word.to_ascii_lowercase();
    let most = (word.chars().count() / 3).clamp(1, 6);
    among
        .map(|w| (strsim::damerau_levenshtein(&word, &w.to_ascii_lowercase()), w))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, w)| w)
}

/// A duration as it is written in a file.
pub(super) fn show_duration(d: Duration) -> String {
    humantime::format_duration(d).to_string()
}

fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}
