//! One TCP proxy between one dialing server and one target server, and what can go wrong on it.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::wire::{Directory, Rewriter};

/// How many bytes wait inside a proxy in one direction before it stops reading.
const HELD_BYTES_MAX: usize = 256 * 1024;
/// How much the kernel holds for a proxy that does not read.
const RECEIVE_BUFFER_BYTES: u32 = 128 * 1024;
/// The longest that one read may take to be passed on when throttled, so that a slow link stays smooth.
const THROTTLE_STEP: Duration = Duration::from_millis(50);
/// A child of ours that is just being started holds a copy of our sockets until its own program runs: so long
/// may a port that was closed stay taken.
const TAKEN_MAX: Duration = Duration::from_secs(10);

/// Which bytes a black hole swallows.
#[derive(Clone, Copy, Debug, serde::Deserialize, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Both directions.
    Both,
    /// Only what the dialer sends. All messages of an outbound gateway go this way.
    FromDialer,
    /// Only what the acceptor sends: its interest, its pongs.
    FromAcceptor,
}

impl Direction {
    /// The same bytes, where the other side dialed.
    pub(super) fn turned(self) -> Self {
        match self {
            Self::Both => Self::Both,
            Self::FromDialer => Self::FromAcceptor,
            Self::FromAcceptor => Self::FromDialer,
        }
    }
}

/// What happens to a new connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Door {
    /// It is taken to the target.
    #[default]
    Open,
    /// It is refused, as by a host without a listener.
    Shut,
    /// It is accepted, then reset.
    Reject,
}

/// The state of a link, from healthy (the default) to anything that an operation made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Condition {
    pub(super) door: Door,
    pub(super) muted: Option<Direction>,
    pub(super) bytes_per_s: Option<u64>,
    pub(super) delay: Duration,
    /// The acceptor's side is closed, the dialer's stays open and is read to nowhere.
    pub(super) half_open: bool,
}

impl Condition {
    fn mutes(&self, way: Way) -> bool {
        match self.muted {
            None => false,
            Some(Direction::Both) => true,
            Some(Direction::FromDialer) => way == Way::FromDialer,
            Some(Direction::FromAcceptor) => way == Way::FromAcceptor,
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = Vec::new();
        match self.door {
            Door::Open => {}
            Door::Shut => words.push("cut".to_owned()),
            Door::Reject => words.push("rejecting".to_owned()),
        }
        words.extend(self.muted.map(|direction| match direction {
            Direction::Both => "black hole".to_owned(),
            Direction::FromDialer => "black hole from the dialer".to_owned(),
            Direction::FromAcceptor => "black hole from the acceptor".to_owned(),
        }));
        words.extend(self.bytes_per_s.map(|rate| format!("at most {rate} bytes/s")));
        if !self.delay.is_zero() {
            words.push(format!("delayed by {} ms", self.delay.as_millis()));
        }
        if self.half_open {
            words.push("half open".to_owned());
        }
        f.write_str(&words.join(", "))
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    FromDialer,
    FromAcceptor,
}

/// One link's proxy. Its port is its own for the life of the lab.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) dialer: usize,
    pub(super) target: usize,
    pub(super) port: u16,
    condition: watch::Sender<Condition>,
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Shared {
    dialer: usize,
    target: usize,
    address: std::sync::Mutex<SocketAddrV4>,
    directory: Arc<Directory>,
}

#[derive(Debug)]
struct Inner {
    /// Whether the target listens. While it does not, neither do we: a dialer sees what it would see
    /// without a proxy.
    target_up: bool,
    listener: Option<JoinHandle<()>>,
    /// Each connection holds a receiver; `true` resets it.
    life: watch::Sender<bool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
        }
        self.life.send_replace(true);
    }
}

impl Proxy {
    /// A proxy that refuses until its target is up.
    pub(super) fn new(
        dialer: usize,
        target: usize,
        port: u16,
        address: SocketAddrV4,
        directory: Arc<Directory>,
    ) -> Self {
        Self {
            dialer,
            target,
            port,
            condition: watch::Sender::new(Condition::default()),
            shared: Arc::new(Shared { dialer, target, address: std::sync::Mutex::new(address), directory }),
            inner: Mutex::new(Inner { target_up: false, listener: None, life: watch::Sender::new(false) }),
        }
    }

