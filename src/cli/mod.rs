//! The command line.
//!
//! Standard output carries results only, logs go to standard error. An error is printed once, here, with what
//! it comes from and what to do about it.

mod answer;
mod check;
mod checks;
mod command_line;
mod connection;
#[cfg(feature = "lab")]
mod demo;
mod explain;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod generate;
mod judge;
#[cfg(feature = "lab")]
mod lab;
mod output;
mod permissions;
mod run;
mod schema;
mod sweep;
mod top;
mod topology;
mod watch;

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::checks::Settings;
use crate::config::{Complaint, Config, ConfigError, Environment, Flags, Mistakes};
use crate::connect::{ConnectError, PreflightError};
use crate::publish::sign::SignError;

/// What is logged when `RUST_LOG` does not say: ours, and warnings of others. `async-nats` is left out, since
/// the link says what happens to it, with the reason.
const LOG_DEFAULT: &str = "warn,gatewatch=info,async_nats=off";

/// The same where the result says all.
const LOG_QUIET: &str = "error,async_nats=off";

/// Watches the gateways of a NATS supercluster and publishes what is wrong, and why, on NATS itself
// Its comments are the text of `--help`, no Markdown.
#[allow(clippy::doc_markdown)]
#[derive(Debug, Parser)]
#[command(name = "gatewatch", version, max_term_width = 110)]
struct Cli {
    /// How logs are written to standard error; RUST_LOG says which
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, help_heading = "Logging")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch until SIGTERM or SIGINT, and publish findings
    ///
    /// Connects as a user of the system account; `gatewatch permissions` prints one with the least permissions.
    /// What can be set beside the connection stands in the configuration file.
    ///
    /// Exits with 0 when told to end, 2 for bad usage or configuration, 3 when the server refuses the login,
    /// the user is not one of the system account, or may not ask.
    Run(run::Args),
    /// Follow findings from now on and print them; any user that may subscribe will do
    Watch(watch::Args),
    /// Show links, findings and events on the whole screen, live; any user that may subscribe will do
    ///
    /// What somebody wants to see who was just woken: is it whole, what is wrong and since when, why, what to do. It
    /// listens to what the agent publishes and asks its API. `?` lists the keys.
    ///
    /// Exits with 0, 2 for bad usage or where there is no terminal, 3 when the server refuses the login or a
    /// subscription.
    Top(top::Args),
    /// Look once, and say whether the supercluster is whole, and if not, where and why
    ///
    /// Connects as `gatewatch run` does, with the same flags, and publishes nothing. Where all is well it takes half a
    /// second; where something is not, it looks on until it is plain that it lasts: some 3 seconds, and 10 at the most
    /// once it is connected.
    ///
    /// Exits with 0 when all is well, 1 for a warning, 2 for something critical, 3 when too little was seen to say: a
    /// server that does not answer, a permission that is missing, no connection at all, a file that cannot be used, a flag
    /// that there is not.
    Check(check::Args),
    /// Look once, and write what is seen as a file for `gatewatch judge`
    ///
    /// Connects as `gatewatch run` does, with the same flags, and publishes nothing. It looks until every server
    /// told what it has to tell and no fault is still about to become a finding: half a second where all is well,
    /// and 20 seconds at the most. The file is one line of JSON. It holds no password, token or key: names and
    /// addresses of servers, their gateway configuration, connections and counters.
    ///
    /// Exits with 0 when the file is written, 2 for bad usage or configuration, 3 when no server is reached or
    /// lets us in, the user is not one of the system account, or nothing was seen that could be judged.
    Sweep(sweep::Args),
    /// Run the checks on files that `gatewatch sweep` wrote; needs no connection
    ///
    /// Prints what `gatewatch check` would have said then: each finding that the agent would have open, the worst
    /// first. Not printed is what another finding explains, and what had not lasted long enough.
    ///
    /// Exits with the worst of all files: 0 nothing found, or info only; 1 a warning; 2 something critical; 3 too little
    /// was seen to say, or bad usage, a file or a configuration that cannot be used.
    Judge(judge::Args),
    /// Print the links between the clusters as a table or a picture, and who there is
    ///
    /// The text is a table of clusters by clusters: of the links of one cluster's servers to another, how many are up
    /// of those expected, their longest round trip, and what waits to be written. `2/3!` is not well, `2/3?` not all
    /// seen. `svg` is a picture for a report, `mermaid` and `dot` are drawn by others. `toml` is a file of names to
    /// review, to keep, and to give to `gatewatch run --expect`; equal superclusters give equal files.
    ///
    /// Connects as `gatewatch run` does, with the same flags, and publishes nothing; or reads what `gatewatch sweep`
    /// wrote.
    ///
    /// Exits with 0, 2 for bad usage or configuration, 3 when the server refuses the login, the user is not one of
    /// the system account, or not all was seen; then no `toml` is written.
    Topology(topology::Args),
    /// List the checks
    Checks,
    /// Print one check's manual
    Explain(explain::Args),
    /// Print the JSON Schema of a message that the agent publishes
    Schema(schema::Args),
    /// Print the least permissions of the agent's user
    Permissions(permissions::Args),
    /// Print what makes a shell complete commands, flags and names of checks
    ///
    /// For bash: `source <(gatewatch completions bash)`, or write it to a file in
    /// /usr/share/bash-completion/completions. For fish: `gatewatch completions fish | source`. For zsh: a file
    /// `_gatewatch` in a directory of `fpath`.
    Completions(generate::CompletionsArgs),
    /// Print the manual page, or write that of each command to a directory
    ///
    /// To read it at once: `gatewatch man | man -l -`.
    Man(generate::ManArgs),
    /// Run a local supercluster of real nats-servers, with faults on demand
    #[cfg(feature = "lab")]
    Lab(lab::LabArgs),
}

