//! Who we are. Files are read anew at each connect, so that credentials can be rotated under a running agent.

use std::io;
use std::path::{Path, PathBuf};

use async_nats::Auth;
use nkeys::KeyPair;

use crate::clock::Clock;
use crate::config::{Complaint, Connect, Mistake, redact};
use crate::model::Time;

/// The one way in which a connection logs in.
pub(super) enum Credentials {
    None,
    Creds(PathBuf),
    Nkey(PathBuf),
    User(String, String),
    Token(String),
}

/// What writes a file with credentials.
pub(super) const FRESH: &str = "`nsc generate creds --account SYS --name USER > FILE` writes one";

/// Why a file with credentials cannot be used. Never quotes it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A part of it is missing.
    #[error("it holds no {0}")]
    Missing(&'static str),
    /// The seed is not one.
    #[error("its nkey seed is not valid")]
    Seed(#[source] nkeys::error::Error),
}

impl Credentials {
    pub(super) fn of(connect: &Connect, userinfo: Option<(String, Option<String>)>) -> Self {
        let c = connect.clone();
        if let Some(user) = c.user {
            return Self::User(user, c.password.unwrap_or_default());
        }
        match (c.creds, c.nkey, c.token, userinfo) {
            (Some(path), ..) => Self::Creds(path),
            (_, Some(path), ..) => Self::Nkey(path),
            (_, _, Some(token), _) | (_, _, None, Some((token, None))) => Self::Token(token),
            (_, _, None, Some((user, Some(password)))) => Self::User(user, password),
            (None, None, None, None) => Self::None,
        }
    }

    /// What the server is told, `nonce` signed where the way to log in asks for it.
    pub(super) fn read(&self, nonce: &[u8]) -> Result<Auth, CredentialsError> {
        let mut auth = Auth::new();
        match self {
            Self::None => {}
            Self::User(user, password) => {
                auth.username = Some(user.clone());
                auth.password = Some(password.clone());
            }
            Self::Token(token) => auth.token = Some(token.clone()),
            Self::Nkey(path) => {
                let key = key_pair(&std::fs::read_to_string(path)?)?;
                auth.signature = Some(key.sign(nonce).map_err(CredentialsError::Seed)?);
                auth.nkey = Some(key.public_key());
            }
            Self::Creds(path) => {
                let text = std::fs::read_to_string(path)?;
                let key = key_pair(&text)?;
                auth.jwt = Some(jwt(&text).ok_or(CredentialsError::Missing("user JWT"))?.to_owned());
                auth.signature = Some(key.sign(nonce).map_err(CredentialsError::Seed)?);
            }
        }
        Ok(auth)
    }

    /// Which credentials these are, without their secret.
    pub(super) fn describe(&self) -> String {
        let file = |what: &str, path: &Path| format!("{what} {}", path.display());
        match self {
            Self::None => "no credentials".to_owned(),
            Self::User(user, _) => format!("user `{}`", redact::control(user)),
            Self::Token(_) => "a token".to_owned(),
            Self::Nkey(path) => file("the nkey of", path),
            Self::Creds(path) => file("the creds file", path),
        }
    }

    /// Where in the file it stands that it cannot be used for `e`, and what mends it. The file is not quoted but for
    /// the two letters that say what a seed is of.
    pub(super) fn mistake(&self, e: &CredentialsError) -> Option<Mistake> {
        let (Self::Creds(path) | Self::Nkey(path)) = self else { return None };
        let text = std::fs::read_to_string(path).ok()?;
        let fresh = FRESH;
        let what = format!("cannot use {}: {e}", self.describe());
        let kinds = [("SU", "a user"), ("SA", "an account"), ("SO", "an operator"), ("SN", "a server")];
        let found = text.lines().enumerate().find_map(|(n, line)| {
            let kind = kinds.iter().find(|(letters, _)| line.trim().starts_with(letters))?;
            (line.trim().len() > 40 || kind.0 == "SU").then_some((n + 1, *kind))
        });
        let help = match (e, found) {
            (CredentialsError::Seed(_), _) => format!("was it cut or retyped? {fresh}"),
            (CredentialsError::Missing(_), Some((_, (letters, of)))) if letters != "SU" => {
                format!("this is the seed of {of}, and a login takes that of a user, SU…; {fresh}")
            }
            (CredentialsError::Missing(_), Some(_)) => {
                format!("it is a seed alone: --nkey {}", redact::control(&path.display().to_string()))
            }
            (CredentialsError::Missing(_) | CredentialsError::Read(_), None)
            | (CredentialsError::Read(_), _) => {
                return None;
            }
        };
        let complaint = Complaint::new(what, help);
        let (line, shown) =
            found.map_or((1, "…".to_owned()), |(n, (letters, _))| (n, format!("{letters}…")));
        Some(Mistake::in_file(complaint, path, (line, 0), shown, 2))
    }

    /// What to do when they are refused.
    pub(super) fn help(&self) -> String {
        match self {
            Self::None => {
                "say who you are: --creds FILE, --nkey FILE, --user NAME --password PASSWORD, or --context NAME"
                    .to_owned()
            }
            Self::User(..) => {
                "check --user and --password (NATS_USER, NATS_PASSWORD) against the `users` of the server's accounts"
                    .to_owned()
            }
            Self::Token(_) => {
                "check --token; a --user without --password is taken as a token, as the `nats` CLI does".to_owned()
            }
            Self::Nkey(path) => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                if jwt(&text).is_some() {
                    return format!("this is a creds file: --creds {}", path.display());
                }
                let key = key_pair(&text).map(|key| key.public_key()).unwrap_or_default();
                format!("no account of the server has this user: {{ nkey: {key} }}")
            }
            Self::Creds(path) => {
                let claims = std::fs::read_to_string(path).ok().and_then(|text| claims(jwt(&text)?));
                claims.unwrap_or_default().help(Clock::start().now())
            }
        }
    }
}

