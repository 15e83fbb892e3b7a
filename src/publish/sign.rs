//! Proof of origin: who holds the seed said exactly this, on this subject.
//!
//! What is signed are the bytes of `SUBJECT "\n" MSG-ID "\n" PAYLOAD`: the subject that the message was published on,
//! the value of its header `Nats-Msg-Id` or nothing where it has none, and its body as it is. Neither of the first two
//! can hold a line break, so no two messages give the same bytes. The ed25519 signature stands in the header
//! `Gatewatch-Signature`, in base64url without padding, and the public key, as nkeys write it, in `Gatewatch-Key`.
//! The key in the message proves nothing by itself: who verifies brings the keys that it trusts.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use thiserror::Error;

use super::Message;

/// The header with the public key.
pub const KEY: &str = "Gatewatch-Key";
/// The header with the signature.
pub const SIGNATURE: &str = "Gatewatch-Signature";
/// The header that is signed with subject and body.
pub const MSG_ID: &str = "Nats-Msg-Id";
/// A seed file holds little more than a seed.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Signs messages. Its `Debug` shows the public key only.
pub struct Signer {
    key: KeyPair,
    public: String,
}

/// Why there is nothing to sign with. No text of it holds a seed.
#[derive(Debug, Error)]
pub enum SignError {
    /// The seed file cannot be read.
    #[error("cannot read the seed file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others than its owner and its group may read it.
    #[error("the seed file {} can be read or written by everyone: its mode is {mode:03o}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What stands in it is no seed to sign with.
    #[error("the seed file {} {why}", path.display())]
    Seed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

impl SignError {
    /// What to do about it.
    pub const fn help(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => None,
            Self::Exposed { .. } => Some("chmod 600, and make a new seed: this one may be known"),
            Self::Seed { .. } => Some("`nsc generate nkey --user` and `nk -gen user` make one"),
        }
    }
}