/// Runs the command that the arguments name; its exit code is documented with each command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return misused(&e),
    };
    // Its answer is all that it has to say.
    let quiet = matches!(cli.command, Command::Check(_));
    log_to_stderr(cli.log_format, if quiet { LOG_QUIET } else { LOG_DEFAULT });
    let done = match cli.command {
        Command::Run(args) => block_on(run::run(args)),
        Command::Watch(args) => block_on(watch::run(args)),
        Command::Top(args) => block_on(top::run(args)),
        Command::Sweep(args) => block_on(sweep::run(args)),
        Command::Check(args) => match block_on(check::run(args)) {
            Ok(exit) => return ExitCode::from(exit),
            Err(e) => Err(e.unknown()),
        },
        Command::Judge(args) => match judge::run(&args) {
            Ok(exit) => return ExitCode::from(exit),
            Err(e) => Err(e.unknown()),
        },
        Command::Topology(args) => block_on(topology::run(args)),
        Command::Checks => checks::run(),
        Command::Explain(args) => explain::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Permissions(args) => permissions::run(&args),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
        #[cfg(feature = "lab")]
        Command::Lab(args) => block_on(lab::run(args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads any more, such as `gatewatch watch | head -1`: that is no failure.
        Err(e) if e.is_broken_pipe() => ExitCode::SUCCESS,
        Err(e) => {
            e.print();
            ExitCode::from(e.exit)
        }
    }
}

/// Tells what is wrong with the command line. Where the exit code would have been a verdict on the supercluster, a
/// mistake is none, and who asked in a program's format gets an answer in it.
fn misused(error: &clap::Error) -> ExitCode {
    let (words, program) = (command_line::words(), Cli::command());
    let gate = command_line::gate(error, &words, &program);
    let failure = match command_line::mistake(error, &words, &program) {
        Some(mistake) => Failure::at(Mistakes(vec![mistake])),
        None if gate.is_some() && error.use_stderr() => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            Failure::new(EXIT_USAGE, first.strip_prefix("error: ").unwrap_or(first), None)
        }
        // Help and the version are printed that way too.
        None => error.exit(),
    };
    let told = gate == Some("check") && check::refused(&words, &failure);
    if !told {
        failure.print();
    }
    ExitCode::from(if gate.is_some() { EXIT_CANNOT_SEE } else { failure.exit })
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    // What the servers say is read on a thread of its own, so that a connection waits for no judgement: a server cuts off
    // who lets 64 MB pile up.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let done = runtime.block_on(work);
    // A name that is still being looked up must not hold us.
    runtime.shutdown_background();
    done
}

