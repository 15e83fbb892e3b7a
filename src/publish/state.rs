//! The file in which open findings survive a restart.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Message;
use crate::findings::{Finding, Silence};
use crate::model::Time;

/// What stands in the file. It is written before what it tells of is published, so that an agent that dies in
/// between says the same thing again, under the same `Nats-Msg-Id`, and not another.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The format.
    pub version: u32,
    /// When it was written.
    pub saved_at: Time,
    /// The ledger.
    pub findings: Vec<Finding>,
    /// What was said and not confirmed, oldest first.
    pub unconfirmed: Vec<Message>,
    /// What is not to be said.
    #[serde(default)]
    pub silences: Vec<Silence>,
}

impl State {
    /// The format that is written, and the only one that is read.
    pub const VERSION: u32 = 1;

    /// Reads what [`StateFile::save`] wrote.
    ///
    /// # Errors
    /// Where and what is wrong with it.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let state: Self = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        if state.version != Self::VERSION {
            return Err(format!("its format is {}, and {} is known", state.version, Self::VERSION));
        }
        Ok(state)
    }
}

/// Why the file is of no use.
#[derive(Debug, Error)]
pub enum StateError {
    /// It cannot be read or written.
    #[error("state file {path}: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is not what we write.
    #[error("state file {path} cannot be read: {why}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
}

/// The file.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The file at `path`, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// What an earlier start left; none where there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or is not one of ours.
    pub fn load(&self) -> Result<Option<State>, StateError> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StateError::Io { path: self.path.clone(), error }),
        };
        let damaged = |why| StateError::Damaged { path: self.path.clone(), why };
        State::read(&text).map(Some).map_err(damaged)
    }

    /// Puts a file that cannot be used aside, so that the next write does not lose it.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn set_aside(&self) -> Result<PathBuf, StateError> {
        let aside = self.beside("damaged");
        std::fs::rename(&self.path, &aside)
            .map_err(|error| StateError::Io { path: self.path.clone(), error })?;
        Ok(aside)
    }

    /// Writes the whole state beside the file and renames it into place.
    ///
    /// # Errors
    /// The disk is full, or the folder cannot be written; the file is what it was then.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let part = self.beside("part");
        let write = |path: &Path| -> std::io::Result<()> {
            let mut file = std::fs::File::create(path)?;
            serde_json::to_writer(&mut file, state).map_err(std::io::Error::from)?;
            file.flush()?;
            file.sync_data()?;
            std::fs::rename(path, &self.path)
        };
        write(&part).map_err(|error| StateError::Io { path: self.path.clone(), error })
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(suffix);
        self.path.with_file_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::example::{World, secs};
    use crate::findings::Match;

    fn state() -> State {
        let mut world = World::seen_from("eu-0");
        world.cut("us-1", "eu");
        world.run(secs(5));
        let matches = Match { cluster: Some("us".into()), ..Match::default() };
        let silence = Silence::new("id".into(), matches, secs(60), ["disks", "jo"], world.now).unwrap();
        let unconfirmed = vec![Message {
            subject: "a.b".into(),
            headers: vec![("k".into(), "v".into())],
            payload: "{}".into(),
        }];
        State {
            version: State::VERSION,
            saved_at: world.now,
            findings: world.ledger.open().cloned().collect(),
            unconfirmed,
            silences: vec![silence],
        }
    }

    #[test]
    fn what_is_saved_is_what_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path().join("state.json"));
        assert!(file.load().unwrap().is_none(), "no file is no state, and no error");
        let saved = state();
        file.save(&saved).unwrap();
        let loaded = file.load().unwrap().expect("there is a file now");
        assert_eq!(loaded.findings, saved.findings);
        assert_eq!(loaded.findings.len(), 1);
        assert_eq!(loaded.unconfirmed, saved.unconfirmed);
        assert_eq!(loaded.saved_at, saved.saved_at);
        assert_eq!(loaded.silences, saved.silences);
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["state.json"], "nothing is left beside it");
    }

    #[test]
    fn a_file_from_before_there_were_silences_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut old = serde_json::to_value(state()).unwrap();
        old.as_object_mut().unwrap().remove("silences");
        std::fs::write(&path, old.to_string()).unwrap();
        let loaded = StateFile::new(&path).load().unwrap().expect("there is a file");
        assert_eq!((loaded.findings.len(), loaded.silences.len()), (1, 0));
    }

    #[test]
    fn a_damaged_file_is_told_of_and_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let file = StateFile::new(&path);
        file.save(&state()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&b""[..], b"null", b"{", &whole[..whole.len() / 2], b"\xff"] {
            std::fs::write(&path, damaged).unwrap();
            let told = file.load().unwrap_err().to_string();
            assert!(told.starts_with(&format!("state file {} cannot be read: ", path.display())), "{told}");
            let aside = file.set_aside().unwrap();
            assert_eq!(std::fs::read(&aside).unwrap(), damaged, "it is kept for whoever wants to look");
            assert!(file.load().unwrap().is_none());
        }
        assert!(file.set_aside().is_err(), "there is nothing to set aside");
    }

    #[test]
    fn a_file_of_another_format_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let text = serde_json::to_string(&State { version: 99, ..State::default() }).unwrap();
        std::fs::write(&path, text).unwrap();
        let told = StateFile::new(&path).load().unwrap_err().to_string();
        assert!(told.ends_with("its format is 99, and 1 is known"), "{told}");
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let file = StateFile::new(&path);
        file.save(&state()).unwrap();
        let before = std::fs::read(&path).unwrap();
        // What is written first cannot be created: a folder stands in its place.
        std::fs::create_dir(folder.path().join("state.json.part")).unwrap();
        let told = file.save(&State::default()).unwrap_err().to_string();
        assert!(told.starts_with(&format!("state file {}: ", path.display())), "{told}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let nowhere = StateFile::new(folder.path().join("no/such/folder/state.json"));
        assert!(nowhere.save(&State::default()).is_err());
        assert!(StateFile::new(folder.path()).load().is_err(), "a folder is no state file");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let file = StateFile::new(&path);
        file.save(&state()).unwrap();
        let before = std::fs::read(&path).unwrap();
        // Every write to /dev/full fails as on a full disk.
        std::os::unix::fs::symlink("/dev/full", folder.path().join("state.json.part")).unwrap();
        let told = file.save(&state()).unwrap_err().to_string();
        assert!(told.contains("No space left"), "{told}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
