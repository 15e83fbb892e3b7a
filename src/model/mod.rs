//! What was seen, as one immutable value: the [`Snapshot`].
//!
//! The [`Roster`] is the memory between two looks: it takes in what was answered and heard, in any order,
//! and builds a snapshot when a look is over. Pure: no clock, no IO, no randomness.

mod facts;
mod file;
mod flow;
mod gateways;
mod index;
mod lean;
mod matrix;
mod name;
mod packed;
mod pressure;
mod roster;
mod route_peers;
mod routes;
mod shared;
mod snapshot;
mod sorted;
mod time;
mod topology;
mod traffic;

pub use facts::{
    Account, Accountz, ByKind, Configured, Connection, Fact, GatewayConfig, Gatewayz, Interest,
    InterestModes, Jsz, Led, Outbound, RoutePeer, Routez, ServerInfo, Signal, Statsz, ToldGateway, Traffic,
    TrafficOf, Urls, Varz,
};
#[cfg(test)]
pub(crate) use file::Written;
pub use file::{FILE_BYTES_MAX, FileError};
pub use flow::{Flow, Heard, Trouble};
pub use gateways::{Inbounds, Outbounds, imprint};
pub use matrix::{Cell, CellState, LeftOut, Matrix, Seat, Seen};
pub use name::Name;
pub use pressure::{PRESSED_BYTES, Pressure, Rtt};
pub use roster::{CLUSTERS_MAX, Glance, Look, Odd, Order, Roster, SERVERS_MAX};
pub use route_peers::RoutePeers;
pub use shared::Shared;
use snapshot::heartbeat_interval;
pub use snapshot::{
    Cluster, Complaint, Life, Link, LinkState, Observer, Outbox, Refusal, Rejection, Server, Sight,
    SinkTrouble, Snapshot, Vantage, Way, version,
};
pub use time::Time;
pub use topology::{Members, NAME_BYTES_MAX, Remotes, Tie, Topology, is_name};
pub use traffic::{AccountView, Doubt, Moved, Movement};
