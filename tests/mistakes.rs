//! What people type wrongly, and what they are told: each snapshot is what the built program prints. Those that
//! need a server stand in `tests/real/mistakes.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failure here is a failed test"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// What a person sees who runs `line` in `directory`: the command, what it says, and its exit code.
fn seen(directory: &Path, line: &[&str]) -> String {
    let (result, seen) = ran(directory, line);
    assert!(result.is_empty(), "{line:?} printed a result");
    seen
}

/// What comes on standard output, and what a person sees of the rest.
fn ran(directory: &Path, line: &[&str]) -> (String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_gatewatch"))
        .args(line)
        .current_dir(directory)
        // No variable and no context of whoever runs the tests.
        .env_clear()
        .env("HOME", directory)
        .output()
        .unwrap();
    let place = directory.to_str().unwrap();
    let [result, said] =
        [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap().replace(place, "~"));
    for text in [&result, &said] {
        assert!(!text.contains("hunter2"), "{line:?} shows a secret:\n{text}");
        assert!(!text.contains('\u{1b}'), "{line:?} has colours where there is no terminal:\n{text}");
    }
    let seen = format!("$ gatewatch {}\n{said}exit {}\n", line.join(" "), out.status.code().unwrap());
    (result, seen)
}

/// Several of one kind, one after the other.
fn all(directory: &Path, lines: &[&[&str]]) -> String {
    lines.iter().map(|line| seen(directory, line)).collect::<Vec<_>>().join("\n")
}

fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

#[test]
fn a_flag() {
    let home = files(&[]);
    insta::assert_snapshot!(all(
        home.path(),
        &[
            &["topology", "--sever", "nats://a:4222"],
            &["run", "--password", "hunter2", "--tokn", "hunter2"],
            &["--server", "nats://u:hunter2@a:4222", "topology"],
            &["run", "--frequency=1s"],
            &["topology", "--context", "a", "--context", "b"],
            &["permissions", "--export"],
        ]
    ));
}

#[test]
fn a_value_of_a_flag() {
    let home = files(&[]);
    insta::assert_snapshot!(all(
        home.path(),
        &[
            &["topology", "--timeout", "5"],
            &["topology", "--timeout=soon"],
            &["topology", "--timeout", "5h"],
            &["topology", "--format", "tml"],
            &["watch", "--severity", "fatal"],
            &["run", "--tlscert", "client.pem"],
        ]
    ));
}

#[test]
fn a_command() {
    let home = files(&[]);
    insta::assert_snapshot!(all(
        home.path(),
        &[
            &["topolgy"],
            &["status"],
            &["checks", "gateway_disconnected"],
            &["explain"],
            &["run", "--password", "my", "hunter2"],
        ]
    ));
}

/// Its exit code is a verdict, and 2 would be read as one that it has not reached.
#[test]
fn a_gate() {
    let home = files(&[("c.toml", "[poll]\nintervall = \"1s\"\n"), ("s.json", "{}")]);
    insta::assert_snapshot!(all(
        home.path(),
        &[
            &["check", "--sever", "nats://a:4222"],
            &["check", "--epochs", "0"],
            &["check", "--format", "ngios"],
            &["chek"],
            &["judge"],
            &["judge", "--jso", "s.json"],
            &["judge", "s.json"],
            &["judge", "none.json"],
            &["judge", "--config", "c.toml", "s.json"],
        ]
    ));
}

#[test]
fn a_file_that_cannot_be_read_hides_no_finding_of_another() {
    let home = files(&[("critical.json", include_str!("situations/link-lost.json"))]);
    for line in [["judge", "none.json", "critical.json"], ["judge", "critical.json", "none.json"]] {
        let (result, seen) = ran(home.path(), &line);
        assert!(result.contains("CRITICAL: ") && seen.contains("cannot read none.json"), "{result}{seen}");
        assert!(seen.ends_with("exit 2\n"), "{seen}");
    }
}

#[test]
fn a_gate_that_a_program_asks() {
    let home = files(&[("c.toml", "[poll]\nintervall = \"1s\"\n")]);
    let lines: [&[&str]; 7] = [
        &["check", "--format", "nagios", "--sever", "nats://u:hunter2@a:4222"],
        &["check", "--epochs", "0", "--format=nagios"],
        &["chek", "--format", "nagios"],
        &["check", "--format", "nagios", "--timeout", "soon"],
        &["check", "--format", "nagios", "--config", "c.toml"],
        &["check", "--format", "nagios", "--tlscert", "client.pem"],
        &["check", "--format", "nagios", "--only", "gateway_disconected"],
    ];
    let answers = lines.map(|line| {
        let (result, seen) = ran(home.path(), line);
        assert!(result.starts_with("UNKNOWN ") && result.lines().count() == 1, "{line:?}: {result}");
        assert!(seen.lines().count() == 2 && seen.ends_with("exit 3\n"), "{seen}");
        seen.replace("exit 3", &result)
    });
    insta::assert_snapshot!(answers.join(""));
    for (format, wanted) in
        [("json", "\"exit\": 3"), ("junit", "<error "), ("prometheus", "status=\"UNKNOWN\"} 3\n")]
    {
        let (result, _) = ran(home.path(), &["check", "--nope", "--format", format]);
        assert!(result.contains(wanted), "{format}: {result}");
    }
    // No gate: what starts it must not start it again.
    let (result, seen) = ran(home.path(), &["run", "--format", "nagios"]);
    assert!(result.is_empty() && seen.ends_with("exit 2\n"), "{seen}");
}

