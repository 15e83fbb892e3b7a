//! Names as tokens of a subject.

use sha2::{Digest, Sha256};

/// How many characters of a name stand in a token.
const CHARS_MAX: usize = 64;

/// `name` as one token: characters outside `[A-Za-z0-9_-]` become `_`, and it is cut at 64. Where that changed
/// it, `-` and four hex digits of its hash follow, so that two names do not share a token. `_` alone is the
/// token of no name.
pub fn token(name: Option<&str>) -> String {
    let Some(name) = name.filter(|n| !n.is_empty()) else { return "_".to_owned() };
    let mut token: String = name.chars().take(CHARS_MAX).map(|c| if is_plain(c) { c } else { '_' }).collect();
    if token != name || name == "_" {
        let hash = Sha256::digest(name.as_bytes());
        token.push('-');
        token.push_str(&data_encoding::HEXLOWER.encode(hash.get(..2).unwrap_or_default()));
    }
    token
}

/// Whether [`token`] may have made it.
pub fn is_token(text: &str) -> bool {
    (1..=CHARS_MAX + "-1234".len()).contains(&text.len()) && text.chars().all(is_plain)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_its_own_token() {
        assert_eq!(token(Some("eu-1_a")), "eu-1_a");
        assert_eq!(token(None), "_");
        assert_eq!(token(Some("")), "_");
    }

    #[test]
    fn a_hostile_name_becomes_one_harmless_token_of_its_own() {
        let names = ["a.b", "a b", "a>b", "a*b", "a\nb", "_", ">", "*", "ä", "a\u{0}b"];
        let mut tokens: Vec<String> = names.iter().map(|n| token(Some(n))).collect();
        for t in &tokens {
            assert!(t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{t}");
            assert_ne!(t, "_", "a name never reads as no name");
            assert!(is_token(t));
        }
        assert!(names.iter().all(|name| *name == "_" || !is_token(name)) && !is_token(""));
        tokens.sort();
        tokens.dedup();
        assert_eq!(tokens.len(), names.len(), "no two names share a token");
    }

    #[test]
    fn a_long_name_is_cut_and_told_apart_from_its_like() {
        let (a, b) = ("x".repeat(4096), "x".repeat(4097));
        assert_eq!(token(Some(&a)).len(), 64 + 5);
        assert_ne!(token(Some(&a)), token(Some(&b)));
        assert_eq!(token(Some(&"x".repeat(64))), "x".repeat(64));
    }
}
