//! What is wrong with a command line: where, why, and what to write instead.
//!
//! Shown are the program, commands and flags, and of the values only the one that is wrong. Any other may be a
//! password.

use std::ops::Range;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use crate::config::{Complaint, Mistake, nearest, redact};

/// What of a word is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// All of it, or the flag in it.
    Name,
    /// The value in it.
    Value,
}

/// The commands whose exit code is a verdict.
const GATES: [&str; 2] = ["check", "judge"];

/// The words that the program was called with.
pub(super) fn words() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Which of the commands with a verdict `words` call, or seem to mean where there is none of that name.
pub(super) fn gate(error: &Error, words: &[String], program: &Command) -> Option<&'static str> {
    let (command, _) = called(words, program);
    let name = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => {
            nearest(word, program.get_subcommands().map(Command::get_name)).unwrap_or_default()
        }
        _ => command.split(' ').nth(1).unwrap_or_default(),
    };
    GATES.into_iter().find(|gate| *gate == name)
}

/// What `error` says of `words`, the command line of `program`; none where clap tells it best, such as `--help`.
pub(super) fn mistake(error: &Error, words: &[String], program: &Command) -> Option<Mistake> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(list)) => list.first().map(String::as_str),
        _ => None,
    };
    let list = |kind| match error.get(kind) {
        Some(ContextValue::Strings(list)) => list.join(", "),
        _ => String::new(),
    };
    let meant = |kind| text(kind).map(|near| format!("did you mean `{near}`?"));
    let (command, end) = called(words, program);
    let inside =
        command.split(' ').skip(1).try_fold(program, |c, name| c.find_subcommand(name)).unwrap_or(program);
    // What clap takes for near is nearer than a word with two letters exchanged.
    let near = |word: &str, among: Vec<&str>| nearest(word, among.into_iter()).map(str::to_owned);
    let more = |of: &str| format!("`{command} --help` lists {of}");
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let word = text(ContextKind::InvalidArg)?;
            let at = position(words, word);
            let what = if word.starts_with('-') {
                format!("`{command}` has no flag `{}`{}", flag(word), if at < end { " there" } else { "" })
            } else if may_be_secret(words) {
                format!("`{command}` is given one word too many")
            } else {
                format!("`{}` is one word too many for `{command}`", redact::control(word))
            };
            let longs = inside.get_arguments().filter_map(clap::Arg::get_long).collect();
            let near = word.strip_prefix("--").and_then(|name| near(name, longs));
            let help = belongs_to(word, at, words, program)
                .or_else(|| meant(ContextKind::SuggestedArg))
                .or_else(|| near.map(|long| format!("did you mean `--{long}`?")))
                .unwrap_or_else(|| match inside.get_name() {
                    _ if !word.starts_with('-') && may_be_secret(words) => {
                        "a value with a blank in it stands in quotes".to_owned()
                    }
                    "checks" => "`gatewatch explain CHECK` prints the manual of one".to_owned(),
                    _ => more("what it takes"),
                });
            Some(point(Complaint::new(what, help), words, at, Part::Name, program))
        }
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand)?;
            let names = inside.get_subcommands().map(Command::get_name).collect();
            let help = near(word, names)
                .map(|name| format!("did you mean `{name}`?"))
                .or_else(|| meant(ContextKind::SuggestedSubcommand))
                .unwrap_or_else(|| more("the commands"));
            let what = format!("there is no command `{}`", redact::control(word));
            Some(point(Complaint::new(what, help), words, position(words, word), Part::Name, program))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let name = bare(text(ContextKind::InvalidArg)?);
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let accepted = list(ContextKind::ValidValue);
            let accepted = (!accepted.is_empty()).then(|| format!("accepted: {accepted}"));
            if value.is_empty() {
                let arg = text(ContextKind::InvalidArg)?;
                let help = accepted.unwrap_or_else(|| format!("write `{}`", arg.replace(['<', '>'], "")));
                let complaint = Complaint::new(format!("`{name}` needs a value"), help);
                return Some(point(complaint, words, position(words, name), Part::Name, program));
            }
            let why = std::error::Error::source(error).map(|e| format!(": {e}")).unwrap_or_default();
            let what = format!("`{}` is no value for `{name}`{why}", redact::control(value));
            let digits = value.bytes().all(|b| b.is_ascii_digit());
            let is_duration = text(ContextKind::InvalidArg).is_some_and(|a| a.contains("DURATION"));
            let help = match (meant(ContextKind::SuggestedValue), accepted) {
                (Some(meant), Some(accepted)) => format!("{meant} {accepted}"),
                (None, Some(accepted)) => accepted,
                _ if is_duration && digits => format!("write `{name} {value}s` for seconds"),
                _ if is_duration => format!("write it as `{name} 2s` or `{name} 500ms`"),
                _ => more("what it takes"),
            };
            let (at, part) = position_of_value(words, name, value);
            Some(point(Complaint::new(what, help), words, at, part, program))
        }
        ErrorKind::MissingRequiredArgument => {
            let needed = list(ContextKind::InvalidArg);
            let what = format!("`{command}` needs {needed}");
            let help = match needed.as_str() {
                "<CHECK>" => "`gatewatch checks` lists the checks".to_owned(),
                _ => more("what it takes"),
            };
            Some(point(Complaint::new(what, help), words, words.len(), Part::Name, program))
        }
        ErrorKind::ArgumentConflict => {
            let (one, other) = (bare(text(ContextKind::InvalidArg)?), list(ContextKind::PriorArg));
            let other = text(ContextKind::PriorArg).map_or(other.as_str(), bare);
            let what = if one == other || other.is_empty() {
                format!("`{one}` is there twice")
            } else {
                format!("`{one}` and `{other}` exclude each other")
            };
            let last = words.iter().rposition(|w| is(w, one)).unwrap_or(words.len());
            Some(point(Complaint::new(what, "leave one of them out"), words, last, Part::Name, program))
        }
        _ => None,
    }
}

