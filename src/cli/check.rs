//! `gatewatch check`: one look, a verdict, an exit code.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum as _;
use tokio::time::Instant;

use super::answer::{Answer, Demand, Format, Look};
use super::connection::ConnectionArgs;
use super::{Failure, load, output, sweep};
use crate::agent::{Enough, Sweep};
use crate::checks::{REGISTRY, Settings, Severity, find};
use crate::config::{Config, Flags, nearest, redact};
use crate::model::LinkState;

/// How long it looks on when it is not plain what it sees. Monitoring systems wait for 10 s as a rule.
const LONGER_MAX: Duration = Duration::from_secs(8);
/// Who has waited this long wants to know what for.
const QUIET_FOR: Duration = Duration::from_millis(700);
const TICK: Duration = Duration::from_millis(200);

// These comments are the text of `--help`, no Markdown.
#[allow(clippy::doc_markdown)]
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to write the answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only this check, a slug or a code; as often as needed. What is found is then not explained by others
    #[arg(long, value_name = "CHECK")]
    only: Vec<String>,
    /// The least severity that makes the exit code another than 0
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOn::Warning)]
    fail_on: FailOn,
    /// The topology that is expected: a file as `gatewatch topology --format toml` writes it
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// So many servers have to answer; with fewer the answer is 3, unknown
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    expect_servers: usize,
    /// Look at least so often: what moves shows in the second look. More make it half a second longer each
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    epochs: u32,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FailOn {
    Info,
    Warning,
    Critical,
}

impl From<FailOn> for Severity {
    fn from(severity: FailOn) -> Self {
        match severity {
            FailOn::Info => Self::Info,
            FailOn::Warning => Self::Warning,
            FailOn::Critical => Self::Critical,
        }
    }
}

/// The answer is the exit code. Whatever kept it from looking is an answer too, in the format that was asked for:
/// what reads it must not take a missing file or a wrong password for a supercluster that is down.
pub(super) async fn run(args: Args) -> Result<u8, Failure> {
    let (format, demand) =
        (args.format, Demand { fail_on: args.fail_on.into(), servers: args.expect_servers });
    let mut settings = BTreeMap::new();
    let answer = look(args, demand, &mut settings).await.unwrap_or_else(|failure| blind(&failure, &settings));
    match output::print(&answer.render(format, Look::of_stdout())) {
        // The answer stands, whether somebody reads all of it or not.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed?,
    }
    Ok(answer.status.exit())
}

fn blind(failure: &Failure, settings: &BTreeMap<&'static str, Settings>) -> Answer {
    let (why, help) = failure.told();
    Answer::blind(redact::control(&why).into_owned(), help, settings)
}

/// Answers a command line that cannot be used, if it asks for a program's format. People get it drawn.
pub(super) fn refused(words: &[String], failure: &Failure) -> bool {
    let format = format_of(words);
    let answer = blind(failure, &BTreeMap::new());
    format != Format::Text && output::print(&answer.render(format, Look::default())).is_ok()
}

/// The format that `words` ask for, as far as that can be told where not all is understood.
fn format_of(words: &[String]) -> Format {
    let after = words.windows(2).filter_map(|w| match w {
        [flag, value] if flag == "--format" => Some(value.as_str()),
        _ => None,
    });
    let within = words.iter().filter_map(|w| w.strip_prefix("--format="));
    after.chain(within).last().and_then(|value| Format::from_str(value, false).ok()).unwrap_or_default()
}

async fn look(
    args: Args,
    demand: Demand,
    settings: &mut BTreeMap<&'static str, Settings>,
) -> Result<Answer, Failure> {
    let only = args.only.iter().map(|name| slug(name)).collect::<Result<Vec<_>, _>>()?;
    let mut config = load(&Flags { expect: args.expect, ..args.connection.into_flags() })?;
    restrict(&mut config, &only);
    settings.clone_from(&config.checks);
    let enough = Enough { at_least: Duration::ZERO, looks: args.epochs, longer_max: LONGER_MAX };
    let progress = Progress::new();
    let sweep = {
        let looking = sweep::look_for(config, enough, |sweep| progress.take(sweep));
        tokio::select! {
            sweep = looking => sweep,
            never = progress.show() => match never {},
        }
    };
    progress.end();
    let sweep = sweep?;
    let mut answer = Answer::of(&sweep.snapshot, settings, demand);
    if let Some(waits_for) = sweep.waits_for {
        answer.cut_short(waits_for);
    }
    Ok(answer)
}

