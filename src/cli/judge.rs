//! `gatewatch judge FILE…`: runs the checks on what `gatewatch sweep` wrote.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::answer::{Answer, Demand, Format, Look, Status};
use super::{EXIT_USAGE, Failure, load_checks, output};
use crate::config::redact;
use crate::model::{FILE_BYTES_MAX, FileError, Snapshot};

// These comments are the text of `--help`, no Markdown.
#[allow(clippy::doc_markdown)]
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `gatewatch sweep` wrote; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Each finding as the agent publishes it, one line each
    #[arg(long)]
    json: bool,
    /// The configuration file, for the settings of the checks [env: GATEWATCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The answer is the exit code.
pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let settings = load_checks(args.config.as_deref())?;
    let mut worst = Status::Ok;
    for path in &args.files {
        let snapshot = match read_snapshot(path) {
            Ok(snapshot) => snapshot,
            // What cannot be read says nothing, and hides nothing that another file says.
            Err(failure) => {
                failure.print();
                worst = worst.max(Status::Unknown);
                continue;
            }
        };
        let answer = Answer::of(&snapshot, &settings, Demand::default());
        tracing::info!(
            servers = snapshot.servers.len(),
            clusters = snapshot.clusters.len(),
            links = snapshot.links.len(),
            "{}: as seen from {} at {}",
            shown(path),
            redact::control(&snapshot.vantage.server),
            snapshot.at.to_the_second()
        );
        let text = match (args.json, args.files.len() > 1) {
            (true, _) => answer.lines(),
            (false, false) => answer.render(Format::Text, Look::of_stdout()),
            (false, true) => {
                format!("{}:\n{}\n", shown(path), answer.render(Format::Text, Look::of_stdout()))
            }
        };
        match output::print(&text) {
            // The answer stands, whether somebody reads all of it or not.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            printed => printed?,
        }
        worst = worst.max(answer.status);
    }
    Ok(worst.exit())
}

/// What `gatewatch sweep` wrote there.
pub(super) fn read_snapshot(path: &Path) -> Result<Snapshot, Failure> {
    Snapshot::from_file(&read(path)?).map_err(|e| refused(path, &e))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let fail = |e: io::Error| Failure::new(EXIT_USAGE, format!("cannot read {}: {e}", shown(path)), None);
    let mut bytes = Vec::new();
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let file = File::open(path).map_err(fail)?;
        if file.metadata().is_ok_and(|m| m.len() > FILE_BYTES_MAX as u64) {
            return Err(refused(path, &FileError::TooLarge));
        }
        Box::new(file)
    };
    // What has no length, such as a pipe, is read up to the bound and then refused.
    reader.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

fn refused(path: &Path, error: &FileError) -> Failure {
    use std::error::Error as _;
    let cause = error.source().map(|e| format!(": {e}")).unwrap_or_default();
    // It may say words of the file again.
    let message = redact::control(&format!("{error}{cause}")).into_owned();
    let help = Some("`gatewatch sweep --output FILE` writes such a file".to_owned());
    Failure::new(EXIT_USAGE, format!("{}: {message}", shown(path)), help)
}

pub(super) fn shown(path: &Path) -> String {
    redact::control(&path.display().to_string()).into_owned()
}
