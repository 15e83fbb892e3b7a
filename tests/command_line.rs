//! What other tools know of the command line, completions and manual pages, and what programs read of its results.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failure here is a failed test"
)]

use std::fs;
use std::process::{Command, Output};

use gatewatch::checks::REGISTRY;

fn gatewatch(args: &[&str]) -> String {
    text(&Command::new(env!("CARGO_BIN_EXE_gatewatch")).args(args).env_clear().output().unwrap())
}

fn text(out: &Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout.clone()).unwrap()
}

/// The commands that `gatewatch --help` lists.
fn commands() -> Vec<String> {
    let help = gatewatch(&["--help"]);
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let first = |line: &str| {
        line.strip_prefix("  ")
            .filter(|l| !l.starts_with(' '))
            .and_then(|l| l.split(' ').next())
            .map(str::to_owned)
    };
    let commands: Vec<String> = list.lines().filter_map(first).collect();
    assert!(commands.len() > 8 && commands.contains(&"completions".to_owned()), "{commands:?}");
    commands
}

/// What bash offers after `words`, the last of which is being typed.
fn completed(words: &[&str]) -> Vec<String> {
    let list = words.join(" ");
    let last = words.len() - 1;
    let [word, before] = [words[last], words[last - 1]];
    let script = format!(
        "source <(\"$0\" completions bash) && COMP_WORDS=({list}) COMP_CWORD={last} && \
         _gatewatch gatewatch '{word}' '{before}' && printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let out = Command::new("bash").args(["-c", &script, env!("CARGO_BIN_EXE_gatewatch")]).output().unwrap();
    text(&out).lines().map(str::to_owned).collect()
}

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = gatewatch(&["completions", shell]);
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
        let slug = REGISTRY[0].manual().slug;
        // The other two complete no values at all.
        let values = ["bash", "zsh", "fish"].contains(&shell);
        assert!(!values || script.contains(slug), "{shell} does not know the check {slug}");
    }
}

#[test]
fn bash_completes_commands_flags_and_checks() {
    let begin: Vec<String> = commands().into_iter().filter(|name| name.starts_with("ch")).collect();
    assert_eq!(completed(&["gatewatch", "ch"]), begin);
    assert_eq!(completed(&["gatewatch", "topology", "--inb"]), ["--inbox-prefix"]);
    assert_eq!(completed(&["gatewatch", "topology", "--format", "tom"]), ["toml"]);
    let checks: Vec<&str> =
        REGISTRY.iter().map(|c| c.manual().slug).filter(|s| s.starts_with("route_")).collect();
    assert_eq!(completed(&["gatewatch", "explain", "route_"]), checks);
    assert_eq!(completed(&["gatewatch", "watch", "--check", "route_"]), checks);
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("man1");
    gatewatch(&["man", to.to_str().unwrap()]);
    for command in commands().iter().filter(|name| *name != "help") {
        let page = fs::read_to_string(to.join(format!("gatewatch-{command}.1")));
        let page = page.unwrap_or_else(|e| panic!("no page for {command}: {e}"));
        assert!(page.contains(".SH NAME") && page.contains(".SH OPTIONS"), "{command}:\n{page}");
    }
    let main = gatewatch(&["man"]);
    assert!(to.join("gatewatch.1").is_file());
    assert!(main.contains("gatewatch\\-explain(1)"), "{main}");
}

/// What people read of the five situations stands beside each command; this is what programs read.
#[test]
fn programs_read_the_five_situations() {
    for situation in ["healthy", "link-lost", "cluster-down", "mismatch", "blind"] {
        let file = format!("tests/situations/{situation}.json");
        let lines: [&[&str]; 4] = [
            &["judge", &file],
            &["judge", "--json", &file],
            &["topology", "--format", "toml", &file],
            &["topology", "--format", "json", &file],
        ];
        let seen = lines.map(|line| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_gatewatch"));
            let out = command.args(line).env_clear().env("RUST_LOG", "error").output().unwrap();
            let [result, said] = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
            let exit = out.status.code().unwrap();
            format!("$ gatewatch {}\n{result}exit {exit}\n{said}", line.join(" "))
        });
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!(situation, seen.join("\n"));
        });
    }
}
