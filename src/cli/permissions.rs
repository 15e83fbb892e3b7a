//! `gatewatch permissions`: the agent's user, with the least it needs; and what makes findings visible in
//! another account.

use std::fmt::Write as _;

use clap::ValueEnum;

use super::output::print;
use super::{EXIT_USAGE, Failure};
use crate::connect::Operation;
use crate::connect::permissions::{
    Export, INBOX_PREFIX, Permission, RESPONSES, exports, needed, needed_by_sink,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As a block of a server's configuration, or as `nsc` commands
    #[arg(long, value_enum, default_value_t = Format::Config)]
    format: Format,
    /// Print instead what makes findings visible, and the agent's API answerable, in this account
    #[arg(long, value_name = "ACCOUNT")]
    export: Option<String>,
    /// Print instead what the user of `[sink]` needs
    #[arg(long, conflicts_with = "export")]
    sink: bool,
    /// With --sink: the stream of `[sink]`
    #[arg(long, value_name = "NAME", default_value = "GATEWATCH", requires = "sink")]
    stream: String,
    /// With --sink: the bucket of `[sink]`
    #[arg(long, value_name = "NAME", default_value = "gatewatch", requires = "sink")]
    bucket: String,
    /// The name of the system account; with --sink, of the one that keeps findings, else APP
    #[arg(long, value_name = "NAME", default_value = "SYS")]
    account: String,
    /// The name of the user
    #[arg(long, value_name = "NAME", default_value = "gatewatch")]
    user: String,
    /// The first token of the agent's subjects: `publish.prefix` of its configuration
    #[arg(long, value_name = "PREFIX", default_value = "gatewatch")]
    prefix: String,
    /// What replies to the agent are addressed to; give the agent the same
    #[arg(long, value_name = "PREFIX", default_value = INBOX_PREFIX)]
    inbox_prefix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Config,
    Nsc,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    for (flag, value) in [
        ("--account", Some(&args.account)),
        ("--user", Some(&args.user)),
        ("--stream", Some(&args.stream)),
        ("--bucket", Some(&args.bucket)),
        ("--export", args.export.as_ref()),
        ("--prefix", Some(&args.prefix)),
        ("--inbox-prefix", Some(&args.inbox_prefix)),
    ] {
        if let Some(value) = value
            && (value.is_empty() || !value.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)))
        {
            return Err(Failure::new(
                EXIT_USAGE,
                format!("{flag} takes letters, digits, `_`, `-` and `.`"),
                None,
            ));
        }
    }
    let text = match (&args.export, args.format) {
        (None, Format::Config) if args.sink => sink_config(args),
        (None, Format::Nsc) if args.sink => sink_nsc(args),
        (None, Format::Config) => user_config(args),
        (None, Format::Nsc) => user_nsc(args),
        (Some(to), Format::Config) => export_config(args, to),
        (Some(to), Format::Nsc) => export_nsc(args, to),
    };
    Ok(print(&text)?)
}

fn table(args: &Args) -> Vec<Permission> {
    needed(&args.prefix, &args.inbox_prefix)
}

fn of(table: &[Permission], operation: Operation) -> impl Iterator<Item = &Permission> {
    table.iter().filter(move |p| p.operation == operation)
}

/// The subjects as they stand in a server's configuration.
fn lines(table: &[Permission], operation: Operation) -> String {
    of(table, operation).fold(String::new(), |mut out, p| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "              \"{}\" # {}", p.subject, p.reason);
        out
    })
}

/// The subjects as `nsc` takes them.
fn joined(table: &[Permission], operation: Operation) -> String {
    of(table, operation).map(|p| p.subject.as_str()).collect::<Vec<_>>().join(",")
}

fn user_config(args: &Args) -> String {
    let Args { account, user, inbox_prefix, .. } = args;
    let table = table(args);
    let [publish, subscribe] = [Operation::Publish, Operation::Subscribe].map(|of| lines(&table, of));
    let (max, expires) = RESPONSES;
    format!(
        "\
# The user of gatewatch, in the system account: for the configuration of every server.
# Put the entry of `users` into the accounts that are there: a second `accounts` block replaces the first.
# Run the agent with --user {user} --password … --inbox-prefix {inbox_prefix}
accounts {{
  \"{account}\" {{
    users: [
      {{
        user: \"{user}\"
        password: \"replace-me\" # better: what `nats server passwd` prints
        permissions: {{
          publish: {{
            allow: [
{publish}            ]
          }}
          subscribe: {{
            allow: [
{subscribe}            ]
          }}
          # to answer requests to its API
          allow_responses: {{ max: {max}, expires: \"{expires}\" }}
        }}
      }}
    ]
  }}
}}
system_account: \"{account}\"
"
    )
}

