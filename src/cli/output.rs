//! Writing to standard output and to terminals.

use std::io::{self, IsTerminal, Write};

/// Text is never wider than this, also where the terminal is.
const WIDTH_MAX: usize = 100;

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

/// Whether to colour what goes to `stream`: a terminal, and the user has nothing against it (`NO_COLOR`).
pub(super) fn colour(stream: &impl IsTerminal) -> bool {
    let set = |key| std::env::var_os(key).is_some_and(|v: std::ffi::OsString| !v.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// How wide text may be.
pub(super) fn width() -> usize {
    let terminal = terminal_size::terminal_size().map(|(w, _)| usize::from(w.0));
    terminal.unwrap_or(80).clamp(40, WIDTH_MAX)
}

/// `text` in lines of at most `width` characters, each after `indent` blanks. Lines that are indented in
/// `text` (examples) and empty lines stay as they are.
pub(super) fn wrap(text: &str, indent: usize, width: usize) -> String {
    let blanks = " ".repeat(indent);
    let mut out = String::new();
    let mut line = String::new();
    let flush = |line: &mut String, out: &mut String| {
        if !line.is_empty() {
            out.push_str(&blanks);
            out.push_str(line);
            out.push('\n');
            line.clear();
        }
    };
    for source in text.lines() {
        if source.trim().is_empty() || source.starts_with(' ') {
            flush(&mut line, &mut out);
            if !source.trim().is_empty() {
                out.push_str(&blanks);
                out.push_str(source.trim_end());
            }
            out.push('\n');
            continue;
        }
        for word in source.split_whitespace() {
            let long = indent + line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && long > width {
                flush(&mut line, &mut out);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    flush(&mut line, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_wrapped_and_examples_are_kept() {
        let text = "one two three\nfour\n\n  nats server report\nfive";
        assert_eq!(wrap(text, 2, 12), "  one two\n  three four\n\n    nats server report\n  five\n");
        assert_eq!(wrap("averyveryverylongword x", 0, 10), "averyveryverylongword\nx\n");
    }
}
