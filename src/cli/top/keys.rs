//! What a terminal sends, as keys.
//!
//! Not read by the library that draws: it would spin on a terminal that is gone, and takes the first half of a
//! sequence that comes in two parts, as over a slow way it does, for the escape key.

/// Longer sequences are no keys.
const SEQUENCE_BYTES_MAX: usize = 32;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Ctrl(char),
    Enter,
    Esc,
    Tab,
    BackTab,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

/// Bytes that are not a whole key yet.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<u8>);

/// What the first bytes are.
enum Part {
    /// A key, or something that is none, of so many bytes.
    Whole(Option<Key>, usize),
    Cut,
}

impl Keys {
    /// The keys that `bytes` end.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.0.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while let Part::Whole(key, len) = first(&self.0) {
            self.0.drain(..len.min(self.0.len()));
            keys.extend(key);
        }
        keys
    }

    /// Whether a key has begun. What follows in an instant belongs to it.
    pub(super) fn has_begun(&self) -> bool {
        !self.0.is_empty()
    }

    /// Nothing followed: an escape was the key itself.
    pub(super) fn end(&mut self) -> Option<Key> {
        let begun = std::mem::take(&mut self.0);
        (begun.first() == Some(&0x1b)).then_some(Key::Esc)
    }
}

fn first(bytes: &[u8]) -> Part {
    let Some(&byte) = bytes.first() else { return Part::Cut };
    let key = match byte {
        0x1b => return escape(bytes),
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        0x08 | 0x7f => Key::Backspace,
        0x01..=0x1a => Key::Ctrl(char::from(byte + b'a' - 1)),
        0..=0x1f => return Part::Whole(None, 1),
        0x20..=0x7e => Key::Char(char::from(byte)),
        _ => return letter(bytes),
    };
    Part::Whole(Some(key), 1)
}

fn escape(bytes: &[u8]) -> Part {
    match bytes.get(1) {
        None => Part::Cut,
        Some(b'O') => bytes.get(2).map_or(Part::Cut, |end| Part::Whole(named(*end, b""), 3)),
        Some(b'[') => {
            let rest = bytes.get(2..).unwrap_or_default();
            match rest.iter().position(|b| !(0x20..=0x3f).contains(b)) {
                Some(at) => {
                    let end = rest.get(at).copied().unwrap_or_default();
                    Part::Whole(named(end, rest.get(..at).unwrap_or_default()), at + 3)
                }
                None if bytes.len() > SEQUENCE_BYTES_MAX => Part::Whole(None, bytes.len()),
                None => Part::Cut,
            }
        }
        Some(_) => Part::Whole(Some(Key::Esc), 1),
    }
}

/// The key that a sequence with this last byte and what stands before it names.
fn named(end: u8, before: &[u8]) -> Option<Key> {
    Some(match (end, before.split(|b| *b == b';').next().unwrap_or_default()) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"5") => Key::PageUp,
        (b'~', b"6") => Key::PageDown,
        (b'Z', _) => Key::BackTab,
        (b'M', _) => Key::Enter,
        _ => return None,
    })
}

/// A letter beyond ASCII.
fn letter(bytes: &[u8]) -> Part {
    let len = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => return Part::Whole(None, 1),
    };
    match bytes.get(..len).map(std::str::from_utf8) {
        Some(Ok(text)) => Part::Whole(text.chars().next().map(Key::Char), len),
        Some(Err(_)) => Part::Whole(None, 1),
        None => Part::Cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_its_bytes_are() {
        let cases: &[(&[u8], &[Key])] = &[
            (b"q", &[Key::Char('q')]),
            (b"\r\t\x7f\x0c", &[Key::Enter, Key::Tab, Key::Backspace, Key::Ctrl('l')]),
            (b"\x1b[A\x1bOB\x1b[1;5C", &[Key::Up, Key::Down, Key::Right]),
            (
                b"\x1b[5~\x1b[6~\x1b[H\x1b[4~\x1b[Z",
                &[Key::PageUp, Key::PageDown, Key::Home, Key::End, Key::BackTab],
            ),
            ("ä\u{1f600}".as_bytes(), &[Key::Char('ä'), Key::Char('\u{1f600}')]),
            (b"\xffx\x1b[200~", &[Key::Char('x')]),
            (b"\x1bj", &[Key::Esc, Key::Char('j')]),
        ];
        for (bytes, keys) in cases {
            assert_eq!(Keys::default().feed(bytes), *keys, "{bytes:?}");
            // In parts, as over a slow way, it is the same.
            let mut slow = Keys::default();
            let parts: Vec<Key> = bytes.iter().flat_map(|byte| slow.feed(&[*byte])).collect();
            assert_eq!((parts.as_slice(), slow.has_begun()), (*keys, false), "{bytes:?}");
        }
    }

    #[test]
    fn an_escape_is_a_key_when_nothing_follows() {
        let mut keys = Keys::default();
        assert_eq!((keys.feed(b"\x1b"), keys.has_begun()), (vec![], true));
        assert_eq!((keys.end(), keys.end(), keys.has_begun()), (Some(Key::Esc), None, false));
        keys.feed(b"\xc3");
        assert_eq!((keys.end(), keys.has_begun()), (None, false), "half a letter is none");
    }

    #[test]
    fn what_never_ends_is_forgotten() {
        let mut keys = Keys::default();
        keys.feed(b"\x1b[");
        for _ in 0..100 {
            keys.feed(b"1;");
        }
        assert!(keys.0.len() <= SEQUENCE_BYTES_MAX + 2, "{}", keys.0.len());
    }
}