/// Points at the value of `name`, a flag or none for a word by itself, which `value` is where that is known.
pub(super) fn at_value(complaint: Complaint, name: &str, value: &str, program: &Command) -> Option<Mistake> {
    let words = words();
    let (at, part) = match position_of_value(&words, name, value) {
        // The one flag of these that has a short form.
        (at, _) if at == words.len() && name == "--server" => position_of_value(&words, "-s", value),
        found => found,
    };
    (at < words.len()).then(|| point(complaint, &words, at, part, program))
}

/// The command that `words` call, and how many of them say so.
fn called(words: &[String], program: &Command) -> (String, usize) {
    let (mut command, mut name, mut end) = (program, program.get_name().to_owned(), 1);
    for (n, word) in words.iter().enumerate().skip(1) {
        if let Some(inner) = command.find_subcommand(word) {
            name = format!("{name} {}", inner.get_name());
            (command, end) = (inner, n + 1);
        }
    }
    (name, end)
}

/// What to say of a flag that stands before the command that takes it.
fn belongs_to(word: &str, at: usize, words: &[String], program: &Command) -> Option<String> {
    let (name, end) = called(words, program);
    let mut command = program;
    for inner in name.split(' ').skip(1) {
        command = command.find_subcommand(inner)?;
    }
    let long = word.strip_prefix("--")?;
    let takes = command.get_arguments().any(|a| a.get_long() == Some(long));
    (takes && at < end).then(|| format!("flags of a command follow it: `{name} {word} …`"))
}

/// `--format <FORMAT>` as it is written.
fn bare(arg: &str) -> &str {
    arg.split([' ', '=']).next().unwrap_or(arg)
}

