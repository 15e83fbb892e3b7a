//! A snapshot as a file: what `gatewatch sweep` writes and `gatewatch judge` reads.
//!
//! One JSON object, `{"type": …, "gatewatch": …, "snapshot": …}`: the format with its version, who wrote it,
//! and the [`Snapshot`]. Within one version of the format, fields of the snapshot are only ever added, each
//! with a default.

use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::value::RawValue;
use thiserror::Error;

use super::{Link, Snapshot};

/// What stands under `type`.
const TYPE: &str = "io.nats.gatewatch.snapshot.v1";
/// What every version of it begins with.
const TYPE_FAMILY: &str = "io.nats.gatewatch.snapshot.";
/// The largest file, in bytes: a thousand servers in forty clusters take a tenth of it.
pub const FILE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How much of a word of a foreign file is said again, in characters.
const WORD_MAX: usize = 64;

/// One look at a supercluster: what `gatewatch sweep` writes and `gatewatch judge` reads.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Written<'a> {
    /// The format, with its version.
    #[cfg_attr(test, schemars(extend("const" = TYPE)))]
    r#type: &'static str,
    /// The version of gatewatch that wrote it.
    gatewatch: &'static str,
    /// What was seen.
    snapshot: &'a Snapshot,
}

#[derive(Deserialize)]
struct Head<'a> {
    r#type: Option<String>,
    gatewatch: Option<String>,
    #[serde(borrow)]
    snapshot: Option<&'a RawValue>,
}

/// Why there is no snapshot in a file, or none can be put there.
#[derive(Debug, Error)]
pub enum FileError {
    /// It was cut off, or is no text of this kind at all.
    #[error("not whole JSON")]
    Json(#[source] serde_json::Error),
    /// Something else.
    #[error("no snapshot that `gatewatch sweep` wrote: its type is {0}")]
    Foreign(String),
    /// A snapshot in another version of the format.
    #[error("written as {found} by gatewatch {by}, and this is {}, which reads {TYPE}", env!("CARGO_PKG_VERSION"))]
    Version {
        /// The format.
        found: String,
        /// The program's version.
        by: String,
    },
    /// A part of the snapshot is not as it was written.
    #[error("damaged, or not as gatewatch {} has it; it says that gatewatch {by} wrote it", env!("CARGO_PKG_VERSION"))]
    Damaged {
        /// The program's version.
        by: String,
        /// What is wrong, and where in the snapshot.
        source: serde_json::Error,
    },
    /// More than [`FILE_BYTES_MAX`].
    #[error("larger than {} MiB", FILE_BYTES_MAX >> 20)]
    TooLarge,
}

impl Snapshot {
    /// The text of the file, one line.
    ///
    /// # Errors
    /// It would be too large to be read again.
    pub fn to_file(&self) -> Result<String, FileError> {
        let written = Written { r#type: TYPE, gatewatch: env!("CARGO_PKG_VERSION"), snapshot: self };
        let mut text = serde_json::to_string(&written).map_err(FileError::Json)?;
        text.push('\n');
        if text.len() > FILE_BYTES_MAX { Err(FileError::TooLarge) } else { Ok(text) }
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// It is none.
    pub fn from_file(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(FileError::TooLarge);
        }
        let head: Head<'_> = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
            Category::Data => FileError::Foreign("not said".to_owned()),
            _ => FileError::Json(error),
        })?;
        let by = word(head.gatewatch.as_deref().unwrap_or("of an unknown version"));
        match head.r#type.as_deref() {
            Some(TYPE) => {}
            Some(found) if found.starts_with(TYPE_FAMILY) => {
                return Err(FileError::Version { found: word(found), by });
            }
            Some(found) => return Err(FileError::Foreign(format!("`{}`", word(found)))),
            None => return Err(FileError::Foreign("not said".to_owned())),
        }
        let snapshot = head.snapshot.map_or("null", RawValue::get);
        let mut snapshot: Self =
            serde_json::from_str(snapshot).map_err(|source| FileError::Damaged { by, source })?;
        snapshot.links.sort_by(Link::order);
        Ok(snapshot)
    }
}

fn word(text: &str) -> String {
    text.chars().take(WORD_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::example::World;

    #[test]
    fn what_is_written_is_read_again() {
        let world = World::seen_from("eu-0");
        let text = world.view().to_file().unwrap();
        let head = r#"{"type":"io.nats.gatewatch.snapshot.v1","gatewatch":""#;
        assert!(text.starts_with(head), "who reads the files by other means relies on it: {text:.80}");
        assert_eq!(text.lines().count(), 1);
        assert_eq!(&Snapshot::from_file(text.as_bytes()).unwrap(), world.view());
    }

    #[test]
    fn what_is_no_snapshot_is_refused_with_the_reason() {
        let text = World::seen_from("eu-0").view().to_file().unwrap();
        let with_type = |kind: &str| text.replacen("io.nats.gatewatch.snapshot.v1", kind, 1);
        let cases: &[(&str, &str)] = &[
            ("", "not whole JSON"),
            ("\0\0\0\0", "not whole JSON"),
            ("type: snapshot", "not whole JSON"),
            (text.split_at(text.len() / 2).0, "not whole JSON"),
            (&format!("{text}{text}"), "not whole JSON"),
            (&"[".repeat(10_000), "its type is not said"),
            ("5", "its type is not said"),
            ("[]", "its type is not said"),
            (&format!("{{\"snapshot\":{}", "[".repeat(10_000)), "not whole JSON"),
            ("{}", "its type is not said"),
            (r#"{"type":5}"#, "its type is not said"),
            (
                r#"{"type":"io.nats.gatewatch.advisory.v1.finding","summary":"s"}"#,
                "its type is `io.nats.gatewatch.advisory.v1.finding`",
            ),
            (
                &with_type("io.nats.gatewatch.snapshot.v2"),
                "written as io.nats.gatewatch.snapshot.v2 by gatewatch 0",
            ),
            (
                r#"{"type":"io.nats.gatewatch.snapshot.v1"}"#,
                "says that gatewatch of an unknown version wrote it",
            ),
            (&text.replacen("\"epoch\":", "\"epoch\":-", 1), "damaged"),
            (&text.replacen("\"links\"", "\"lynx\"", 1), "damaged"),
        ];
        for (bytes, wanted) in cases {
            let error = Snapshot::from_file(bytes.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{bytes:.60} is refused with {error:?}, and not {wanted:?}");
        }
        assert!(matches!(Snapshot::from_file(&[0xff, 0xfe, 0x00]), Err(FileError::Json(_))));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let refused = |bytes: usize| Snapshot::from_file(&vec![0; bytes]).unwrap_err();
        assert!(matches!(refused(FILE_BYTES_MAX + 1), FileError::TooLarge));
        assert!(matches!(refused(FILE_BYTES_MAX), FileError::Json(_)));
    }
}
