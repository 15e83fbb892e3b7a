//! Keeps secrets out of what is printed, and what others wrote from steering a terminal.

use std::borrow::Cow;

/// `url` (or a comma list of them) without the user and password of its authority.
pub fn urls(list: &str) -> String {
    list.split(',').map(|url| url_of(url.trim())).collect::<Vec<_>>().join(",")
}

fn url_of(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(s, r)| (s, r));
    let (authority, path) = rest.find('/').map_or((rest, ""), |i| rest.split_at(i));
    // The last `@` of the whole text: a password may hold a `/` that nobody escaped.
    let shown = match (rest.rsplit_once('@'), authority.contains('@')) {
        (Some(_), true) => {
            let host = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
            if path.contains('@') { "…".to_owned() } else { format!("…@{host}{path}") }
        }
        (Some(_), false) => "…".to_owned(),
        (None, _) => rest.to_owned(),
    };
    if scheme.is_empty() { shown } else { format!("{scheme}://{shown}") }
}

/// Words of a line that say that its value is nobody's business; also when they are misspelt.
const SECRET_WORDS: &[&str] = &["password", "passwd", "pass", "token", "secret", "seed"];

/// Whether `word` is the name of something that nobody may see; also when it is misspelt.
pub fn names_a_secret(word: &str) -> bool {
    // What is longer is none of them, and comparing it takes long.
    let word = Some(word).filter(|word| word.len() <= 16).map(str::to_ascii_lowercase).unwrap_or_default();
    SECRET_WORDS.iter().any(|s| {
        let most = if s.len() > 5 { 2 } else { 1 };
        strsim::damerau_levenshtein(s, &word) <= most
    })
}

/// A line of a configuration file as it may be shown: the key, and the value only when it is wanted and
/// holds no secret.
pub(crate) fn line(line: &str, show_value: bool) -> String {
    let line = control(line.trim_end());
    if line.trim_start().starts_with('[') {
        return line.into_owned();
    }
    let secret = line.contains('@')
        || line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(names_a_secret);
    match line.find('=') {
        Some(_) if show_value && !secret => line.into_owned(),
        Some(i) => format!("{}= …", line.get(..i).unwrap_or_default()),
        None => {
            let blank = line.len() - line.trim_start().len();
            let end = line
                .char_indices()
                .find(|(i, c)| *i >= blank && !c.is_alphanumeric() && *c != '_')
                .map_or(line.len(), |(i, _)| i);
            if secret { "…".to_owned() } else { format!("{} …", line.get(..end).unwrap_or_default()) }
        }
    }
}

/// A line of a JSON file as it may be shown: its key, and never the value.
pub(crate) fn json_line(line: &str) -> String {
    let line = control(line.trim_end());
    let key = line.split_once(':').map(|(key, _)| key);
    let is_key = |key: &&str| {
        let name = key.trim().strip_prefix('"').and_then(|k| k.strip_suffix('"'));
        name.is_some_and(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    match key.filter(is_key) {
        Some(key) => format!("{key}: …"),
        None => "…".to_owned(),
    }
}

/// `text` with control characters, and those that turn the direction of a line, written as escapes.
///
/// What a server or another program sent is never printed raw: a name could otherwise move the cursor,
/// recolour the screen or hide what follows.
pub fn control(text: &str) -> Cow<'_, str> {
    if !text.chars().any(hostile) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c {
                '\t' => out.push(' '),
                c if hostile(c) => out.extend(c.escape_default()),
                c => out.push(c),
            }
            out
        })
        .into()
}

/// Whether `c` controls a terminal, turns the direction of a line, or is not seen.
pub(crate) fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_its_host_and_loses_its_secret() {
        let cases = [
            ("nats://a:4222", "nats://a:4222"),
            ("nats://u:p@a:4222,b", "nats://…@a:4222,b"),
            ("tok@a", "…@a"),
            ("nats://u:p@ss@a", "nats://…@a"),
            ("nats://u:p/w@a", "nats://…"),
            ("nats://u:p@x/w@a", "nats://…"),
        ];
        for (url, shown) in cases {
            assert_eq!(urls(url), shown, "{url}");
        }
    }

    #[test]
    fn a_line_with_a_secret_shows_only_its_key() {
        let cases = [
            (r#"interval = "1 parsec""#, true, r#"interval = "1 parsec""#),
            (r#"intervall = "1s""#, false, "intervall = …"),
            ("password = hunter2", true, "password = …"),
            (r#"pasword = "hunter2"#, true, "pasword = …"),
            (r#"connect = { user = "a", token = x }"#, true, "connect = …"),
            (r#"server = "nats://u:p@h""#, true, "server = …"),
            (r#"interval "1s""#, true, "interval …"),
            ("hunter2 token", true, "…"),
            ("[pol]", false, "[pol]"),
        ];
        for (text, show, shown) in cases {
            assert_eq!(line(text, show), shown, "{text}");
        }
    }

    #[test]
    fn a_line_of_json_shows_only_its_key() {
        let cases = [
            (r#"  "password": "hunter2","#, r#"  "password": …"#),
            (r#"{"password": "hunter2"}"#, "…"),
            ("hunter2", "…"),
            (r#""hun:ter2""#, "…"),
            (r#"  "HUNTER": 2"#, "…"),
        ];
        for (text, shown) in cases {
            assert_eq!(json_line(text), shown, "{text}");
        }
    }

    #[test]
    fn a_hostile_name_does_not_reach_the_terminal_raw() {
        assert_eq!(control("eu-1"), "eu-1");
        assert_eq!(control("a\u{1b}[31mb\nc\u{202e}d"), "a\\u{1b}[31mb\\nc\\u{202e}d");
    }
}