fn is(word: &str, name: &str) -> bool {
    word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

fn position(words: &[String], name: &str) -> usize {
    let found = words.iter().skip(1).position(|w| is(w, name)).map(|n| n + 1);
    // A short flag may have its value, or others, in one word with it.
    let within = || words.iter().skip(1).position(|w| name.len() == 2 && w.starts_with(name)).map(|n| n + 1);
    found.or_else(within).unwrap_or(words.len())
}

fn position_of_value(words: &[String], name: &str, value: &str) -> (usize, Part) {
    let at = words.iter().enumerate().skip(1).find_map(|(n, word)| {
        let next = words.get(n + 1).filter(|_| word == name);
        if name.starts_with('-') && is(word, name) && word.len() > name.len() {
            Some((n, Part::Value))
        } else if next.is_some() {
            Some((n + 1, Part::Name))
        } else {
            (!name.starts_with('-') && word == value).then_some((n, Part::Name))
        }
    });
    at.unwrap_or((words.len(), Part::Name))
}

/// A flag as it may be shown. Of one that begins as a secret's does, the rest may be the secret.
fn flag(word: &str) -> String {
    let name = word.split('=').next().unwrap_or_default();
    let dashes = name.len() - name.trim_start_matches('-').len();
    let mut shown = name.get(..dashes).unwrap_or_default().to_owned();
    if dashes == 1 {
        shown.extend(name.chars().nth(1).map(|c| if c.is_ascii_alphanumeric() { c } else { '…' }));
        return shown;
    }
    for (n, part) in name.get(dashes..).unwrap_or_default().split('-').enumerate() {
        if n > 0 {
            shown.push('-');
        }
        let known = ["password", "token", "user"].into_iter().find(|secret| part.starts_with(secret));
        match known {
            Some(secret) if part.len() > secret.len() => {
                shown.push_str(secret);
                shown.push('…');
                return shown;
            }
            _ if part.len() <= 16 && part.bytes().all(|b| b.is_ascii_lowercase()) => shown.push_str(part),
            _ => {
                shown.push('…');
                return shown;
            }
        }
    }
    shown
}

/// Whether a word that belongs to no flag may be a piece of a secret, such as one with a blank in it.
fn may_be_secret(words: &[String]) -> bool {
    words.iter().filter(|w| w.starts_with('-')).any(|w| {
        w.split(['-', '=']).any(|part| redact::names_a_secret(part) || part == "user" || part == "p")
    })
}

/// `words` as they may be shown, pointing at `part` of the one at `at`, or behind the last.
fn point(complaint: Complaint, words: &[String], at: usize, part: Part, program: &Command) -> Mistake {
    let hidden = may_be_secret(words);
    let mut command = program;
    let mut shown = program.get_name().to_owned();
    let mut span: Option<Range<usize>> = None;
    for (n, word) in words.iter().enumerate().skip(1) {
        shown.push(' ');
        let from = shown.len();
        let after_a_secret =
            words.get(n - 1).is_some_and(|w| w.starts_with('-') && may_be_secret(std::slice::from_ref(w)));
        let inner = command.find_subcommand(word).filter(|_| !after_a_secret);
        if word.starts_with('-') && word.len() > 1 {
            shown.push_str(&flag(word));
            if n == at && part == Part::Name {
                span = Some(from..shown.len());
            }
            if let Some((_, value)) = word.split_once('=') {
                shown.push('=');
                let from = shown.len();
                if n == at && part == Part::Value {
                    shown.push_str(&told(value));
                    span = Some(from..shown.len());
                } else {
                    shown.push('…');
                }
            }
        } else if let Some(inner) = inner {
            shown.push_str(inner.get_name());
            command = inner;
            if n == at {
                span = Some(from..shown.len());
            }
        } else if n == at {
            // One that stands by itself is somebody's password with a blank in it, or the value that is wrong.
            let by_itself = !words.get(n - 1).is_some_and(|w| w.starts_with('-'));
            shown.push_str(&if after_a_secret || (hidden && by_itself) {
                "…".to_owned()
            } else {
                told(word)
            });
            span = Some(from..shown.len());
        } else {
            shown.push('…');
        }
    }
    if span.is_none() {
        shown.push(' ');
    }
    let at = span.unwrap_or(shown.len()..shown.len());
    Mistake { complaint, path: None, number: 1, shown, at }
}

/// A value that is wrong, short, without what a terminal would obey and without the password of a URL.
fn told(value: &str) -> String {
    const CHARS_MAX: usize = 100;
    let value = if value.contains('@') { redact::urls(value) } else { value.to_owned() };
    let cut: String = value.chars().take(CHARS_MAX).collect();
    let rest = if cut.len() < value.len() { "…" } else { "" };
    redact::control(&cut).into_owned() + rest
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::Cli;
    use super::*;

    fn shown(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let program = Cli::command();
        let error = program.clone().try_get_matches_from(&words).unwrap_err();
        mistake(&error, &words, &program).expect("a mistake").render(false)
    }

    #[test]
    fn no_mistake_shows_a_secret() {
        let lines = [
            "gatewatch run --password hunter2 --tokn x",
            "gatewatch run --pasword hunter2",
            "gatewatch run --pasword=hunter2",
            "gatewatch run --passwordhunter2",
            "gatewatch run --password-hunter2",
            "gatewatch run --password my hunter2",
            "gatewatch run --user hunter2 --nokey",
            "gatewatch run --token hunter2 --timeout 5",
            "gatewatch run -s nats://u:hunter2@h --timeout=5",
            "gatewatch run --password hunter2 --password hunter2",
            "gatewatch --pasword hunter2 run",
            "gatewatch run -phunter2",
            "gatewatch run --server=nats://hunter2@h --nope",
        ];
        for line in lines {
            let shown = shown(line);
            assert!(!shown.contains("hunter2") && !shown.contains("my"), "{line}\n{shown}");
            assert!(
                shown.starts_with("error: ") && shown.contains('^') && shown.contains("help: "),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_mistake_is_pointed_at() {
        let cases = [
            ("gatewatch run --sever a", "gatewatch run --sever …", "^^^^^^^", "`--server`?"),
            ("gatewatch rnu", "gatewatch rnu", "^^^", "`run`?"),
            ("gatewatch run --timeout=5", "gatewatch run --timeout=5", "^", "`--timeout 5s`"),
            ("gatewatch run --timeout soon", "gatewatch run --timeout soon", "^^^^", "500ms"),
            (
                "gatewatch --server a run",
                "gatewatch --server … run",
                "^^^^^^^^",
                "`gatewatch run --server …`",
            ),
            ("gatewatch explain", "gatewatch explain ", "^", "`gatewatch checks`"),
            ("gatewatch checks b", "gatewatch checks b", "^", "`gatewatch explain CHECK`"),
            ("gatewatch watch --severity crit", "--severity crit", "^^^^", "`critical`?"),
        ];
        for (line, excerpt, carets, help) in cases {
            let shown = shown(line);
            let has = |wanted: &str| shown.contains(wanted);
            assert!(has(excerpt) && has(&format!(" {carets}\n")) && has(help), "{line}\n{shown}");
        }
    }
}
