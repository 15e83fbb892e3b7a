//! The file in which open findings survive a restart.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Message;
use crate::findings::Finding;
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
}

impl State {
    /// The format that is written, and the only one that is read.
    pub const VERSION: u32 = 1;
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
        let damaged = |why: String| StateError::Damaged { path: self.path.clone(), why };
        let state: State = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if state.version != State::VERSION {
            return Err(damaged(format!("its format is {}, and {} is known", state.version, State::VERSION)));
        }
        Ok(Some(state))
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