impl Signer {
    /// Signs with the seed in the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, everyone can read it, or it holds no seed of a key that signs.
    pub fn load(path: &Path) -> Result<Self, SignError> {
        let read = |source| SignError::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o006 != 0 {
            return Err(SignError::Exposed { path: path.to_owned(), mode });
        }
        let bad = |why| SignError::Seed { path: path.to_owned(), why };
        let mut text = String::new();
        match io::Read::read_to_string(&mut io::Read::take(file, FILE_BYTES_MAX), &mut text) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(bad("is no text")),
            Err(e) => return Err(read(e)),
        }
        // A seed stands alone, or between the lines of a creds file.
        let looks = |line: &&str| line.len() > 2 && line.starts_with('S') && line.bytes().all(seed_byte);
        let seed = text.lines().map(str::trim).find(looks);
        let seed = seed.ok_or_else(|| bad("holds no nkey seed: a line that begins with S"))?;
        let key = KeyPair::from_seed(seed).map_err(|_| bad("holds an nkey seed that is not valid"))?;
        Self::new(key)
            .ok_or_else(|| bad("holds the seed of a curve key (SX), which encrypts and does not sign"))
    }

    /// Signs with `key`; none where it is one that does not sign, or has no seed.
    pub fn new(key: KeyPair) -> Option<Self> {
        if key.key_pair_type() == KeyPairType::Curve || key.seed().is_err() {
            return None;
        }
        Some(Self { public: key.public_key(), key })
    }

    /// The public key, by which others verify.
    pub fn public_key(&self) -> &str {
        &self.public
    }

    /// Adds key and signature to the headers of `message`.
    pub fn sign(&self, message: &mut Message) {
        let id = message.headers.iter().find(|(name, _)| name == MSG_ID).map_or("", |(_, id)| id);
        let bytes = signed_bytes(&message.subject, id, message.payload.as_bytes());
        // It fails for a key without a seed, and there is none here. An unsigned message is refused by who wants
        // proof, and is better than none.
        if let Ok(signature) = self.key.sign(&bytes) {
            message.headers.push((KEY.to_owned(), self.public.clone()));
            message.headers.push((SIGNATURE.to_owned(), BASE64URL_NOPAD.encode(&signature)));
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

const fn seed_byte(b: u8) -> bool {
    b.is_ascii_uppercase() || matches!(b, b'2'..=b'7')
}

/// The bytes that are signed.
pub fn signed_bytes(subject: &str, id: &str, payload: &[u8]) -> Vec<u8> {
    [subject.as_bytes(), b"\n", id.as_bytes(), b"\n", payload].concat()
}

/// Public keys that are trusted.
#[derive(Default)]
pub struct Verifier {
    keys: BTreeMap<String, KeyPair>,
}

/// Why a message proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unproven {
    /// It has no signature.
    #[error("it is not signed")]
    Unsigned,
    /// It is signed by somebody else.
    #[error("it is signed by another key than those given")]
    Stranger,
    /// The signature is not one of this message.
    #[error("its signature does not fit")]
    Forged,
}

impl Verifier {
    /// Trusts `key` too.
    ///
    /// # Errors
    /// It is no public key, or one that does not sign; the text says which, and never holds a seed.
    pub fn trust(&mut self, key: &str) -> Result<(), String> {
        let key = key.trim();
        if key.len() == 58 && key.starts_with('S') {
            return Err("that is a seed: keep it secret, and give the public key instead".to_owned());
        }
        let pair = KeyPair::from_public_key(key);
        let pair = pair.map_err(|_| "that is no public nkey, such as U and 55 more characters".to_owned())?;
        if pair.key_pair_type() == KeyPairType::Curve {
            return Err("that is a curve key (X), which encrypts and does not sign".to_owned());
        }
        self.keys.insert(key.to_owned(), pair);
        Ok(())
    }

    /// Whether no key is trusted: then nobody asked for proof.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a trusted key signed this.
    ///
    /// # Errors
    /// Why not.
    pub fn verify<'a>(
        &self,
        subject: &str,
        header: impl Fn(&str) -> Option<&'a str>,
        payload: &[u8],
    ) -> Result<(), Unproven> {
        let (Some(key), Some(signature)) = (header(KEY), header(SIGNATURE)) else {
            return Err(Unproven::Unsigned);
        };
        let key = self.keys.get(key).ok_or(Unproven::Stranger)?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| Unproven::Forged)?;
        let bytes = signed_bytes(subject, header(MSG_ID).unwrap_or_default(), payload);
        key.verify(&bytes, &signature).map_err(|_| Unproven::Forged)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    type Change = fn(&mut Message);

    fn message() -> Message {
        Message {
            subject: "gatewatch.finding.critical.c.eu.eu-1.us".into(),
            headers: vec![(MSG_ID.into(), "f:1:1".into()), ("Gatewatch-Action".into(), "opened".into())],
            payload: r#"{"a":1}"#.into(),
        }
    }

    fn verify(verifier: &Verifier, m: &Message) -> Result<(), Unproven> {
        let header = |name: &str| m.headers.iter().find(|(n, _)| n == name).map(|(_, v)| &**v);
        verifier.verify(&m.subject, header, m.payload.as_bytes())
    }

    fn trusting(keys: &[&str]) -> Verifier {
        let mut verifier = Verifier::default();
        for key in keys {
            verifier.trust(key).unwrap();
        }
        verifier
    }

    #[test]
    fn what_is_signed_is_verified_by_the_bytes_that_are_documented() {
        let pair = KeyPair::new_user();
        let signer = Signer::new(pair.clone()).unwrap();
        let mut m = message();
        signer.sign(&mut m);
        assert_eq!(m.headers[2], (KEY.to_owned(), pair.public_key()));
        let signature = BASE64URL_NOPAD.decode(m.headers[3].1.as_bytes()).unwrap();
        pair.verify(b"gatewatch.finding.critical.c.eu.eu-1.us\nf:1:1\n{\"a\":1}", &signature).unwrap();
        verify(&trusting(&[&pair.public_key()]), &m).unwrap();
        // A message without an ID.
        let mut m = Message { headers: Vec::new(), ..message() };
        signer.sign(&mut m);
        let signature = BASE64URL_NOPAD.decode(m.headers[1].1.as_bytes()).unwrap();
        pair.verify(b"gatewatch.finding.critical.c.eu.eu-1.us\n\n{\"a\":1}", &signature).unwrap();
    }

    #[test]
    fn what_was_changed_on_the_way_proves_nothing() {
        let (ours, theirs) = (KeyPair::new_user(), KeyPair::new_account());
        let mut m = message();
        Signer::new(ours.clone()).unwrap().sign(&mut m);
        let verifier = trusting(&[&theirs.public_key(), &ours.public_key()]);
        verify(&verifier, &m).unwrap();
        let cases: [(Change, Unproven); 7] = [
            (|m| m.subject.push('x'), Unproven::Forged),
            (|m| m.payload.push(' '), Unproven::Forged),
            (|m| m.headers[0].1.push('1'), Unproven::Forged),
            (|m| drop(m.headers.remove(0)), Unproven::Forged),
            (|m| m.headers[3].1.push('='), Unproven::Forged),
            (|m| drop(m.headers.remove(3)), Unproven::Unsigned),
            (|m| m.headers[2].1 = KeyPair::new_user().public_key(), Unproven::Stranger),
        ];
        for (change, why) in cases {
            let mut changed = m.clone();
            change(&mut changed);
            assert_eq!(verify(&verifier, &changed), Err(why), "{changed:?}");
        }
        assert_eq!(verify(&trusting(&[&theirs.public_key()]), &m), Err(Unproven::Stranger));
        m.headers[2].1 = theirs.public_key();
        assert_eq!(verify(&verifier, &m), Err(Unproven::Forged), "the key of another who is trusted too");
    }

    #[test]
    fn only_public_keys_that_sign_are_trusted() {
        let user = KeyPair::new_user();
        let mut verifier = Verifier::default();
        let seed = user.seed().unwrap();
        let told = verifier.trust(&seed).unwrap_err();
        assert!(told.starts_with("that is a seed") && !told.contains(&seed), "{told}");
        let curve = KeyPair::new(KeyPairType::Curve).public_key();
        assert!(verifier.trust(&curve).unwrap_err().starts_with("that is a curve key"));
        for bad in ["", "U", "UNOTAKEY"] {
            assert!(verifier.trust(bad).unwrap_err().starts_with("that is no public nkey"));
        }
        assert!(verifier.is_empty());
        verifier.trust(&user.public_key()).unwrap();
        assert!(!verifier.is_empty());
    }

    #[test]
    fn a_seed_file_that_cannot_be_used_is_told_of_and_never_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.nk");
        let told = |error: SignError| {
            let mut text = format!("{error} {error:?} {}", error.help().unwrap_or_default());
            if let Some(source) = std::error::Error::source(&error) {
                text.push_str(&source.to_string());
            }
            text
        };
        let absent = Signer::load(&path).unwrap_err();
        assert!(absent.to_string().starts_with("cannot read the seed file "), "{absent}");
        let seed = KeyPair::new_user().seed().unwrap();
        let curve = KeyPair::new(KeyPairType::Curve).seed().unwrap();
        let broken = format!("{}A", seed.split_at(57).0);
        let broken = if broken == seed { format!("{}B", seed.split_at(57).0) } else { broken };
        let public = KeyPair::new_user().public_key();
        let cases: [(&[u8], u32, &str); 7] = [
            (b"", 0o600, "holds no nkey seed"),
            (public.as_bytes(), 0o600, "holds no nkey seed"),
            (b"\xff\xfe", 0o600, "is no text"),
            (broken.as_bytes(), 0o600, "holds an nkey seed that is not valid"),
            (curve.as_bytes(), 0o600, "holds the seed of a curve key"),
            (seed.as_bytes(), 0o644, "can be read or written by everyone: its mode is 644"),
            (seed.as_bytes(), 0o602, "can be read or written by everyone: its mode is 602"),
        ];
        for (text, mode, why) in cases {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = told(Signer::load(&path).unwrap_err());
            assert!(error.contains(why), "{error}");
            for secret in [&seed, &curve, &broken] {
                assert!(!error.contains(&**secret), "{error}");
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        for (text, mode) in [
            (format!("{seed}\n"), 0o600),
            (format!("-----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\n"), 0o440),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let signer = Signer::load(&path).unwrap();
            assert!(signer.public_key().starts_with('U'));
            assert!(!format!("{signer:?}").contains(&seed), "{signer:?}");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}
