//! The configuration as users write it: precedence, contexts, and what is said about a bad one.

// Helpers of tests; clippy excuses only functions that are tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatewatch::checks::{Check, Manual, Settings, Severity, Threshold, Value, Verdict, Watched};
use gatewatch::config::{Config, ConfigError, Connect, Environment, Flags, Layer, topology};
use gatewatch::model::Snapshot;

struct Fake;

static MANUAL: Manual = Manual {
    slug: "fake_link",
    code: "GW_999",
    severity: Severity::Critical,
    open_after: 2,
    resolve_after: 3,
    thresholds: &[
        Threshold {
            key: "absent_for",
            default: Value::Duration(Duration::from_millis(2500)),
            range: (Value::Duration(Duration::from_millis(500)), Value::Duration(Duration::from_secs(300))),
            about: "how long it may be away",
        },
        Threshold {
            key: "ratio_min",
            default: Value::Ratio(0.3),
            range: (Value::Ratio(0.0), Value::Ratio(1.0)),
            about: "the share",
        },
        Threshold {
            key: "pending_bytes_max",
            default: Value::Bytes(1 << 20),
            range: (Value::Bytes(1024), Value::Bytes(1 << 30)),
            about: "the queue",
        },
    ],
    detects: "",
    matters: "",
    decides: "",
    silent: "",
    todo: "",
};

impl Check for Fake {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }
    fn evaluate(&self, _: &Snapshot, _: &Settings, _: &Watched<'_>) -> Vec<Verdict> {
        Vec::new()
    }
}

/// A home directory with files in it, and variables.
struct Home {
    directory: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap().to_owned();
        Self { directory, variables: [("HOME".to_owned(), home)].into() }
    }

    fn var(mut self, key: &str, value: &str) -> Self {
        self.variables.insert(key.to_owned(), value.to_owned());
        self
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn context(self, name: &str, json: &str) -> Self {
        self.file(&format!(".config/nats/context/{name}.json"), json)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn load(&self, flags: &Flags) -> Result<Config, ConfigError> {
        let get = |key: &str| self.variables.get(key).cloned();
        Config::load(flags, &Environment::new(&get), &[&Fake])
    }

    fn connect(&self, flags: Layer) -> Connect {
        self.load(&Flags { connect: flags, ..Flags::default() }).unwrap().connect
    }
}

fn with_config(path: PathBuf) -> Flags {
    Flags { config: Some(path), ..Flags::default() }
}

#[test]
fn every_bad_configuration_gets_its_message() {
    let home = Home::new();
    each_gets_its_message("tests/configs/bad", |path| home.load(&with_config(path.to_owned())).map(drop));
}

#[test]
fn every_bad_topology_gets_its_message() {
    each_gets_its_message("tests/topologies/bad", |path| topology::read(path).map(drop));
    let expect = Some(PathBuf::from("tests/topologies/bad/misspelt_key.toml"));
    let error = Home::new().load(&Flags { expect, ..Flags::default() }).unwrap_err();
    assert!(error.to_string().contains("did you mean `servers`?"), "{error}");
    let expect = Some(PathBuf::from("tests/topologies/none.toml"));
    let error = Home::new().load(&Flags { expect, ..Flags::default() }).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the expected topology tests/topologies/none.toml");
}

#[test]
fn a_topology_has_limits() {
    let home = Home::new()
        .file("long.toml", &format!("[[cluster]]\nname = \"{}\"\n", "x".repeat(257)))
        .file("many.toml", &"[[cluster]]\n".repeat(2001))
        .file(
            "full.toml",
            &format!(
                "[[cluster]]\nname = \"a\"\nservers = {:?}\n",
                (0..=20_000).map(|n| n.to_string()).collect::<Vec<_>>()
            ),
        )
        .file("large.toml", &"#\n".repeat(5 * 1024 * 1024));
    let refused = |file: &str| topology::read(&home.path(file)).unwrap_err().to_string();
    assert!(refused("long.toml").contains("a name has 1 to 256 bytes"));
    assert!(refused("many.toml").contains("2001 clusters\n"));
    assert!(refused("full.toml").contains("20001 servers\n"));
    assert!(refused("large.toml").contains("is larger than the 8388608 bytes"));
}

/// Every bad file in `directory` gets the message that stands beside it.
fn each_gets_its_message(directory: &str, load: impl Fn(&Path) -> Result<(), ConfigError>) {
    let bless = std::env::var_os("GATEWATCH_BLESS").is_some();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        seen += 1;
        let found = match load(&path) {
            Ok(()) => "accepted\n".to_owned(),
            Err(e) => format!("error: {e}\n"),
        };
        let beside = path.with_extension("txt");
        if bless {
            std::fs::write(&beside, &found).unwrap();
        }
        let wanted = std::fs::read_to_string(&beside).unwrap_or_default();
        if found != wanted || found == "accepted\n" {
            wrong.push(format!("{}\n--- wanted\n{wanted}--- found\n{found}", path.display()));
        }
    }
    assert!(seen >= 20, "only {seen} bad files: run the tests from the repository's root");
    assert!(wrong.is_empty(), "{}\nGATEWATCH_BLESS=1 writes what was found", wrong.join("\n"));
}

