//! `gatewatch top` in a terminal, beside a running agent: what is drawn is read as a terminal reads it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{WITHIN, Watch, gatewatch};
use gatewatch::lab::Spec;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

const ROWS: usize = 24;
const COLUMNS: usize = 100;

/// What a terminal shows, of the few sequences that are sent to it.
#[derive(Debug)]
struct Shown {
    cells: Vec<Vec<char>>,
    at: (usize, usize),
    sequence: String,
    /// All that came.
    raw: String,
}

impl Shown {
    fn new() -> Self {
        Self {
            cells: vec![vec![' '; COLUMNS]; ROWS],
            at: (0, 0),
            sequence: String::new(),
            raw: String::new(),
        }
    }

    fn feed(&mut self, text: &str) {
        self.raw.push_str(text);
        for c in text.chars() {
            if !self.sequence.is_empty() || c == '\u{1b}' {
                self.sequence.push(c);
                let is_csi = self.sequence.starts_with("\u{1b}[");
                if (is_csi && self.sequence.len() > 2 && ('@'..='~').contains(&c))
                    || (!is_csi && self.sequence.len() == 2 && c != '[')
                {
                    self.obey();
                }
                continue;
            }
            match c {
                '\r' => self.at.1 = 0,
                '\n' => self.at.0 += 1,
                c => {
                    if let Some(cell) = self.cells.get_mut(self.at.0).and_then(|row| row.get_mut(self.at.1)) {
                        *cell = c;
                    }
                    self.at.1 += 1;
                }
            }
        }
    }

    fn obey(&mut self) {
        let sequence = std::mem::take(&mut self.sequence);
        let inner = sequence.trim_start_matches("\u{1b}[");
        if let Some(place) = inner.strip_suffix('H') {
            let mut numbers = place.split(';').map(|n| n.parse().unwrap_or(1_usize));
            self.at = (numbers.next().unwrap_or(1) - 1, numbers.next().unwrap_or(1) - 1);
        } else if inner == "2J" || inner == "?1049h" {
            self.cells = vec![vec![' '; COLUMNS]; ROWS];
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for row in &self.cells {
            let _ = writeln!(out, "{}", row.iter().collect::<String>().trim_end());
        }
        out
    }
}

/// A shell in a terminal of its own that runs `gatewatch top`.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Shown>>,
    dir: PathBuf,
}

