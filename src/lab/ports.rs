//! Ports of one lab, which no other lab uses.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which a kernel takes the ports of outgoing connections. Inside it, a dialer that
/// retries a closed port could be given that very port and connect to itself.
const FIRST: u16 = 10_240;
const LAST: u16 = 32_000;
const BLOCK: u16 = 64;

/// Hands out ports. Each block of ports is guarded by a listener on its first one, so that labs which run
/// at once, in other processes too, keep apart even while their own ports are closed.
#[derive(Debug)]
pub(super) struct Ports {
    guards: Vec<TcpListener>,
    left: Vec<u16>,
    next_block: u16,
}

impl Ports {
    pub(super) fn new() -> Self {
        // Different starts keep labs from racing for the same blocks.
        let blocks = (LAST - FIRST) / BLOCK;
        let start = u16::try_from(std::process::id() % u32::from(blocks)).unwrap_or_default();
        Self { guards: Vec::new(), left: Vec::new(), next_block: start }
    }

    pub(super) fn take(&mut self) -> io::Result<u16> {
        let blocks = (LAST - FIRST) / BLOCK;
        for _ in 0..blocks {
            while let Some(port) = self.left.pop() {
                if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return Ok(port);
                }
            }
            let base = FIRST + self.next_block * BLOCK;
            self.next_block = (self.next_block + 1) % blocks;
            if let Ok(guard) = TcpListener::bind((Ipv4Addr::LOCALHOST, base)) {
                self.guards.push(guard);
                self.left = (base + 1..base + BLOCK).rev().collect();
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port between 10240 and 32000"))
    }
}