#[test]
fn no_message_about_a_bad_configuration_holds_a_secret() {
    let secrets = [
        "[connect]\npassword = hunter2\n",
        "[connect]\npasword = \"hunter2\"\n",
        "[connect]\npassword = [\"hunter2\"]\n",
        "[connect]\ntoken = \"hunter2\n",
        "[connect]\nserver = \"http://u:hunter2@h\"\n",
        "[connect]\nserver = \"nats://u:hunter2@h,nats://v:hunter2@g\"\n",
        "[connect]\nserver = \"nats://u:hunter2@:x\"\n",
        "[sink]\nuser = \"a\"\npaswd = 'hunter2'\n",
        "connect = { user = \"u\", password = \"hunter2\", x = 1 }\n",
    ];
    for text in secrets {
        let home = Home::new().file("c.toml", text);
        let e = home.load(&with_config(home.path("c.toml"))).unwrap_err();
        let shown = format!("{e} {e:?} {:?}", e.help());
        assert!(!shown.contains("hunter2"), "{text}\n{e}");
    }
}

#[test]
fn the_example_of_the_contract_is_accepted() {
    let home = Home::new().context("prod", r#"{"url":"nats://p:4222"}"#);
    let text = r#"
[connect]
server = "nats://a:4222,nats://b:4222"
[agent]
name = "eu-1"
[poll]
interval = "1s"
timeout = "2s"
budget_bytes_per_s = 2_000_000
[publish]
prefix = "gatewatch"
cloudevents = false
repeat_every = "1h"
[sink]
context = "prod"
stream = "GATEWATCH"
bucket = "gatewatch"
[state]
file = "state.json"
[expect]
topology = "topology.toml"
[[vantage]]
server = "nats://us:4222"
[[vantage]]
server = "nats://ap:4222"
creds = "ap.creds"
[checks.fake_link]
enabled = true
severity = "info"
open_after = 4
ratio_min = 1
absent_for = "1m 30s"
[[checks.fake_link.override]]
remote = "us"
absent_for = "10s"
"#;
    let home = home
        .file("etc/gatewatch.toml", text)
        .file("etc/topology.toml", "[[cluster]]\nname = \"eu\"\nservers = [\"eu-0\"]\n");
    let c = home.load(&with_config(home.path("etc/gatewatch.toml"))).unwrap();
    assert_eq!(c.connect.server.as_deref(), Some("nats://a:4222,nats://b:4222"));
    assert_eq!(
        (c.name.as_str(), c.interval, c.timeout),
        ("eu-1", Duration::from_secs(1), Duration::from_secs(2))
    );
    // Paths of a file are relative to that file.
    assert_eq!(c.state_file, Some(home.path("etc/state.json")));
    assert_eq!(c.vantages[1].creds, Some(home.path("etc/ap.creds")));
    let sink = c.sink.unwrap();
    assert_eq!(
        (sink.connect.server.as_deref(), sink.stream.as_deref()),
        (Some("nats://p:4222"), Some("GATEWATCH"))
    );
    let s = &c.checks["fake_link"];
    assert_eq!((s.enabled, s.severity, s.open_after, s.resolve_after), (true, Some(Severity::Info), 4, 3));
    assert_eq!(s.values["ratio_min"], Value::Ratio(1.0));
    assert_eq!(s.values["pending_bytes_max"], Value::Bytes(1 << 20));
    assert_eq!(s.duration("absent_for", Some("eu"), Some("us")), Duration::from_secs(10));
    assert_eq!(s.duration("absent_for", Some("eu"), Some("ap")), Duration::from_secs(90));
    let expected = c.expected.unwrap();
    assert_eq!(expected.clusters.keys().map(|name| &**name).collect::<Vec<_>>(), ["eu"]);
    assert!(c.warnings.is_empty(), "{:?}", c.warnings);
}

#[test]
fn without_anything_there_are_defaults() {
    let c = Home::new().load(&Flags::default()).unwrap();
    assert_eq!(c.connect.server.as_deref(), Some("nats://127.0.0.1:4222"));
    assert_eq!((c.interval, c.timeout), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!(c.prefix, "gatewatch");
    assert!(!c.name.is_empty() && c.warnings.is_empty());
    assert_eq!(c.checks["fake_link"], Settings::of(&Fake));
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_selected_context() {
    let base = || {
        Home::new()
            .context("sel", r#"{"url":"nats://context","inbox_prefix":"_C"}"#)
            .file(".config/nats/context.txt", "sel\n")
    };
    assert_eq!(base().connect(Layer::default()).server.as_deref(), Some("nats://context"));
    let home = base().file("c.toml", "[connect]\nserver = \"nats://file\"\n[poll]\ntimeout = \"3s\"\n");
    let path = home.path("c.toml");
    let home = home.var("GATEWATCH_CONFIG", path.to_str().unwrap());
    let c = home.load(&Flags::default()).unwrap();
    assert_eq!(c.connect.server.as_deref(), Some("nats://file"));
    assert_eq!(c.connect.inbox_prefix.as_deref(), Some("_C"), "what the file leaves out, the context fills");
    assert_eq!(c.timeout, Duration::from_secs(3));
    let home = home.var("NATS_URL", "nats://variable").var("NATS_TIMEOUT", "4s");
    let c = home.load(&Flags::default()).unwrap();
    assert_eq!(c.connect.server.as_deref(), Some("nats://variable"));
    assert_eq!(c.timeout, Duration::from_secs(4));
    let flags = Flags {
        connect: Layer { server: Some("nats://flag".into()), ..Layer::default() },
        timeout: Some(Duration::from_secs(5)),
        ..Flags::default()
    };
    let c = home.load(&flags).unwrap();
    assert_eq!((c.connect.server.as_deref(), c.timeout), (Some("nats://flag"), Duration::from_secs(5)));
}

#[test]
fn a_context_named_by_a_flag_beats_the_file_and_the_selected_one() {
    let home = Home::new()
        .context("sel", r#"{"url":"nats://selected"}"#)
        .file(".config/nats/context.txt", "sel")
        .context("named", r#"{"url":"nats://named","user":"u","password":"p","socks_proxy":""}"#)
        .file("c.toml", "[connect]\nserver = \"nats://file\"\n");
    let flags = Flags {
        connect: Layer { context: Some("named".into()), ..Layer::default() },
        ..with_config(home.path("c.toml"))
    };
    let c = home.load(&flags).unwrap().connect;
    assert_eq!(
        (c.server.as_deref(), c.user.as_deref(), c.password.as_deref()),
        (Some("nats://named"), Some("u"), Some("p"))
    );
}

#[test]
fn credentials_of_two_places_are_never_mixed() {
    let home = Home::new()
        .context("sel", r#"{"user":"u","password":"p","creds":"~/c.creds"}"#)
        .file(".config/nats/context.txt", "sel");
    let c = home.connect(Layer { creds: Some("~/mine.creds".into()), ..Layer::default() });
    assert_eq!((c.user, c.password, c.creds), (None, None, Some(home.path("mine.creds"))));
    // The same way to log in is completed from below.
    let c = home.connect(Layer { password: Some("q".into()), ..Layer::default() });
    assert_eq!((c.user.as_deref(), c.password.as_deref(), c.creds), (Some("u"), Some("q"), None));
}

#[test]
fn a_user_without_a_password_is_a_token_as_for_the_nats_cli() {
    let c = Home::new().connect(Layer { user: Some("s3cr3t".into()), ..Layer::default() });
    assert_eq!((c.user, c.token.as_deref()), (None, Some("s3cr3t")));
}

#[test]
fn user_and_password_of_a_url_are_taken_out_of_it() {
    let c = Home::new()
        .connect(Layer { server: Some("nats://u:p%40ss@a:4222, tls://b".into()), ..Layer::default() });
    assert_eq!(c.server.as_deref(), Some("nats://a:4222,tls://b"));
    assert_eq!((c.user.as_deref(), c.password.as_deref()), (Some("u"), Some("p@ss")));
    assert!(!format!("{c:?}").contains("p@ss"));
    let c = Home::new().connect(Layer { server: Some("tok@a".into()), ..Layer::default() });
    assert_eq!((c.server.as_deref(), c.token.as_deref()), (Some("nats://a"), Some("tok")));
}

#[test]
fn a_missing_context_is_told_with_those_there_are() {
    let home = Home::new().context("prod-eu", "{}").context("prod-us", "{}");
    let load = |name: &str| {
        let flags =
            Flags { connect: Layer { context: Some(name.into()), ..Layer::default() }, ..Flags::default() };
        home.load(&flags).unwrap_err()
    };
    let e = load("staging");
    assert!(e.to_string().starts_with("there is no context `staging` in "), "{e}");
    assert_eq!(e.help().as_deref(), Some("there are: prod-eu, prod-us"));
    assert_eq!(load("prod-eU").help().as_deref(), Some("did you mean `prod-eu`?"));
    // A name is no way out of the directory.
    assert!(matches!(load("../context/prod-eu"), ConfigError::NoContext { .. }));
}

#[test]
fn a_broken_context_is_named_by_place_and_never_quoted() {
    let home = Home::new()
        .context("broken", "{\"password\":\n  hunter2}")
        .context("typed", r#"{"password": {"a": "hunter2"}}"#)
        .context("nsc", r#"{"nsc": "nsc://o/a/u"}"#);
    for name in ["broken", "typed", "nsc"] {
        let flags =
            Flags { connect: Layer { context: Some(name.into()), ..Layer::default() }, ..Flags::default() };
        let e = home.load(&flags).unwrap_err();
        let shown = format!("{e} {e:?}");
        assert!(shown.contains(&format!("{name}.json")) && !shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let e = Home::new().load(&with_config("/nonexistent/gatewatch.toml".into())).unwrap_err();
    assert_eq!(e.to_string(), "cannot read the configuration /nonexistent/gatewatch.toml");
}

#[test]
fn flags_and_variables_are_checked_as_the_file_is() {
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Flags, Variables<'_>, &str); 5] = [
        (Flags { timeout: Some(Duration::ZERO), ..Flags::default() }, &[], "--timeout: 0s is out of range"),
        (Flags::default(), &[("NATS_TIMEOUT", "soon")], "NATS_TIMEOUT: bad duration \"soon\""),
        (
            Flags { prefix: Some("a b".into()), ..Flags::default() },
            &[],
            "--prefix: `a b` cannot begin a subject",
        ),
        (
            Flags::default(),
            &[("NATS_URL", "http://x")],
            "NATS_URL: `http://x` is not the URL of a NATS client port",
        ),
        (
            Flags::default(),
            &[("NATS_CERT", "c.pem")],
            "NATS_CERT, NATS_KEY: a TLS certificate and its key go together",
        ),
    ];
    for (flags, variables, wanted) in cases {
        let home = variables.iter().fold(Home::new(), |h, (k, v)| h.var(k, v));
        let e = home.load(&flags).unwrap_err().to_string();
        assert!(e.starts_with(wanted), "wanted {wanted}\nfound  {e}");
    }
}

#[test]
fn a_path_as_context_is_read_as_a_context() {
    let home = Home::new().file("x.json", r#"{"url":"nats://x"}"#);
    let c = home.connect(Layer { context: Some("~/x.json".into()), ..Layer::default() });
    assert_eq!(c.server.as_deref(), Some("nats://x"));
    assert!(Path::new(&home.path("x.json")).exists());
}
