//! Who we are. Files are read anew at each connect, so that credentials can be rotated under a running agent.

use std::io;
use std::path::{Path, PathBuf};

use async_nats::Auth;
use nkeys::KeyPair;

use crate::config::Connect;

/// The one way in which a connection logs in.
pub(super) enum Credentials {
    None,
    Creds(PathBuf),
    Nkey(PathBuf),
    User(String, String),
    Token(String),
}

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
            Self::User(user, _) => format!("user `{}`", crate::config::redact::control(user)),
            Self::Token(_) => "a token".to_owned(),
            Self::Nkey(path) => file("the nkey of", path),
            Self::Creds(path) => file("the creds file", path),
        }
    }

    /// What to do when they are refused.
    pub(super) const fn help(&self) -> &'static str {
        match self {
            Self::None => {
                "say who you are: --creds FILE, --nkey FILE, --user NAME --password PASSWORD, or --context NAME"
            }
            Self::User(..) => {
                "check --user and --password (NATS_USER, NATS_PASSWORD) against the server's accounts"
            }
            Self::Token(_) => {
                "check --token; a --user without --password is taken as a token, as the `nats` CLI does"
            }
            Self::Nkey(_) => "the public key of this seed must be a user of the server's accounts",
            Self::Creds(_) => {
                "the user may have expired, been revoked, or belong to another operator; `nsc generate creds` writes a fresh file"
            }
        }
    }
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