/// What a user JWT says of itself. Nothing here is believed: it only makes an error message better.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Claims {
    name: String,
    exp: i64,
}

impl Claims {
    fn help(&self, now: Time) -> String {
        let fresh = "`nsc generate creds --account SYS --name USER > FILE` writes a fresh file";
        let who = redact::control(&self.name);
        match u64::try_from(self.exp).map(|s| Time::from_millis(s.saturating_mul(1000))) {
            Ok(at) if self.exp > 0 && at <= now => format!(
                "its user JWT, of `{who}`, expired at {}: `nsc edit user --account SYS --name USER --expiry 1y`, then {fresh}",
                at.to_the_second()
            ),
            _ => format!("the user may have been revoked, or belong to another operator; {fresh}"),
        }
    }
}

fn claims(jwt: &str) -> Option<Claims> {
    let body = jwt.split('.').nth(1)?;
    let body = data_encoding::BASE64URL_NOPAD.decode(body.trim_end_matches('=').as_bytes()).ok()?;
    serde_json::from_slice(&body).ok()
}

/// The JWT of a creds file: the line between the first pair of `-----` lines.
fn jwt(text: &str) -> Option<&str> {
    let mut lines = text.lines().map(str::trim).skip_while(|l| !(l.starts_with("---") && l.contains("JWT")));
    lines.next()?;
    lines.find(|l| !l.is_empty()).filter(|l| !l.starts_with("---"))
}

/// The user seed in a creds or seed file: the line that begins as user seeds do.
fn key_pair(text: &str) -> Result<KeyPair, CredentialsError> {
    let seed = text
        .lines()
        .map(str::trim)
        .find(|l| l.starts_with("SU"))
        .ok_or(CredentialsError::Missing("user nkey seed (a line that begins with SU)"))?;
    KeyPair::from_seed(seed).map_err(CredentialsError::Seed)
}

#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(data: &[u8]) -> Vec<(&'static str, String)> {
    let Ok(text) = std::str::from_utf8(data) else { return Vec::new() };
    let said = key_pair(text).err().map(|e| e.to_string());
    let claims =
        jwt(text).or(text.lines().next()).and_then(claims).map(|claims| claims.help(Time::default()));
    said.into_iter().chain(claims).map(|text| ("credentials", text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, make: fn(PathBuf) -> Credentials) -> Result<Auth, CredentialsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        make(file.path().to_owned()).read(b"nonce")
    }

    #[test]
    fn a_creds_file_gives_its_jwt_and_signs_with_its_seed() {
        let key = KeyPair::new_user();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.sig\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\n\
             -----BEGIN USER NKEY SEED-----\r\n{}\r\n------END USER NKEY SEED------\n",
            key.seed().unwrap()
        );
        let auth = with_file(&text, Credentials::Creds).unwrap();
        assert_eq!(auth.jwt.as_deref(), Some("eyJ0.eyJq.sig"));
        key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        assert_eq!(auth.nkey, None);
    }

    #[test]
    fn a_seed_file_gives_its_public_key() {
        let key = KeyPair::new_user();
        let auth = with_file(&format!("{}\n", key.seed().unwrap()), Credentials::Nkey).unwrap();
        assert_eq!(auth.nkey, Some(key.public_key()));
        key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
    }

    #[test]
    fn a_jwt_that_expired_is_told_from_one_that_did_not() {
        let now = Time::parse("2026-01-01T00:00:00Z").unwrap();
        let help = |body: &str| {
            let jwt = format!("e.{}.s", data_encoding::BASE64URL_NOPAD.encode(body.as_bytes()));
            claims(&jwt).unwrap_or_default().help(now)
        };
        assert!(help(r#"{"name":"w","exp":1735689600}"#).contains("of `w`, expired at 2025-01-01 00:00:00Z"));
        for body in [r#"{"name":"w","exp":1835689600}"#, r#"{"name":"w"}"#, r#"{"exp":-5}"#, "no JSON", ""] {
            assert!(help(body).starts_with("the user may have been revoked"), "{body}");
        }
        assert!(claims("no jwt").is_none());
    }

    #[test]
    fn a_broken_file_is_named_by_what_it_lacks_and_never_quoted() {
        let cases = [
            ("", "it holds no user nkey seed (a line that begins with SU)"),
            ("SUNOTASEED", "its nkey seed is not valid"),
        ];
        for (text, message) in cases {
            let e = with_file(text, Credentials::Nkey).err().unwrap();
            assert_eq!(e.to_string(), message);
            assert!(!format!("{e:?}").contains("NOTASEED"), "{e:?}");
        }
        let seed = KeyPair::new_user().seed().unwrap();
        let e = with_file(&seed, Credentials::Creds).err().unwrap();
        assert_eq!(e.to_string(), "it holds no user JWT");
    }
}