impl Terminal {
    fn open(watch: &Watch) -> Self {
        let dir = watch.dir().to_owned();
        let url = watch.lab.url("us-0").unwrap();
        let creds = watch.lab.creds().unwrap().user("app");
        let line = format!(
            "stty rows {ROWS} cols {COLUMNS}; stty -g > before; \
             sh -c 'echo $$ > pid; exec {} top -s {url} --creds {}'; echo \"left with $?\"; stty -g > after",
            env!("CARGO_BIN_EXE_gatewatch"),
            creds.display(),
        );
        let mut command = Command::new("script");
        command.args(["-qfec", &line, "/dev/null"]).current_dir(&dir).env_clear().kill_on_drop(true);
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("SHELL", "/bin/sh").env("HOME", &dir);
        command.env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
        if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
            command.env("LLVM_PROFILE_FILE", profile);
        }
        let mut script = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("needs `script` (of util-linux), which opens a terminal");
        let shown = Arc::new(Mutex::new(Shown::new()));
        let mut output = script.stdout.take().unwrap();
        tokio::spawn({
            let shown = Arc::clone(&shown);
            async move {
                let (mut bytes, mut rest) = (vec![0; 64 * 1024], Vec::new());
                while let Ok(len @ 1..) = output.read(&mut bytes).await {
                    rest.extend_from_slice(&bytes[..len]);
                    let whole = match std::str::from_utf8(&rest) {
                        Ok(text) => text.len(),
                        Err(e) => e.valid_up_to(),
                    };
                    let text: Vec<u8> = rest.drain(..whole).collect();
                    shown.lock().unwrap().feed(std::str::from_utf8(&text).unwrap());
                }
            }
        });
        Self { keys: script.stdin.take().unwrap(), script, shown, dir }
    }

    async fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let until = Instant::now() + WITHIN;
        loop {
            let text = self.shown.lock().unwrap().text();
            if wanted(&text) {
                return;
            }
            assert!(Instant::now() < until, "{what} is not shown:\n{text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.unwrap();
        self.keys.flush().await.unwrap();
    }

    /// The program ended well, and the terminal is as it was.
    async fn gives_back(mut self) {
        let status = tokio::time::timeout(WITHIN, self.script.wait()).await.expect("it ends").unwrap();
        assert!(status.success());
        let until = Instant::now() + WITHIN;
        while !self.shown.lock().unwrap().raw.contains("left with") {
            assert!(Instant::now() < until, "{}", self.shown.lock().unwrap().raw);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let raw = self.shown.lock().unwrap().raw.clone();
        let (picture, after) = raw.rsplit_once("\u{1b}[?1049l").expect("it leaves its own screen");
        assert!(picture.contains("\u{1b}[?1049h") && raw.contains("\u{1b}[?25h"), "the cursor is back");
        assert_eq!(after.trim_start_matches("\u{1b}[?25h").trim(), "left with 0");
        let read = |name: &str| std::fs::read_to_string(self.dir.join(name)).unwrap();
        assert_eq!(read("before"), read("after"), "the modes of the terminal");
    }
}

#[tokio::test]
async fn top_shows_a_cut_link_and_gives_the_terminal_back() {
    let mut watch = Watch::start(Spec::default()).await;
    let mut terminal = Terminal::open(&watch);
    terminal
        .shows("a whole supercluster", |t| {
            t.contains(" OK ") && t.contains("links 18/18") && t.contains("3/3")
        })
        .await;

    let mark = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    let summary = "us-1 (us) has no gateway to ap";
    terminal
        .shows("the cut link", |t| {
            t.contains(" CRITICAL ") && t.contains(summary) && t.contains("!2/3") && t.contains("path_cut")
        })
        .await;
    terminal.press("?").await;
    terminal.shows("the help", |t| t.contains("keys and signs")).await;
    terminal.press("x").await;
    terminal.shows("all again", |t| t.contains(summary)).await;
    // The sequence of an arrow, in two parts, is no escape: the row of `us` is chosen.
    terminal.press("\t\t\t\x1b").await;
    terminal.press("[B\x1b[B").await;
    terminal.shows("a cell's words", |t| t.contains("us to ap: 2 of 3 links up; lost: us-1")).await;
    terminal.press("q").await;
    terminal.gives_back().await;

    // Told to end by a signal, it leaves the terminal in order, too.
    let terminal = Terminal::open(&watch);
    terminal.shows("the finding, which was open before", |t| t.contains(summary) && t.contains("!2/3")).await;
    let pid = std::fs::read_to_string(watch.dir().join("pid")).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    terminal.gives_back().await;

    watch.lab.heal("us-1", "ap").await.unwrap();
    let opened = watch.findings(mark).into_iter().find(|e| e.is("opened")).unwrap();
    watch.resolves(mark, &opened).await;

    // Without an agent it says so, and what to do.
    let mut terminal = Terminal::open(&watch);
    terminal.shows("a whole supercluster", |t| t.contains(" OK ")).await;
    watch.end_agent(Signal::SIGTERM).await;
    terminal.shows("that nobody watches", |t| t.contains("NOBODY WATCHES: start `gatewatch run`")).await;
    terminal.press("q").await;
    terminal.gives_back().await;
}

#[tokio::test]
async fn in_a_pipe_top_names_what_to_use_instead() {
    let output = gatewatch().arg("top").output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        text,
        "error: `gatewatch top` needs a terminal, and standard output is no terminal\nhelp: in a pipe or a \
         script, `gatewatch watch` follows findings and `gatewatch check` looks once\n"
    );
}