    pub(super) fn condition(&self) -> Condition {
        *self.condition.borrow()
    }

    pub(super) fn set_address(&self, address: SocketAddrV4) {
        *self.shared.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Changes the link's condition; done when the listener stands as it should.
    pub(super) async fn set(&self, edit: impl FnOnce(&mut Condition)) -> io::Result<()> {
        let mut inner = self.inner.lock().await;
        self.condition.send_modify(edit);
        self.settle(&mut inner).await
    }

    /// The target began or ceased to listen.
    pub(super) async fn set_target_up(&self, up: bool) -> io::Result<()> {
        let mut inner = self.inner.lock().await;
        inner.target_up = up;
        self.settle(&mut inner).await
    }

    /// Resets every open connection; done when all are gone.
    pub(super) async fn reset(&self) {
        let mut inner = self.inner.lock().await;
        let old = std::mem::replace(&mut inner.life, watch::Sender::new(false));
        // The accept loop hands out receivers of the old sender: let it start anew.
        let listening = inner.listener.is_some();
        if listening {
            self.close(&mut inner).await;
        }
        old.send_replace(true);
        if listening && let Err(error) = self.settle(&mut inner).await {
            tracing::error!(port = self.port, %error, "cannot listen again");
        }
        drop(inner);
        old.closed().await;
    }

    async fn settle(&self, inner: &mut Inner) -> io::Result<()> {
        let wanted = inner.target_up && self.condition.borrow().door != Door::Shut;
        if !wanted {
            self.close(inner).await;
        } else if inner.listener.is_none() {
            let listener = bind_again(self.port).await?;
            inner.listener = Some(tokio::spawn(accept(
                listener,
                Arc::clone(&self.shared),
                self.condition.subscribe(),
                inner.life.subscribe(),
            )));
        }
        Ok(())
    }

    /// Awaits the end of the task, so that the port refuses when this returns.
    async fn close(&self, inner: &mut Inner) {
        if let Some(listener) = inner.listener.take() {
            listener.abort();
            drop(listener.await);
        }
    }
}

async fn bind_again(port: u16) -> io::Result<TcpListener> {
    let until = Instant::now() + TAKEN_MAX;
    loop {
        match bind(port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            bound => return bound,
        }
    }
}

fn bind(port: u16) -> io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    // Connections of a moment ago may still be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    // A link that is slowed shows at its dialer soon, and not only when the kernel's buffers are full.
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(1024)
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    condition: watch::Receiver<Condition>,
    life: watch::Receiver<bool>,
) {
    loop {
        match listener.accept().await {
            Ok((dialer, _)) if condition.borrow().door == Door::Reject => drop(dialer.set_zero_linger()),
            Ok((dialer, _)) => {
                drop(tokio::spawn(connection(dialer, Arc::clone(&shared), condition.clone(), life.clone())));
            }
            Err(error) => {
                tracing::warn!(%error, "a proxy cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// How a connection ends: in order, by a reset that both sides get to see, or for the acceptor alone.
enum End {
    Closed,
    Reset,
    HalfOpen,
}

async fn connection(
    mut dialer: TcpStream,
    shared: Arc<Shared>,
    mut condition: watch::Receiver<Condition>,
    mut life: watch::Receiver<bool>,
) {
    if !condition.borrow().half_open {
        match carry(&mut dialer, &shared, &mut condition, &mut life).await {
            End::Closed => return,
            End::Reset => return drop(dialer.set_zero_linger()),
            End::HalfOpen => {}
        }
    }
    let mut nowhere = tokio::io::sink();
    tokio::select! {
        _ = tokio::io::copy(&mut dialer, &mut nowhere) => {}
        _ = condition.wait_for(|now| !now.half_open) => {}
        _ = life.wait_for(|reset| *reset) => {}
    }
    drop(dialer.set_zero_linger());
}

/// Carries a connection until it ends; the acceptor's side is gone then.
async fn carry(
    dialer: &mut TcpStream,
    shared: &Shared,
    condition: &mut watch::Receiver<Condition>,
    life: &mut watch::Receiver<bool>,
) -> End {
    let target = *shared.address.lock().unwrap_or_else(PoisonError::into_inner);
    let acceptor = tokio::select! {
        acceptor = TcpStream::connect(SocketAddr::from(target)) => acceptor,
        _ = life.wait_for(|reset| *reset) => Err(io::ErrorKind::ConnectionReset.into()),
    };
    let Ok(mut acceptor) = acceptor else { return End::Reset };
    drop(dialer.set_nodelay(true));
    drop(acceptor.set_nodelay(true));
    let end = {
        let (dialer_read, dialer_write) = dialer.split();
        let (acceptor_read, acceptor_write) = acceptor.split();
        let directory = &shared.directory;
        let (forth, back) = (condition.clone(), condition.clone());
        tokio::select! {
            end = pump(Way::FromDialer, dialer_read, acceptor_write, forth, shared.target, directory) => end,
            end = pump(Way::FromAcceptor, acceptor_read, dialer_write, back, shared.dialer, directory) => end,
            _ = condition.wait_for(|now| now.half_open) => End::HalfOpen,
            _ = life.wait_for(|reset| *reset) => End::Reset,
        }
    };
    if matches!(end, End::Reset) {
        drop(acceptor.set_zero_linger());
    }
    end
}

/// Carries one direction until it ends. `reader` is the server that reads what is written.
async fn pump(
    way: Way,
    mut from: tokio::net::tcp::ReadHalf<'_>,
    mut to: tokio::net::tcp::WriteHalf<'_>,
    mut condition: watch::Receiver<Condition>,
    reader: usize,
    directory: &Directory,
) -> End {
    let mut rewriter = Rewriter::new(reader);
    let mut buffer = vec![0; 32 * 1024];
    let mut held: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut held_bytes = 0;
    let mut ended = false;
    let mut free_at = Instant::now();
    loop {
        let now = *condition.borrow_and_update();
        let muted = now.mutes(way);
        let due = held.front().map(|(due, _)| (*due).max(free_at));
        if ended && due.is_none() {
            return End::Closed;
        }
        let room = read_bytes_max(now.bytes_per_s).min(buffer.len());
        let Some(space) = buffer.get_mut(..room) else { return End::Reset };
        tokio::select! {
            changed = condition.changed() => {
                if changed.is_err() {
                    return End::Reset;
                }
                free_at = Instant::now();
            }
            read = from.read(space), if !muted && !ended && held_bytes < HELD_BYTES_MAX => match read {
                Ok(0) => ended = true,
                Ok(count) => {
                    let mut bytes = Vec::with_capacity(count);
                    rewriter.feed(directory, space.get(..count).unwrap_or_default(), &mut bytes);
                    if !bytes.is_empty() {
                        held_bytes += bytes.len();
                        held.push_back((Instant::now() + now.delay, bytes));
                    }
                }
                Err(_) => return End::Reset,
            },
            () = until(due), if !muted => {
                let Some((_, bytes)) = held.pop_front() else { continue };
                held_bytes -= bytes.len();
                if to.write_all(&bytes).await.is_err() {
                    return End::Reset;
                }
                if let Some(rate) = now.bytes_per_s {
                    free_at = Instant::now() + Duration::from_secs_f64(bytes.len() as f64 / rate.max(1) as f64);
                }
            }
        }
    }
}

fn read_bytes_max(bytes_per_s: Option<u64>) -> usize {
    bytes_per_s.map_or(usize::MAX, |rate| {
        let step = u128::from(rate) * THROTTLE_STEP.as_millis() / 1000;
        usize::try_from(step).unwrap_or(usize::MAX).max(64)
    })
}

async fn until(due: Option<Instant>) {
    match due {
        // The timer rounds up to a millisecond, which a link without delay must not cost.
        Some(due) if due <= Instant::now() => {}
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ports::Ports;
    use super::*;

    #[tokio::test]
    async fn a_port_that_stays_taken_for_a_moment_is_listened_at_again() {
        let mut ports = Ports::new();
        let port = ports.take().unwrap();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, ports.take().unwrap());
        let proxy = Proxy::new(0, 1, port, address, Arc::default());
        proxy.set_target_up(true).await.unwrap();
        proxy.set(|link| link.door = Door::Shut).await.unwrap();
        let copy = bind(port).unwrap();
        let freed = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(copy);
        });
        proxy.set(|link| link.door = Door::Open).await.unwrap();
        assert!(freed.is_finished());
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }
}
