//! Writing to standard output and to terminals.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use crate::api::wrap;

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

/// Whether a picture is on the terminal that a line of a log would spoil.
static SCREEN: AtomicBool = AtomicBool::new(false);

/// Says whether the whole screen is ours.
pub(super) fn screen(ours: bool) {
    SCREEN.store(ours && io::stderr().is_terminal(), Ordering::Relaxed);
}

/// Where logs go: standard error, and nowhere while they would spoil the picture.
pub(super) fn log() -> Box<dyn Write> {
    if SCREEN.load(Ordering::Relaxed) { Box::new(io::sink()) } else { Box::new(io::stderr()) }
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
