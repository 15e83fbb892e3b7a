//! The client's side of the NATS protocol, as much of it as is needed here.
//!
//! A client library would do, but for two things: it cannot write the status of a server that nobody answers
//! for, and each message costs it more than writing the message.

use std::io::{self, ErrorKind};

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Longer lines and bodies than this are not for us.
const BYTES_MAX: usize = 1024 * 1024;

/// What came.
#[derive(Debug)]
pub(super) enum Incoming {
    Ping,
    Request(Request),
}

/// A message.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) subject: String,
    /// Where the answers go; none where none is wanted.
    pub(super) reply: Option<String>,
    /// What the answers may be encoded as.
    pub(super) encoding: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Who the server says it is.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) server_id: String,
}

/// Reads messages.
#[derive(Debug)]
pub(super) struct Reader<R> {
    half: R,
    buffer: Vec<u8>,
    /// How much of it is done with.
    done: usize,
}

/// Connects and subscribes to `subjects`. Done when the server has them.
pub(super) async fn connect(
    port: u16,
    user: &str,
    password: &str,
    subjects: &[&str],
) -> io::Result<(Info, Reader<OwnedReadHalf>, OwnedWriteHalf)> {
    let stream = TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let (half, mut writer) = stream.into_split();
    let mut reader = Reader::new(half);
    let line = reader.line().await?;
    let info = line.strip_prefix("INFO ").ok_or_else(|| bad(&line))?;
    let info = serde_json::from_str(info).map_err(|error| bad(&error.to_string()))?;
    let connect = serde_json::json!({
        "verbose": false, "pedantic": false, "user": user, "pass": password, "name": "gatewatch lab simulate",
        "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "protocol": 1, "echo": false, "headers": true,
        "no_responders": true,
    });
    let mut text = format!("CONNECT {connect}\r\n");
    for (subject, number) in subjects.iter().zip(1..) {
        text.extend(["SUB ", subject, " ", &i32::to_string(&number), "\r\n"]);
    }
    text += "PING\r\n";
    writer.write_all(text.as_bytes()).await?;
    let line = reader.line().await?;
    if line == "PONG" { Ok((info, reader, writer)) } else { Err(bad(&line)) }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the nats-server says {what:?}"))
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(half: R) -> Self {
        Self { half, buffer: Vec::new(), done: 0 }
    }

    /// The next of what matters. Nothing is lost when it is not waited for to the end.
    pub(super) async fn next(&mut self) -> io::Result<Incoming> {
        loop {
            while let Some((line, end)) = self.peek() {
                let mut words = line.split_ascii_whitespace();
                match words.next().unwrap_or_default() {
                    "PING" => {
                        self.done = end;
                        return Ok(Incoming::Ping);
                    }
                    verb @ ("MSG" | "HMSG") => {
                        let words: Vec<&str> = words.collect();
                        let with_headers = verb == "HMSG";
                        let Some((request, bytes)) = self.request(&words, with_headers, end)? else { break };
                        self.done = end + bytes + 2;
                        return Ok(Incoming::Request(request));
                    }
                    "-ERR" => return Err(bad(line)),
                    _ => self.done = end,
                }
            }
            self.more().await?;
        }
    }

    /// The request that a line announces; none where it is not all there.
    fn request(
        &self,
        words: &[&str],
        with_headers: bool,
        from: usize,
    ) -> io::Result<Option<(Request, usize)>> {
        let sizes = if with_headers { 2 } else { 1 };
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok());
        let (Some(subject), Some(bytes)) = (words.first(), number(words.len().saturating_sub(1))) else {
            return Err(bad("a message without a size"));
        };
        let header_bytes =
            if with_headers { number(words.len().saturating_sub(2)).unwrap_or_default() } else { 0 };
        if bytes > BYTES_MAX || header_bytes > bytes {
            return Err(bad("a message that is too large"));
        }
        let Some(all) = self.buffer.get(from..from + bytes) else { return Ok(None) };
        if self.buffer.len() < from + bytes + 2 {
            return Ok(None);
        }
        let (headers, body) = all.split_at(header_bytes);
        let headers = String::from_utf8_lossy(headers);
        // Servers compare it by case.
        let encoding = headers.lines().find_map(|line| line.strip_prefix("Accept-Encoding:"));
        let request = Request {
            subject: (*subject).to_owned(),
            reply: (words.len() == 3 + sizes).then(|| words.get(2)).flatten().map(|&reply| reply.to_owned()),
            encoding: encoding.map(|value| value.trim().to_owned()),
            body: body.to_vec(),
        };
        Ok(Some((request, bytes)))
    }

    /// The next line and where the one after it begins.
    fn peek(&self) -> Option<(&str, usize)> {
        let rest = self.buffer.get(self.done..)?;
        let length = rest.iter().position(|byte| *byte == b'\n')?;
        let line = rest.get(..length).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
        Some((line.trim_end(), self.done + length + 1))
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some((line, end)) = self.peek() {
                let line = line.to_owned();
                self.done = end;
                return Ok(line);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.done);
        self.done = 0;
        if self.buffer.len() > 2 * BYTES_MAX {
            return Err(bad("a line without an end"));
        }
        match self.half.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Appends one message to what is to be sent.
pub(super) fn publish(out: &mut Vec<u8>, subject: &str, encoding: Option<&str>, body: &[u8]) {
    match encoding {
        Some(encoding) => {
            let headers = format!("NATS/1.0\r\nContent-Encoding: {encoding}\r\n\r\n");
            let all = headers.len() + body.len();
            out.extend_from_slice(format!("HPUB {subject} {} {all}\r\n{headers}", headers.len()).as_bytes());
        }
        None => out.extend_from_slice(format!("PUB {subject} {}\r\n", body.len()).as_bytes()),
    }
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

/// Appends what a server says for a subject that nobody listens to.
pub(super) fn no_responders(out: &mut Vec<u8>, subject: &str) {
    const STATUS: &str = "NATS/1.0 503\r\n\r\n";
    let size = STATUS.len();
    out.extend_from_slice(format!("HPUB {subject} {size} {size}\r\n{STATUS}\r\n").as_bytes());
}
