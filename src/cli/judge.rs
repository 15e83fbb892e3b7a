//! `gatewatch judge FILE…`: runs the checks on what `gatewatch sweep` wrote.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::watch::readable;
use super::{EXIT_CANNOT_SEE, EXIT_USAGE, Failure, load_checks, output};
use crate::checks::Severity;
use crate::config::redact;
use crate::findings::{self, Action, Change, Reason};
use crate::model::{FILE_BYTES_MAX, FileError, Life, Snapshot};
use crate::publish::event::{self, Sight, Style};

const EXIT_WARNING: u8 = 1;
const EXIT_CRITICAL: u8 = 2;
/// How many servers that did not answer are named.
const NAMED_MAX: usize = 8;

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
    let mut worst = 0;
    for path in &args.files {
        let snapshot = read_snapshot(path)?;
        let mut found = findings::judge(&snapshot, &settings);
        found.sort_by_key(|f| Reverse(f.severity));
        let exit = match found.first().map(|f| f.severity) {
            Some(Severity::Critical) => EXIT_CRITICAL,
            Some(Severity::Warning) => EXIT_WARNING,
            Some(Severity::Info) | None => {
                let unknown = unknown(&snapshot);
                if let Some(why) = &unknown {
                    tracing::warn!("{}: cannot tell whether all is well: {why}", shown(path));
                }
                unknown.map_or(0, |_| EXIT_CANNOT_SEE)
            }
        };
        tracing::info!(
            findings = found.len(),
            servers = snapshot.servers.len(),
            clusters = snapshot.clusters.len(),
            links = snapshot.links.len(),
            "{}: as seen from {} at {}",
            shown(path),
            redact::control(&snapshot.vantage.server),
            snapshot.at.to_the_second()
        );
        let sight = Sight::of(&snapshot);
        let mut text = String::new();
        if args.files.len() > 1 && !args.json && !found.is_empty() {
            text = format!("{}:\n", shown(path));
        }
        for finding in found {
            text += &told(finding, &sight, args.json);
        }
        match output::print(&text) {
            // The answer stands, whether somebody reads all of it or not.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            printed => printed?,
        }
        worst = worse(worst, exit);
    }
    Ok(worst)
}

/// The worse of two exit codes: what could not be told may hide a critical finding, and is none.
fn worse(a: u8, b: u8) -> u8 {
    let rank = |exit: &u8| [0, EXIT_WARNING, EXIT_CANNOT_SEE, EXIT_CRITICAL].iter().position(|e| e == exit);
    if rank(&b) > rank(&a) { b } else { a }
}

/// Why a snapshot without a finding is no proof that there is none.
pub(super) fn unknown(snapshot: &Snapshot) -> Option<String> {
    if !snapshot.settled {
        return Some("it was taken in the first seconds of a connection".to_owned());
    }
    let expected = || snapshot.expected().filter(|s| s.life != Life::Gone);
    let silent: Vec<_> =
        expected().filter(|s| s.gatewayz.is_none()).map(|s| redact::control(&s.info.name)).collect();
    let more = if silent.len() > NAMED_MAX { " and others" } else { "" };
    let named = silent.iter().take(NAMED_MAX).map(|name| &**name).collect::<Vec<_>>().join(", ");
    (!silent.is_empty())
        .then(|| format!("{} of {} servers did not answer: {named}{more}", silent.len(), expected().count()))
}

/// One finding as text or as the line that the agent would publish.
fn told(finding: findings::Finding, sight: &Sight, json: bool) -> String {
    // The same file gives the same bytes every time.
    let id = format!("{}:{}:{}", finding.fingerprint, finding.opened_at.as_millis(), finding.revision);
    let change = Change { action: Action::Opened, reason: Reason::Violated, finding };
    let style = Style { prefix: "gatewatch".to_owned(), ..Style::default() };
    let line = event::finding(&change, sight, &style, &id).payload;
    if json {
        return line + "\n";
    }
    let (colour, width) = (output::colour(&io::stdout()), io::stdout().is_terminal().then(output::width));
    serde_json::from_str::<Value>(&line)
        .ok()
        .and_then(|event| readable(&event, colour, width))
        .unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::example::{World, defaults, secs};

    #[test]
    fn the_worst_exit_code_wins() {
        for (a, b, worst) in [(0, 1, 1), (1, 3, 3), (3, 2, 2), (2, 0, 2), (3, 0, 3), (2, 1, 2)] {
            assert_eq!((worse(a, b), worse(b, a)), (worst, worst), "{a} and {b}");
        }
    }

    #[test]
    fn who_did_not_answer_leaves_it_open_whether_all_is_well() {
        let mut world = World::seen_from("eu-0");
        assert_eq!(unknown(world.view()), None);
        world.delay_replies("us-1");
        world.run(secs(1));
        let why = unknown(world.view());
        assert_eq!(why.as_deref(), Some("1 of 9 servers did not answer: us-1"));
        let mut snapshot = world.view().clone();
        snapshot.settled = false;
        assert!(unknown(&snapshot).is_some_and(|why| why.contains("first seconds")));
    }

    #[test]
    fn a_finding_is_told_for_people_and_for_programs() {
        let mut world = World::seen_from("eu-0");
        world.cut("us-1", "eu");
        world.run(secs(5));
        let found = findings::judge(world.view(), &defaults()).pop().expect("one");
        let sight = Sight::of(world.view());
        let text = told(found.clone(), &sight, false);
        assert!(text.contains("opened   critical CLUSTER_007 us-1 (us) has no gateway to eu"), "{text}");
        let line = told(found.clone(), &sight, true);
        assert_eq!((line.lines().count(), &line), (1, &told(found.clone(), &sight, true)));
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["fingerprint"], found.fingerprint.as_str());
    }
}