fn slug(name: &str) -> Result<&'static str, Failure> {
    find(name).map(|check| check.manual().slug).ok_or_else(|| {
        let near = nearest(name, REGISTRY.iter().map(|c| c.manual().slug));
        let help = near.map_or_else(
            || "`gatewatch checks` lists them".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let error = format!("--only: there is no check `{}`", redact::control(name));
        Failure::new(super::EXIT_CANNOT_SEE, error, Some(help))
    })
}

/// Only these checks are made, if any are named. What would explain what they find is not there then, so that a
/// fault that has a bigger cause is found by them all the same.
fn restrict(config: &mut Config, only: &[&str]) {
    if only.is_empty() {
        return;
    }
    for (slug, settings) in &mut config.checks {
        settings.enabled = only.contains(slug);
    }
}

/// One line on standard error, on a terminal, for who has to wait.
struct Progress {
    began: Instant,
    shows: bool,
    said: RefCell<Vec<String>>,
}

impl Progress {
    fn new() -> Self {
        let shows = io::stderr().is_terminal();
        Self { began: Instant::now(), shows, said: RefCell::new(vec!["connecting".to_owned()]) }
    }

    fn take(&self, sweep: &Sweep) {
        let snapshot = &sweep.snapshot;
        let answered = snapshot.expected().filter(|s| s.gatewayz.is_some()).count();
        let links = snapshot.links.iter().filter(|l| l.state == LinkState::Connected).count();
        let (servers, expected) = (snapshot.expected().count(), snapshot.links.len());
        *self.said.borrow_mut() = sweep
            .waits_for
            .map(|what| format!("waiting {what}"))
            .into_iter()
            .chain([
                format!("{answered} of {servers} servers answered"),
                format!("{links} of {expected} links"),
            ])
            .collect();
    }

    /// As many parts as fit, none of them cut.
    fn line(since: Duration, parts: &[String], columns: usize) -> String {
        let mut line = format!("{:.0} s: ", since.as_secs_f64());
        let mut used = line.chars().count();
        for (n, part) in parts.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            used += separator.len() + part.chars().count();
            if used > columns {
                break;
            }
            line.push_str(separator);
            line.push_str(part);
        }
        line
    }

    async fn show(&self) -> std::convert::Infallible {
        tokio::time::sleep(QUIET_FOR).await;
        loop {
            if self.shows {
                let columns = output::width().saturating_sub(1);
                let line = Self::line(self.began.elapsed(), &self.said.borrow(), columns);
                // Where standard error is gone there is nobody left to tell.
                let _ = write!(io::stderr(), "\r{line}\u{1b}[K");
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn end(&self) {
        if self.shows && self.began.elapsed() >= QUIET_FOR {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_named_by_its_slug_or_its_code_and_a_typo_is_met_with_the_nearest() {
        assert_eq!(slug("CLUSTER_007").unwrap(), "gateway_disconnected");
        assert_eq!(slug("gateway_disconnected").unwrap(), "gateway_disconnected");
        let failure = slug("gateway_disconected").unwrap_err();
        assert_eq!(failure.exit, 3, "what was not looked at is unknown, and not critical");
        assert_eq!(failure.help.as_deref(), Some("did you mean `gateway_disconnected`?"));
    }

    #[test]
    fn a_part_of_the_progress_is_there_or_not_and_never_cut() {
        let parts = ["waiting for servers", "8 of 9 servers answered", "17 of 18 links"].map(str::to_owned);
        let line = |columns| Progress::line(Duration::from_millis(2600), &parts, columns);
        assert_eq!(line(79), "3 s: waiting for servers; 8 of 9 servers answered; 17 of 18 links");
        assert_eq!(line(60), "3 s: waiting for servers; 8 of 9 servers answered");
        assert_eq!(line(39), "3 s: waiting for servers");
    }
}
