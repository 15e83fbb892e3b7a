//! Credentials of a demo supercluster: an operator, its accounts `SYS` and `APP`, their users.
//!
//! Written in the form that `nsc` writes and nats-server reads: JWT version 2, signed with nkeys.
//! They protect nothing but a demo; a real supercluster's come from `nsc`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest, Sha512_256};

use crate::connect::Operation;
use crate::connect::permissions::{self, Export};

/// The system account's name.
pub const SYSTEM_ACCOUNT: &str = "SYS";
/// The application account's name.
pub const APP_ACCOUNT: &str = "APP";
/// What the user `gatewatch` may do: what `gatewatch permissions` prints.
pub(super) fn agent_may(operation: Operation) -> Vec<String> {
    permissions::needed("gatewatch", permissions::INBOX_PREFIX)
        .into_iter()
        .filter(|p| p.operation == operation)
        .map(|p| p.subject)
        .collect()
}

/// What `SYS` lets other accounts hear and ask, and `APP` does.
pub(super) fn shared() -> Vec<Export> {
    permissions::exports("gatewatch")
}

/// Why credentials could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CredsError {
    /// A file or directory could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Some files are there and some are not; writing the rest would not fit the old ones.
    #[error("{} is there but {} is missing; to write all of them anew use --force", found.display(), missing.display())]
    Incomplete {
        /// A file that is there.
        found: PathBuf,
        /// A file that is not.
        missing: PathBuf,
    },
    /// A key refused to sign.
    #[error("cannot sign with an nkey: {0}")]
    Key(nkeys::error::Error),
}

/// Where the credentials of a supercluster are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Creds {
    dir: PathBuf,
}

impl Creds {
    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the servers include: operator, system account, resolver.
    pub fn auth_conf(&self) -> PathBuf {
        self.dir.join("auth.conf")
    }

    /// The creds file of a user: `sys`, `gatewatch` or `app`.
    pub fn user(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.creds"))
    }
}

/// Makes the credentials in `dir`, or finds them there: files that exist are only replaced with `force`.
/// Says whether they were written.
pub fn ensure(dir: &Path, force: bool) -> Result<(Creds, bool), CredsError> {
    let creds = Creds { dir: dir.to_owned() };
    if !force {
        let (found, missing): (Vec<_>, Vec<_>) =
            FILES.iter().map(|name| dir.join(name)).partition(|path| path.exists());
        match (found.into_iter().next(), missing.into_iter().next()) {
            (Some(_), None) => return Ok((creds, false)),
            (Some(found), Some(missing)) => return Err(CredsError::Incomplete { found, missing }),
            (None, _) => {}
        }
    }
    fs::create_dir_all(dir).map_err(|source| CredsError::Write { path: dir.to_owned(), source })?;
    for (name, secret, text) in generate()? {
        let path = dir.join(name);
        write(&path, if secret { 0o600 } else { 0o644 }, &text)
            .map_err(|source| CredsError::Write { path, source })?;
    }
    Ok((creds, true))
}

const FILES: &[&str] = &[
    "operator.jwt",
    "operator.nk",
    "SYS.jwt",
    "SYS.nk",
    "APP.jwt",
    "APP.nk",
    "sys.creds",
    "gatewatch.creds",
    "app.creds",
    "auth.conf",
];

/// Each file's name, whether it is secret, and its text.
fn generate() -> Result<Vec<(&'static str, bool, String)>, CredsError> {
    let (operator, system, app) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let operator_jwt = jwt(
        &operator,
        &operator,
        "gatewatch-lab",
        &json!({ "system_account": system.public_key(), "type": "operator", "version": 2 }),
    )?;
    let system_jwt = jwt(&operator, &system, SYSTEM_ACCOUNT, &system_claims())?;
    let app_jwt = jwt(&operator, &app, APP_ACCOUNT, &app_claims(&system.public_key()))?;
    let auth = format!(
        "# Written by `gatewatch lab creds`.\n\n\
         operator: {operator_jwt}\n\n\
         system_account: {system_key}\n\n\
         resolver: MEMORY\n\
         resolver_preload: {{\n  # {SYSTEM_ACCOUNT}\n  {system_key}: {system_jwt}\n  # {APP_ACCOUNT}\n  {app_key}: {app_jwt}\n}}\n",
        system_key = system.public_key(),
        app_key = app.public_key(),
    );
    Ok(vec![
        ("operator.nk", true, seed(&operator)?),
        ("SYS.nk", true, seed(&system)?),
        ("APP.nk", true, seed(&app)?),
        ("operator.jwt", false, operator_jwt),
        ("SYS.jwt", false, system_jwt),
        ("APP.jwt", false, app_jwt),
        ("sys.creds", true, user(&system, "sys", &user_claims())?),
        ("gatewatch.creds", true, user(&system, "gatewatch", &agent_claims())?),
        ("app.creds", true, user(&app, "app", &user_claims())?),
        ("auth.conf", false, auth),
    ])
}

fn account_claims(jetstream: &Value) -> Value {
    let mut limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    if let (Some(limits), Some(jetstream)) = (limits.as_object_mut(), jetstream.as_object()) {
        limits.extend(jetstream.clone());
    }
    json!({
        "limits": limits, "default_permissions": { "pub": {}, "sub": {} }, "authorization": {},
        "type": "account", "version": 2,
    })
}

