//! Every command line of the README and the docs, run as a reader would: on a lab of real servers, with an agent.
//!
//! A block ```` ```sh ```` is commands, one each line; of ```` ```console ```` those are what begins with `$ `. A second
//! word `elsewhere` says that they cannot be run here, and then `ELSEWHERE` has the reason. What is expected to end with
//! another code than 0 says so: `# ends with 2`. A block whose first line is `# NAME.toml` is that file.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use gatewatch::lab::{Auth, Lab, Spec};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::common::{LABS, WITHIN};
use crate::examples::libraries;

/// A lab that starts, and the longest sweep.
const LINE_WITHIN: Duration = Duration::from_secs(60);

/// What is not run here, by how the line begins, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo ", "builds the program, or runs this test"),
    ("docker ", "needs a container engine"),
    ("kubectl ", "needs a Kubernetes cluster"),
    ("make ", "builds the program, measures, or runs this test"),
    ("nats server ", "the stand-in for the `nats` CLI draws none of its reports"),
    ("nats-server --signal", "needs the pid file of a server of yours"),
    ("sudo ", "changes the machine"),
    ("systemctl ", "needs systemd"),
];

/// These run until they are interrupted.
const FOLLOWS: &[&str] = &["gatewatch lab simulate", "gatewatch run", "gatewatch watch", "nats sub"];
/// This wants a whole terminal, which `script` makes, and is left by `q`.
const FULL_SCREEN: &str = "gatewatch top";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[derive(Clone, Debug)]
struct Block {
    file: String,
    /// Of its first line of content.
    line: usize,
    language: String,
    elsewhere: bool,
    text: Vec<String>,
}

#[derive(Clone, Debug)]
struct Line {
    at: String,
    command: String,
    elsewhere: bool,
    ends_with: i32,
}

/// The texts whose commands are run, in the order in which they are read.
fn pages() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    ["README.md", "CONTRIBUTING.md"].map(str::to_owned).into_iter().chain(found).collect()
}

fn blocks(file: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in std::fs::read_to_string(root().join(file)).unwrap().lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(info), None) => {
                let mut words = info.split_whitespace().map(str::to_owned);
                let language = words.next().unwrap_or_default();
                let elsewhere = words.next().is_some_and(|word| word == "elsewhere");
                let (file, line) = (file.to_owned(), number + 2);
                open = Some(Block { file, line, language, elsewhere, text: Vec::new() });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push(line.trim_end().to_owned());
                open = Some(block);
            }
            (None, None) => {
                assert!(
                    !line.starts_with("    ") || !is_command(line),
                    "{file}:{}: put commands into a block ```sh, where they are run",
                    number + 1
                );
            }
        }
    }
    assert!(open.is_none(), "{file}: a block does not end");
    blocks
}

fn is_command(line: &str) -> bool {
    let programs = ["gatewatch ", "nats ", "$ ", "nats-server "];
    let mut starts = programs.iter().copied().chain(ELSEWHERE.iter().map(|(start, _)| *start));
    starts.any(|start| line.trim_start().starts_with(start))
}

fn lines(block: &Block) -> Vec<Line> {
    let prompt = match block.language.as_str() {
        "sh" => "",
        "console" => "$ ",
        _ => return Vec::new(),
    };
    let (mut lines, mut before) = (Vec::new(), String::new());
    for (offset, line) in block.text.iter().enumerate() {
        let Some(line) =
            (if before.is_empty() { line.trim_start().strip_prefix(prompt) } else { Some(&**line) })
        else {
            continue;
        };
        if let Some(part) = line.strip_suffix('\\') {
            before.push_str(part);
            continue;
        }
        let whole = std::mem::take(&mut before) + line.trim_end();
        if whole.is_empty() || whole.starts_with('#') {
            continue;
        }
        let (command, ends_with) = match whole.split_once("# ends with ") {
            Some((command, code)) => (command.trim_end(), code.trim().parse().expect("a code")),
            None => (&*whole, 0),
        };
        let at = format!("{}:{}", block.file, block.line + offset);
        let command = command.to_owned();
        lines.push(Line { at, command, elsewhere: block.elsewhere, ends_with });
    }
    lines
}

