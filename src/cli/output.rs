//! Writing to standard output and to terminals.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use crate::api::wrap;
use crate::config::redact;

/// Text is never wider than this, also where the terminal is.
const WIDTH_MAX: usize = 100;
/// Nothing is wider than this.
const COLUMNS_MAX: usize = 400;

/// Writes `text` to standard output. A reader that went away is an error of kind `BrokenPipe`, no panic.
pub(super) fn print(text: &str) -> io::Result<()> {
    bytes(text.as_bytes())
}

/// Writes `bytes` to standard output, at once.
pub(super) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// JSON with all that steers a terminal written as escapes, which says the same. Line ends stand between values only.
pub(super) fn harmless(json: &str) -> Cow<'_, str> {
    let steers = |c: char| c != '\n' && redact::hostile(c);
    if !json.contains(steers) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if steers(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Whether a picture is on the terminal that a line of a log would spoil.
static SCREEN: AtomicBool = AtomicBool::new(false);

/// Says whether the whole screen is ours.
pub(super) fn screen(ours: bool) {
    SCREEN.store(ours && io::stderr().is_terminal(), Ordering::Relaxed);
}

/// Where logs go: standard error, and nowhere while they would spoil the picture.
pub(super) fn log() -> Box<dyn Write> {
    if SCREEN.load(Ordering::Relaxed) { Box::new(io::sink()) } else { Box::new(Harmless(io::stderr())) }
}

/// Writes whole lines, and what would steer a terminal as escapes: what others call themselves stands in logs too.
struct Harmless<W>(W);

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write_harmless(&mut self.0, line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

pub(super) fn write_harmless(out: &mut impl Write, line: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(line);
    let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
    let mut parts = text.split("\u{1b}[");
    let mut written = redact::control(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        // Colours are our own: they are taken out of what is logged before.
        let is_colour = |code: &str| code.bytes().all(|b| b.is_ascii_digit() || b == b';');
        let (colour, rest) = match part.split_once('m').filter(|(code, _)| is_colour(code)) {
            Some((code, rest)) => (format!("\u{1b}[{code}m"), rest),
            None => ("\\u{1b}[".to_owned(), part),
        };
        written += &colour;
        written += &redact::control(rest);
    }
    out.write_all((written + end).as_bytes())
}

/// Whether to colour what goes to `stream`: a terminal, and the user has nothing against it (`NO_COLOR`).
pub(super) fn colour(stream: &impl IsTerminal) -> bool {
    let set = |key| std::env::var_os(key).is_some_and(|v: std::ffi::OsString| !v.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// How wide text may be.
pub(super) fn width() -> usize {
    prose(columns())
}

/// How wide text may be on a terminal of so many columns.
pub(super) fn prose(columns: usize) -> usize {
    columns.min(WIDTH_MAX)
}

/// How wide the terminal is: what is no prose may be as wide.
pub(super) fn columns() -> usize {
    let terminal = terminal_size::terminal_size().map(|(w, _)| usize::from(w.0));
    terminal.unwrap_or(80).clamp(40, COLUMNS_MAX)
}
