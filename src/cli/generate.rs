//! `gatewatch completions` and `gatewatch man`: what other tools know of the command line, generated from it.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, CommandFactory as _};

use super::{Cli, Failure, output};
use crate::checks::REGISTRY;

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// Whose completions
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// A directory to write the page of each command to, such as `/usr/local/share/man/man1`
    #[arg(value_name = "DIR")]
    to: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut out = Vec::new();
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut out);
    Ok(output::bytes(&out)?)
}

pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    if let Some(to) = &args.to {
        return pages(to)
            .map_err(|e| Failure::new(1, format!("cannot write to {}: {e}", to.display()), None));
    }
    let mut out = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut out)?;
    Ok(output::bytes(&out)?)
}

fn pages(to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    clap_mangen::generate_to(Cli::command(), to)
}

/// Any text, which shells complete to the slug of a check. What it stands for is looked up later: it may be a code,
/// and an agent may know checks that we do not.
#[derive(Clone, Debug)]
pub(super) struct CheckName;

impl TypedValueParser for CheckName {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(REGISTRY.iter().map(|c| PossibleValue::new(c.manual().slug))))
    }
}
