//! What stands at an address where nobody can log in: told by its first words, for the sake of an error message.
//! No credentials are sent.

use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::redact;

/// How long anything is waited for: a server greets at once, also from another continent.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is read of an answer.
const BYTES_MAX: u64 = 256 * 1024;
/// What is shown of an answer that is none.
const CHARS_MAX: usize = 40;

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A port for clients, or nobody: what went wrong there is not the port.
    Nothing,
    /// A port for other servers: of gateways, routes or leaf nodes.
    Servers { what: &'static str, client: Option<String> },
    /// The HTTP port where a server shows how it is.
    Monitoring { port: Option<u16> },
    /// HTTP, and nobody knows whose.
    Http,
    /// It waits for TLS before it says a word.
    TlsFirst,
    /// It takes the connection and says nothing.
    Silent,
    /// It speaks another language.
    Other(String),
}

impl Found {
    /// Whether no client can ever log in there.
    pub(super) const fn is_wrong_port(&self) -> bool {
        matches!(self, Self::Servers { .. } | Self::Monitoring { .. } | Self::Http | Self::Other(_))
    }

    /// What it is, and what to write instead, `host` being where it is.
    pub(super) fn told(&self, host: &str) -> Option<(String, String)> {
        let default = || format!("the client port is another, 4222 by default: -s nats://{host}:4222");
        Some(match self {
            Self::Nothing => return None,
            Self::Servers { what, client } => {
                let help = client.as_ref().map(|url| format!("clients connect elsewhere: -s nats://{url}"));
                (format!("this is the port for {what}, no client port"), help.unwrap_or_else(default))
            }
            Self::Monitoring { port } => {
                let help = port.map(|port| format!("clients connect elsewhere: -s nats://{host}:{port}"));
                ("this is the HTTP monitoring port, no client port".to_owned(), help.unwrap_or_else(default))
            }
            Self::Http => ("it speaks HTTP there, not NATS".to_owned(), default()),
            Self::TlsFirst => (
                "it waits for TLS to begin, as a server with `handshake_first` does, or the gateway port of one with TLS"
                    .to_owned(),
                "begin with TLS: --tlsfirst; where that fails, look for the client port, 4222 by default".to_owned(),
            ),
            Self::Silent => (
                "it takes the connection and says nothing".to_owned(),
                format!("the server is stopped or overloaded, or {}", default()),
            ),
            Self::Other(words) => (format!("its first words are `{words}`, which is not NATS"), default()),
        })
    }
}

/// What a server says first.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Info {
    client_id: u64,
    client_ip: String,
    gateway: String,
    connect_urls: Vec<String>,
    leafnode_urls: Vec<String>,
}

/// Asks at `host` and `port`.
pub(super) async fn at(host: &str, port: u16) -> Found {
    let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect((host, port))).await else {
        return Found::Nothing;
    };
    let mut words = vec![0; 16 * 1024];
    match timeout(PATIENCE, stream.read(&mut words)).await {
        Ok(Ok(n)) if n > 0 => return greeted(words.get(..n).unwrap_or_default()),
        Ok(_) => return Found::Nothing,
        Err(_) => {}
    }
    // A port of HTTP waits for us to begin; so does one of TLS, and hangs up at what is none.
    if stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n").await.is_err() {
        return Found::Nothing;
    }
    let mut answer = Vec::new();
    let ended = timeout(PATIENCE, stream.take(BYTES_MAX).read_to_end(&mut answer)).await.is_ok();
    if answer.is_empty() && !ended { Found::Silent } else { answered(&answer) }
}

fn greeted(words: &[u8]) -> Found {
    let text = String::from_utf8_lossy(words);
    let Some(rest) = text.strip_prefix("INFO ") else {
        let line: String = text.lines().next().unwrap_or_default().chars().take(CHARS_MAX).collect();
        return Found::Other(redact::control(line.trim_end()).into_owned());
    };
    let info: Info = serde_json::from_str(rest.lines().next().unwrap_or_default()).unwrap_or_default();
    let client = info.connect_urls.first().filter(|url| is_address(url)).cloned();
    if !info.gateway.is_empty() {
        Found::Servers { what: "gateways", client: None }
    } else if !info.client_ip.is_empty() {
        Found::Nothing
    } else if info.client_id == 0 {
        Found::Servers { what: "routes", client }
    } else if !info.leafnode_urls.is_empty() {
        Found::Servers { what: "leaf nodes", client: None }
    } else {
        Found::Nothing
    }
}

/// Whether what a server calls its address may be written into a command.
fn is_address(url: &str) -> bool {
    url.len() <= 256 && url.chars().all(|c| c.is_ascii_alphanumeric() || ".:-[]_".contains(c))
}

fn answered(answer: &[u8]) -> Found {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Varz {
        server_id: String,
        port: u16,
    }
    let text = String::from_utf8_lossy(answer);
    if text.is_empty() {
        return Found::TlsFirst;
    }
    if !text.starts_with("HTTP/") {
        return greeted(answer);
    }
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let varz: Varz = serde_json::from_str(body).unwrap_or_default();
    if varz.server_id.is_empty() {
        return Found::Http;
    }
    Found::Monitoring { port: (varz.port > 0).then_some(varz.port) }
}

#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(words: &[u8]) -> [Found; 2] {
    [greeted(words), answered(words)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_tells_what_port_it_is() {
        let cases = [
            (r#"INFO {"client_id":6,"client_ip":"::1","leafnode_urls":[]}"#, Found::Nothing),
            (
                r#"INFO {"gateway":"eu","gateway_urls":["a:1"]}"#,
                Found::Servers { what: "gateways", client: None },
            ),
            (
                r#"INFO {"cluster":"eu","connect_urls":["a:4222","b:1"]}"#,
                Found::Servers { what: "routes", client: Some("a:4222".into()) },
            ),
            (r#"INFO {"connect_urls":["a; rm -rf ~"]}"#, Found::Servers { what: "routes", client: None }),
            (
                r#"INFO {"client_id":12,"leafnode_urls":["a:7422"]}"#,
                Found::Servers { what: "leaf nodes", client: None },
            ),
            ("SSH-2.0-OpenSSH_9.6\u{1b}[2J\r\nx", Found::Other(r"SSH-2.0-OpenSSH_9.6\u{1b}[2J".into())),
        ];
        for (words, found) in cases {
            assert_eq!(greeted(words.as_bytes()), found, "{words}");
        }
    }

    #[test]
    fn an_answer_tells_what_port_it_is() {
        let cases = [
            ("", Found::TlsFirst),
            ("HTTP/1.1 400 Bad Request\r\n\r\nno", Found::Http),
            (
                "HTTP/1.0 200 OK\r\n\r\n{\"server_id\":\"N\",\"port\":4333}",
                Found::Monitoring { port: Some(4333) },
            ),
            ("HTTP/1.0 200 OK\r\n\r\n{\"server_id\":\"N\",\"por", Found::Http),
        ];
        for (answer, found) in cases {
            assert_eq!(answered(answer.as_bytes()), found, "{answer}");
        }
    }
}