fn user_nsc(args: &Args) -> String {
    let Args { account, user, inbox_prefix, .. } = args;
    let table = table(args);
    let [publish, subscribe] = [Operation::Publish, Operation::Subscribe].map(|of| joined(&table, of));
    let (max, expires) = RESPONSES;
    format!(
        "\
# The user of gatewatch, in the system account. Run the agent with --creds {user}.creds --inbox-prefix {inbox_prefix}
nsc add user --account {account} --name {user} \\
  --allow-pub '{publish}' \\
  --allow-sub '{subscribe}' \\
  --allow-pub-response={max} --response-ttl {expires}
nsc generate creds --account {account} --name {user} > {user}.creds
",
    )
}

fn sink_table(args: &Args) -> Vec<Permission> {
    needed_by_sink(&args.prefix, &args.inbox_prefix, Some(&args.stream), Some(&args.bucket))
}

/// The system account has no `JetStream`.
fn sink_account(args: &Args) -> &str {
    if args.account == "SYS" { "APP" } else { &args.account }
}

fn sink_config(args: &Args) -> String {
    let Args { user, inbox_prefix, .. } = args;
    let account = sink_account(args);
    let table = sink_table(args);
    let [publish, subscribe] = [Operation::Publish, Operation::Subscribe].map(|of| lines(&table, of));
    format!(
        "\
# The user of `[sink]`, in an account with JetStream that is not the system account.
# In the agent's configuration: [sink] user = \"{user}\", password, inbox_prefix = \"{inbox_prefix}\"
accounts {{
  \"{account}\" {{
    jetstream: enabled
    users: [
      {{
        user: \"{user}\"
        password: \"replace-me\" # better: what `nats server passwd` prints
        permissions: {{
          publish: {{
            allow: [
{publish}            ]
          }}
          subscribe: {{
            allow: [
{subscribe}            ]
          }}
        }}
      }}
    ]
  }}
}}
"
    )
}

fn sink_nsc(args: &Args) -> String {
    let Args { user, inbox_prefix, .. } = args;
    let account = sink_account(args);
    let table = sink_table(args);
    let [publish, subscribe] = [Operation::Publish, Operation::Subscribe].map(|of| joined(&table, of));
    format!(
        "\
# The user of `[sink]`. In the agent's configuration: [sink] creds = \"{user}.creds\", inbox_prefix = \"{inbox_prefix}\"
nsc add user --account {account} --name {user} \\
  --allow-pub '{publish}' \\
  --allow-sub '{subscribe}'
nsc generate creds --account {account} --name {user} > {user}.creds
",
    )
}

fn export_config(args: &Args, to: &str) -> String {
    let Args { account, prefix, .. } = args;
    let mut offered = String::new();
    let mut taken = String::new();
    for Export { service, subject } in exports(prefix) {
        let (kind, more) = if service { ("service", ", response_type: \"stream\"") } else { ("stream", "") };
        // Writing to a String does not fail.
        let _ = writeln!(offered, "      {{ {kind}: \"{subject}\", accounts: [\"{to}\"]{more} }}");
        let _ = writeln!(taken, "      {{ {kind}: {{ account: \"{account}\", subject: \"{subject}\" }} }}");
    }
    format!(
        "\
# Findings in account {to}: add these lists to the two accounts in the configuration of every server.
# No other export of {account} may cover one of these subjects: which of two is taken is chance.
# Then reload each server twice, or restart it: after one reload streams flow, and services do not answer yet.
accounts {{
  \"{account}\" {{
    exports: [
{offered}    ]
  }}
  \"{to}\" {{
    imports: [
{taken}    ]
  }}
}}
system_account: \"{account}\"
"
    )
}

fn export_nsc(args: &Args, to: &str) -> String {
    let Args { account, prefix, .. } = args;
    let mut out = format!(
        "\
# Findings in account {to}. Any account of the operator can import a public export. To allow {to} only, add
# --private to the exports, and import by the token of `nsc generate activation`.
"
    );
    for Export { service, subject } in exports(prefix) {
        let (kind, more) = if service { (" --service", " --response-type Stream") } else { ("", "") };
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "nsc add export --account {account} --name '{subject}' --subject '{subject}'{kind}{more}\n\
             nsc add import --account {to} --name '{subject}' --src-account {account} --remote-subject '{subject}'{kind}"
        );
    }
    out.push_str("nsc push --all\n");
    out
}
