//! The agent that a benchmark measures.

use std::process::{Child, Command, Stdio};

use gatewatch::lab::Lab;

/// It is killed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Agent(pub(crate) Child);

impl Agent {
    /// Starts `binary` beside the server `at`, with `more` behind its flags.
    pub(crate) fn start(lab: &Lab, binary: &str, at: &str, more: &[&str]) -> Self {
        let child = Command::new(binary)
            .args(["run", "--name", "bench", "--inbox-prefix", "_INBOX_gatewatch", "-s"])
            .arg(lab.url(at).expect("a server of the lab"))
            .arg("--creds")
            .arg(lab.creds().expect("the lab has creds").user("gatewatch"))
            .args(more)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "error".into()))
            .stdin(Stdio::null())
            .spawn()
            .expect("the agent starts");
        Self(child)
    }

    pub(crate) fn stop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}
