//! One gateway connection, and what went over it.

use super::chance::mix;
use super::world::{SECOND, Server, World};

/// A gateway connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Who was dialed.
    pub(super) to: usize,
    pub(super) near_cid: u32,
    pub(super) far_cid: u32,
    /// Of the dialer's socket.
    pub(super) port: u16,
    pub(super) start: u64,
    /// What is different on every link.
    pub(super) salt: u64,
    /// How much the dialer had told all, and answered, before.
    pub(super) told_before: u32,
    pub(super) replied_before: u32,
}

/// What a server has for one remote cluster.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    /// The cluster is its own.
    None,
    Up(Link),
    Down,
    /// It would connect, and is kept from it.
    Cut,
}

/// What went over a link until now; equal at both ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) msgs: u64,
    pub(super) bytes: u64,
    /// When the last of it went.
    pub(super) last_at: u64,
}

impl Link {
    /// In microseconds, as one of the two ends measures it.
    pub(super) fn rtt_us(&self, near: bool) -> u64 {
        150 + mix(self.salt ^ u64::from(near)) % 700
    }
}

impl World {
    /// What went over the link of a server: messages of clients, at a pace of its own; whatever the server tells
    /// all; and, where the link leads to the one who asks, its answers.
    pub(super) fn sent(&self, dialer: &Server, link: &Link, now: u64) -> Sent {
        let milli_per_s = 100 + link.salt % 1_900;
        let age_us = dialer.sends_until(now).saturating_sub(link.start) / 1_000;
        let of_clients = age_us.saturating_mul(milli_per_s) / SECOND;
        let told = u64::from(dialer.told.saturating_sub(link.told_before));
        let asks = self.clusters.first().is_some_and(|c| c.servers.contains(&link.to));
        let replied = if asks { u64::from(dialer.replied.saturating_sub(link.replied_before)) } else { 0 };
        let beat_bytes = 1_200 + 112 * self.clusters.len() as u64;
        let bytes = of_clients.saturating_mul(60 + (link.salt >> 16) % 400)
            + told * beat_bytes
            + replied * beat_bytes * 2
            + 4_704;
        let of_clients_at = link.start + of_clients.saturating_mul(SECOND) / milli_per_s * 1_000;
        let told_at = if told + replied > 0 { dialer.told_at } else { 0 };
        Sent { msgs: 3 + of_clients + told + replied, bytes, last_at: of_clients_at.max(told_at).min(now) }
    }
}