fn log_to_stderr(format: LogFormat, default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(output::log)
        .with_ansi(output::colour(&std::io::stderr()));
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// The configuration that flags, variables and files make.
fn load(flags: &Flags) -> Result<Config, Failure> {
    let get = |key: &str| std::env::var(key).ok();
    let config = Config::load(flags, &Environment::new(&get), crate::checks::REGISTRY)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// The settings of the checks alone, for what needs no connection.
fn load_checks(file: Option<&Path>) -> Result<BTreeMap<&'static str, Settings>, Failure> {
    let get = |key: &str| std::env::var(key).ok();
    Ok(Config::load_checks(file, &Environment::new(&get), crate::checks::REGISTRY)?)
}

/// Why a command ends with another code than 0.
#[derive(Debug)]
struct Failure {
    exit: u8,
    error: Box<dyn Error + Send + Sync>,
    help: Option<String>,
    /// Where it stands in what somebody wrote: then this is what is printed.
    mistakes: Option<Mistakes>,
}

/// Bad usage or configuration.
const EXIT_USAGE: u8 = 2;
/// We may not see what we would have to see.
const EXIT_CANNOT_SEE: u8 = 3;

impl Failure {
    fn new(exit: u8, error: impl Into<Box<dyn Error + Send + Sync>>, help: Option<String>) -> Self {
        Self { exit, error: error.into(), help, mistakes: None }
    }

    /// What somebody wrote and has to write otherwise.
    fn at(mistakes: Mistakes) -> Self {
        let text = mistakes.to_string();
        Self { mistakes: Some(mistakes), ..Self::new(EXIT_USAGE, text, None) }
    }

    /// A word of the command line that is wrong: the value of the flag `name`, or `value` by itself.
    fn word(complaint: Complaint, name: &str, value: &str) -> Self {
        match command_line::at_value(complaint.clone(), name, value, &Cli::command()) {
            Some(mistake) => Self::at(Mistakes(vec![mistake])),
            None => Self::new(EXIT_USAGE, complaint.what, complaint.help),
        }
    }

    /// The same of a command whose exit code is a verdict.
    fn unknown(self) -> Self {
        Self { exit: EXIT_CANNOT_SEE, ..self }
    }

    fn is_broken_pipe(&self) -> bool {
        self.error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// It and what it comes from in one line, and what to do about it.
    fn told(&self) -> (String, Option<String>) {
        if let Some(first) = self.mistakes.as_ref().and_then(|mistakes| mistakes.0.first()) {
            let place = first.path.as_ref().map(|path| format!(" ({path}:{})", first.number));
            return (first.complaint.what.clone() + &place.unwrap_or_default(), first.complaint.help.clone());
        }
        let mut text = self.error.to_string();
        let mut next = self.error.source();
        while let Some(e) = next {
            text = format!("{text}: {e}");
            next = e.source();
        }
        (text, self.help.clone())
    }

    fn print(&self) {
        use std::fmt::Write as _;
        use std::io::Write as _;
        let colour = output::colour(&std::io::stderr());
        if let Some(mistakes) = &self.mistakes {
            let _ = std::io::stderr().write_all((mistakes.render(colour) + "\n").as_bytes());
            return;
        }
        let paint = |code: &str, text: &str| {
            if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
        };
        // Writing to a String does not fail.
        let mut text = format!("{}: {}\n", paint("1;91", "error"), self.error);
        let mut next = self.error.source();
        while let Some(e) = next {
            let _ = writeln!(text, "  caused by: {e}");
            next = e.source();
        }
        if let Some(help) = &self.help {
            let _ = writeln!(text, "{}: {help}", paint("1;96", "help"));
        }
        // Where standard error is gone there is nobody left to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::new(1, e, None)
    }
}

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        let help = e.help();
        match e {
            ConfigError::File(mistakes) => Self::at(mistakes),
            // A flag: it is there to be pointed at.
            ConfigError::Value { origin, complaint } if origin.starts_with("--") => {
                let what = format!("{origin}: {}", complaint.what);
                Self::word(Complaint { what, ..complaint }, &origin, "")
            }
            e => Self::new(EXIT_USAGE, e, help),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(e: ConnectError) -> Self {
        let help = e.help().map(str::to_owned);
        let exit = match e {
            ConnectError::Credentials { mistake: Some(mistake), .. } => {
                return Self::at(Mistakes(vec![*mistake]));
            }
            ConnectError::Rejected { .. } | ConnectError::Tls { .. } | ConnectError::Unreachable { .. } => {
                EXIT_CANNOT_SEE
            }
            _ => EXIT_USAGE,
        };
        Self::new(exit, e, help)
    }
}

impl From<SignError> for Failure {
    fn from(e: SignError) -> Self {
        let help = e.help().map(str::to_owned);
        Self::new(EXIT_USAGE, e, help)
    }
}

impl From<PreflightError> for Failure {
    fn from(e: PreflightError) -> Self {
        let help = e.help();
        Self::new(EXIT_CANNOT_SEE, e, help)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