/// A home of its own with one lab, which the documented lines may end and start too.
struct Reader {
    home: tempfile::TempDir,
    agent: Option<Child>,
    /// Of its `eu-0`, while it is up.
    lab: Option<Value>,
    /// What was done to it since it was well.
    faults: String,
    /// With users and passwords, in place of an operator.
    plain: Lab,
}

impl Reader {
    async fn new() -> Self {
        let plain = Spec { auth: Auth::Users, ..Spec::new(&["one"], 1) };
        let plain = Lab::start(plain).await.unwrap();
        let home = tempfile::tempdir().unwrap();
        for part in ["docs", "scripts"] {
            symlink(root().join(part), home.path().join(part)).unwrap();
        }
        let reader = Self { home, agent: None, lab: None, faults: String::new(), plain };
        // As in a checkout: then the lab is in target/lab, and the credentials that it makes are in creds.
        for part in ["target", "creds"] {
            std::fs::create_dir(reader.home.path().join(part)).unwrap();
        }
        symlink(root().join("target/nats-server"), reader.home.path().join("target/nats-server")).unwrap();
        for user in ["gatewatch", "sys", "app"] {
            let file = format!("{user}.creds");
            symlink(Path::new("creds").join(&file), reader.home.path().join(file)).unwrap();
        }
        symlink("app.creds", reader.home.path().join("sink.creds")).unwrap();
        reader
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.home.path()).kill_on_drop(true).process_group(0);
        let program = Path::new(env!("CARGO_BIN_EXE_gatewatch")).parent().unwrap().to_owned();
        let mut path = vec![program, root().join("tests/real/documented")];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        command.env_clear().env("PATH", std::env::join_paths(path).unwrap());
        command.env("HOME", self.home.path()).env("RUST_LOG", "info").env("NO_COLOR", "1");
        command.env("PYTHONPATH", root().join("target/python"));
        for keep in ["LLVM_PROFILE_FILE", "NATS_SERVER"] {
            if let Some(value) = std::env::var_os(keep) {
                command.env(keep, value);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn output(&self, line: &str) -> Output {
        let output = timeout(LINE_WITHIN, self.command(line).output()).await;
        output.unwrap_or_else(|_| panic!("{line} did not end within {LINE_WITHIN:?}")).unwrap()
    }

    async fn must(&self, line: &str) -> String {
        let output = self.output(line).await;
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Takes note of the lab that is up, and watches it.
    async fn watch_the_lab(&mut self) {
        let status = self.must("gatewatch lab status --json").await;
        self.lab = Some(serde_json::from_str(&status).unwrap());
        let url = self.url("eu-0");
        self.must(&format!("nats context save sys --server {url} --creds ~/sys.creds --select")).await;
        // A bucket and no stream: the stream is among what is documented.
        let sink = format!("[sink]\nserver = \"{url}\"\ncreds = \"app.creds\"\nbucket = \"gatewatch\"\n");
        std::fs::write(self.home.path().join("agent.toml"), sink).unwrap();
        let run = "exec gatewatch run --name watcher --config agent.toml --creds gatewatch.creds \
                   --inbox-prefix _INBOX_gatewatch -s";
        let log = std::fs::File::create(self.home.path().join("agent.log")).unwrap();
        let agent = self.command(&format!("{run} {url}")).stdout(Stdio::null()).stderr(log).spawn();
        self.agent = Some(agent.unwrap());
        let until = Instant::now() + WITHIN;
        loop {
            let epoch = self.output("nats req gatewatch.api.epoch --raw --timeout 1s").await;
            let epoch: Value = serde_json::from_slice(&epoch.stdout).unwrap_or_default();
            if epoch["settled"] == true {
                return;
            }
            let log = || std::fs::read_to_string(self.home.path().join("agent.log"));
            assert!(Instant::now() < until, "nobody watches: {epoch} {:?}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn down(&mut self) {
        if self.lab.take().is_some() {
            self.end_agent().await;
            self.must("gatewatch lab down").await;
        }
    }

    async fn end_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            let status = interrupt(agent).await;
            assert_eq!(status, Some(0), "the agent");
        }
    }

    fn url(&self, server: &str) -> String {
        let servers = self.lab.as_ref().and_then(|lab| lab["servers"].as_array()).expect("the lab is up");
        let server = servers.iter().find(|s| s["name"] == server).expect(server);
        server["url"].as_str().unwrap().to_owned()
    }

    /// Documented are the usual port, and servers by their names; a lab has ports of its own.
    fn here(&self, text: &str) -> String {
        if text.contains("--password s3cret") {
            let text = text.replace("nats://127.0.0.1:4222", &self.plain.url("one-0").unwrap());
            return text.replace("s3cret", self.plain.password().unwrap());
        }
        let mut text = text.replace("nats://127.0.0.1:4222", "nats://eu-0:4222");
        for server in self.lab.iter().filter_map(|lab| lab["servers"].as_array()).flatten() {
            let (name, url) = (server["name"].as_str().unwrap(), server["url"].as_str().unwrap());
            for host in [format!("nats://{name}:4222"), format!("nats://{name}.example:4222")] {
                text = text.replace(&host, url);
            }
        }
        text
    }

    async fn run(&mut self, line: &Line) {
        let start = Instant::now();
        if line.command.starts_with("gatewatch lab up") {
            self.down().await;
        } else if self.lab.is_none() {
            self.must("gatewatch lab up --jetstream").await;
            self.watch_the_lab().await;
        }
        if line.command.starts_with("gatewatch lab down") {
            self.end_agent().await;
            self.lab = None;
        }
        let command = self.here(&line.command);
        if command.split_whitespace().take(2).eq(FULL_SCREEN.split(' ')) {
            let inside = format!("stty rows 24 cols 80; {command}");
            let shown = format!("(sleep 3; printf q) | TERM=xterm script -qec '{inside}' /dev/null");
            let shown = self.must(&shown).await;
            assert!(shown.contains("eu"), "{}: {shown}", line.at);
        } else if FOLLOWS.iter().any(|start| command.starts_with(start)) && !command.contains("--count") {
            self.follow(line, &command).await;
        } else {
            let output = self.output(&command).await;
            let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let all =
                format!("{}: {}\n{}{}", line.at, line.command, told(&output.stdout), told(&output.stderr));
            assert_eq!(output.status.code(), Some(line.ends_with), "{all}");
            assert!(!all.contains("panicked"), "{all}");
        }
        if line.command.starts_with("gatewatch lab up") {
            self.watch_the_lab().await;
        }
        if let Some(fault) = line.command.strip_prefix("gatewatch lab ") {
            let mends = ["up", "down", "heal", "start"].iter().any(|mend| fault.starts_with(mend));
            self.faults = if mends { String::new() } else { self.faults.clone() + fault };
        }
        eprintln!("{:>6} ms  {}: {}", start.elapsed().as_millis(), line.at, line.command);
    }

    /// A file that commands use, or a part of a configuration: it can be read.
    async fn keep(&mut self, block: &Block) {
        let mut text = self.here(&block.text.join("\n"));
        let name = block.text[0].strip_prefix("# ").filter(|name| Path::new(name).extension().is_some());
        if let Some(name) = name {
            std::fs::write(self.home.path().join(name), &text).unwrap();
        }
        if text.contains("[[cluster]]") {
            return;
        }
        if !self.home.path().join("healthy.json").exists() {
            let at = format!("{}:{}", block.file, block.line);
            let command = "gatewatch sweep -o healthy.json".to_owned();
            self.run(&Line { at, command, elsewhere: false, ends_with: 0 }).await;
        }
        text.push('\n');
        std::fs::write(self.home.path().join("part.toml"), text).unwrap();
        self.must("gatewatch judge --config part.toml healthy.json").await;
    }

    /// It says something, and ends when it is interrupted.
    async fn follow(&self, line: &Line, command: &str) {
        let mut child = self.command(&format!("exec {command}")).spawn().unwrap();
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut said = Vec::new();
        let first = timeout(WITHIN, async {
            tokio::select! {
                read = out.read_buf(&mut said) => read,
                () = ready(&mut err) => Ok(1),
            }
        });
        let first = first.await.unwrap_or_else(|_| panic!("{}: says nothing", line.at)).unwrap();
        assert!(first > 0, "{}: ended at once", line.at);
        let status = interrupt(child).await;
        assert_eq!(status, Some(line.ends_with), "{}: {command}", line.at);
    }

    /// Whoever followed a page to its end left a lab that is well.
    async fn leaves_nothing(&self, page: &str) {
        if self.lab.is_none() {
            return;
        }
        let status: Value = serde_json::from_str(&self.must("gatewatch lab status --json").await).unwrap();
        assert_eq!(status["faults"], serde_json::json!([]), "{page}: end with `gatewatch lab heal`");
        let down = status["servers"].as_array().unwrap().iter().find(|server| server["pid"].is_null());
        assert!(down.is_none(), "{page}: end with `gatewatch lab start`: {down:?}");
    }
}

impl Drop for Reader {
    /// A lab is a process of its own: it must not outlive a test that fails.
    fn drop(&mut self) {
        if let Some(pid) = self.lab.as_ref().and_then(|lab| lab["pid"].as_i64()) {
            let _ =
                nix::sys::signal::kill(Pid::from_raw(pid.try_into().unwrap_or(i32::MAX)), Signal::SIGTERM);
        }
    }
}

/// Until it says on standard error that it is connected.
async fn ready(err: &mut (impl AsyncRead + Unpin)) {
    let mut said = Vec::new();
    while err.read_buf(&mut said).await.is_ok_and(|read| read > 0) {
        let said = String::from_utf8_lossy(&said);
        if ["following", "connected", "Subscribing"].iter().any(|word| said.contains(word)) {
            return;
        }
    }
    panic!("it ended: {}", String::from_utf8_lossy(&said));
}

async fn interrupt(mut child: Child) -> Option<i32> {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
    killpg(Pid::from_raw(group), Signal::SIGINT).unwrap();
    timeout(WITHIN, child.wait()).await.expect("it ends").unwrap().code()
}

#[test]
fn what_is_not_run_here_has_a_reason() {
    let mut used = BTreeSet::new();
    for line in pages().iter().flat_map(|page| blocks(page)).flat_map(|block| lines(&block)) {
        let reason = ELSEWHERE.iter().find(|(start, _)| line.command.starts_with(start));
        match reason {
            Some((start, _)) => {
                assert!(line.elsewhere, "{}: its block is ```sh elsewhere: {}", line.at, line.command);
                used.insert(*start);
            }
            None => assert!(
                !line.elsewhere,
                "{}: nothing says why this is not run here, so run it: {}",
                line.at, line.command
            ),
        }
    }
    let all: BTreeSet<&str> = ELSEWHERE.iter().map(|(start, _)| *start).collect();
    assert_eq!(used, all, "left is what is documented and not run; right is what has a reason");
}

#[tokio::test]
async fn every_documented_command_does_what_it_says() {
    libraries().await;
    let _permit = LABS.acquire_many(2).await.unwrap();
    let mut reader = Reader::new().await;
    let (mut ran, mut done) = (0, BTreeSet::new());
    for page in pages() {
        for block in blocks(&page) {
            if block.language == "toml" {
                reader.keep(&block).await;
            }
            for line in lines(&block).into_iter().filter(|line| !line.elsewhere) {
                // What only asks says the same on every page; what changes something is done each time.
                let asks = !line.command.starts_with("gatewatch lab");
                if asks && line.ends_with == 0 && !done.insert((line.command.clone(), reader.faults.clone()))
                {
                    continue;
                }
                reader.run(&line).await;
                ran += 1;
            }
        }
        reader.leaves_nothing(&page).await;
    }
    reader.down().await;
    eprintln!("{ran} lines");
    assert!(ran > 20, "found hardly a command");
}