/// Findings go out and questions come in, for any account that imports them.
fn system_claims() -> Value {
    let mut claims = account_claims(&json!({}));
    if let Some(claims) = claims.as_object_mut() {
        let export = |Export { service, subject }: Export| {
            if service {
                json!({ "name": subject, "subject": subject, "type": "service", "response_type": "Stream" })
            } else {
                json!({ "name": subject, "subject": subject, "type": "stream" })
            }
        };
        let exports: Vec<Value> = shared().into_iter().map(export).collect();
        claims.insert("exports".to_owned(), Value::Array(exports));
    }
    claims
}

fn app_claims(system: &str) -> Value {
    let mut claims = account_claims(&json!({
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    }));
    if let Some(claims) = claims.as_object_mut() {
        let import = |Export { service, subject }: Export| {
            let kind = if service { "service" } else { "stream" };
            json!({ "name": subject, "subject": subject, "account": system, "type": kind })
        };
        let imports: Vec<Value> = shared().into_iter().map(import).collect();
        claims.insert("imports".to_owned(), Value::Array(imports));
    }
    claims
}

fn user_claims() -> Value {
    json!({ "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2 })
}

fn agent_claims() -> Value {
    let (max, expires) = permissions::RESPONSES;
    let ttl = humantime::parse_duration(expires).unwrap_or_default();
    json!({
        "pub": { "allow": agent_may(Operation::Publish) },
        "sub": { "allow": agent_may(Operation::Subscribe) },
        "resp": { "max": max, "ttl": u64::try_from(ttl.as_nanos()).unwrap_or_default() },
        "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2,
    })
}

fn user(account: &KeyPair, name: &str, claims: &Value) -> Result<String, CredsError> {
    let key = KeyPair::new_user();
    creds_file(&jwt(account, &key, name, claims)?, &key)
}

/// A creds file: the user's JWT and seed.
pub fn creds_file(jwt: &str, key: &KeyPair) -> Result<String, CredsError> {
    Ok(format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         NKEY Seed printed below can be used to sign and prove identity.\n\
         NKEYs are sensitive and should be treated as secrets.\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n\n\
         *************************************************************\n",
        key.seed().map_err(CredsError::Key)?,
    ))
}

fn seed(key: &KeyPair) -> Result<String, CredsError> {
    Ok(format!("{}\n", key.seed().map_err(CredsError::Key)?))
}

fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: &Value) -> Result<String, CredsError> {
    sign(issuer, &subject.public_key(), name, nats, None)
}

/// A JWT for the key `subject`, signed by `issuer`; it ends so long from now. Its `jti` is the hash of its claims
/// without one.
pub fn sign(
    issuer: &KeyPair,
    subject: &str,
    name: &str,
    nats: &Value,
    ends_in: Option<Duration>,
) -> Result<String, CredsError> {
    let now = super::seconds_since_epoch();
    let mut claims = json!({
        "jti": "",
        "iat": now,
        "iss": issuer.public_key(),
        "name": name,
        "sub": subject,
        "nats": nats,
    });
    if let (Some(ends_in), Some(claims)) = (ends_in, claims.as_object_mut()) {
        claims.insert("exp".to_owned(), json!(now + ends_in.as_secs()));
    }
    let id = BASE32_NOPAD.encode(&Sha512_256::digest(claims.to_string()));
    if let Some(claims) = claims.as_object_mut() {
        claims.insert("jti".to_owned(), Value::String(id));
    }
    let body = format!(
        "{}.{}",
        BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#),
        BASE64URL_NOPAD.encode(claims.to_string().as_bytes()),
    );
    let signature = issuer.sign(body.as_bytes()).map_err(CredsError::Key)?;
    Ok(format!("{body}.{}", BASE64URL_NOPAD.encode(&signature)))
}

/// Whole or not at all, and never readable by others for a moment.
fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    drop(fs::remove_file(&part));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secrets_are_for_the_owner_only_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (creds, written) = ensure(dir.path(), false).unwrap();
        assert!(written);
        for name in FILES {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
            let secret = [".nk", ".creds"].iter().any(|end| name.strip_suffix(end).is_some());
            assert_eq!(mode, if secret { 0o600 } else { 0o644 }, "{name}");
        }
        let before = fs::read_to_string(creds.user("sys")).unwrap();
        assert!(!ensure(dir.path(), false).unwrap().1);
        assert_eq!(fs::read_to_string(creds.user("sys")).unwrap(), before);
        assert!(ensure(dir.path(), true).unwrap().1);
        assert_ne!(fs::read_to_string(creds.user("sys")).unwrap(), before);
    }

    #[test]
    fn a_half_present_set_is_refused_rather_than_mixed() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), false).unwrap();
        fs::remove_file(dir.path().join("APP.jwt")).unwrap();
        let error = ensure(dir.path(), false).unwrap_err().to_string();
        assert!(error.contains("APP.jwt is missing"), "{error}");
    }

    #[test]
    fn a_jwt_is_signed_by_its_issuer() {
        let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
        let jwt = jwt(&operator, &account, "A", &account_claims(&json!({}))).unwrap();
        let (body, signature) = jwt.rsplit_once('.').unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        KeyPair::from_public_key(&operator.public_key())
            .unwrap()
            .verify(body.as_bytes(), &signature)
            .unwrap();
        let claims = BASE64URL_NOPAD.decode(body.split_once('.').unwrap().1.as_bytes()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["iss"], operator.public_key());
        assert_eq!(claims["sub"], account.public_key());
        assert_eq!(claims["nats"]["version"], 2);
    }
}
