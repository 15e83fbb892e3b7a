//! `gatewatch explain CHECK`: one check's manual.

use super::output::{print, width};
use super::{Failure, generate};
use crate::api::manual;
use crate::checks::{REGISTRY, find};
use crate::config::{Complaint, nearest, redact};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A slug or a code, such as `gateway_disconnected` or `CLUSTER_007`
    #[arg(value_parser = generate::CheckName, hide_possible_values = true)]
    check: String,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match find(&args.check) {
        Some(check) => Ok(print(&manual(check.manual(), width()))?),
        None => Err(unknown(&args.check)),
    }
}

fn unknown(name: &str) -> Failure {
    let names = || REGISTRY.iter().flat_map(|c| [c.manual().slug, c.manual().code]);
    let help = match nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`? `gatewatch checks` lists all"),
        None => "`gatewatch checks` lists the checks there are".to_owned(),
    };
    Failure::word(Complaint::new(format!("there is no check `{}`", redact::control(name)), help), "", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_a_usage_error() {
        let e = unknown("nonsense");
        assert_eq!((e.exit, e.error.to_string().as_str()), (2, "there is no check `nonsense`"));
    }
}