#[test]
fn a_check_s_name() {
    let home = files(&[("c.toml", "[checks.gateway_disconected]\nabsent_for = \"5s\"\n")]);
    insta::assert_snapshot!(all(
        home.path(),
        &[&["explain", "gateway_disconected"], &["explain", "GW_999"], &["run", "--config", "c.toml"],]
    ));
}

#[test]
fn a_subject() {
    let home = files(&[("c.toml", "[publish]\nprefix = \"gatewatch.finding.>\"\n")]);
    insta::assert_snapshot!(all(
        home.path(),
        &[
            &["watch", "--prefix", "gatewatch.>"],
            &["watch", "--prefix", "my watch"],
            &["run", "--config", "c.toml"],
            &["topology", "--inbox-prefix", "_INBOX.*"],
        ]
    ));
}

#[test]
fn a_url() {
    let home =
        files(&[("c.toml", "[connect]\nserver = \"nats://sys:hunter2@a:4222,http://sys:hunter2@b\"\n")]);
    insta::assert_snapshot!(all(
        home.path(),
        &[
            &["topology", "-s", "http://a:8222"],
            &["topology", "--server=nats://a:42222222"],
            &["topology", "-s", "nats://sys:hunter2@a:4222,nats://app:hunter2@b:4222"],
            &["run", "--config", "c.toml"],
        ]
    ));
}

#[test]
fn a_configuration() {
    let home = files(&[
        ("key.toml", "[poll]\nintervall = \"1s\"\n"),
        ("section.toml", "[agnet]\nname = \"eu-1\"\n"),
        ("value.toml", "[poll]\ninterval = \"1 parsec\"\ntimeout = 5\n"),
        ("range.toml", "[checks.gateway_disconnected]\nabsent_for = \"1h\"\nseverity = \"fatal\"\n"),
        ("syntax.toml", "[connect]\nuser = \"sys\"\npassword = \"hunter2\n"),
        ("secret.toml", "[connect]\npasword = \"hunter2\"\n[sink]\ntoken = [\"hunter2\"]\n"),
    ]);
    insta::assert_snapshot!(all(
        home.path(),
        &[
            &["run", "--config", "key.toml"],
            &["run", "--config", "section.toml"],
            &["run", "--config", "value.toml"],
            &["run", "--config", "range.toml"],
            &["run", "--config", "syntax.toml"],
            &["run", "--config", "secret.toml"],
            &["run", "--config", "none.toml"],
        ]
    ));
}

#[test]
fn an_expected_topology() {
    let home = files(&[(
        "t.toml",
        "[[cluster]]\nname = \"eu\"\nservers = [\"eu-0\"]\nremotes = [\"su\"]\n[[cluster]]\nname = \"us\"\n",
    )]);
    insta::assert_snapshot!(all(
        home.path(),
        &[&["run", "--expect", "t.toml"], &["run", "--expect", "none.toml"],]
    ));
}

#[test]
fn a_context() {
    let home = files(&[
        (".config/nats/context/prod-eu.json", "{}"),
        (
            ".config/nats/context/broken.json",
            "{\n  \"url\": \"nats://a:4222\",\n  \"password\": hunter2\n}\n",
        ),
        (".config/nats/context/typed.json", "{\n  \"token\": [\"hunter2\"]\n}\n"),
        (".config/nats/context/nsc.json", "{\"nsc\": \"nsc://operator/account/user\"}"),
    ]);
    insta::assert_snapshot!(all(
        home.path(),
        &[
            &["topology", "--context", "prod-us"],
            &["topology", "--context", "staging"],
            &["topology", "--context", "broken"],
            &["topology", "--context", "typed"],
            &["topology", "--context", "nsc"],
        ]
    ));
}

#[test]
fn a_file_with_credentials() {
    let user = nkeys::KeyPair::new_user().seed().unwrap();
    let account = nkeys::KeyPair::new_account().seed().unwrap();
    let creds = |seed: &str| {
        format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.sig\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    };
    let home = files(&[
        ("seed.creds", &user),
        ("cut.creds", &creds(&user[..40])),
        ("account.creds", &creds(&account)),
        ("server.conf", "port: 4222\n"),
    ]);
    let seen = all(
        home.path(),
        &[
            &["topology", "--creds", "none.creds"],
            &["topology", "--creds", "seed.creds"],
            &["topology", "--creds", "cut.creds"],
            &["topology", "--creds", "account.creds"],
            &["topology", "--creds", "server.conf"],
            &["topology", "--tlsca", "none.pem"],
        ],
    );
    assert!(!seen.contains(&user[2..20]) && !seen.contains(&account[2..20]), "it shows a seed:\n{seen}");
    insta::assert_snapshot!(seen);
}
