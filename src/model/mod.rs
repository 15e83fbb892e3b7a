//! What was seen, as one immutable value: the [`Snapshot`].
//!
//! The [`Roster`] is the memory between two looks: it takes in what was answered and heard, in any order,
//! and builds a snapshot when a look is over. Pure: no clock, no IO, no randomness.

mod facts;
mod roster;
mod snapshot;
mod time;

pub use facts::{
    Connection, Fact, GatewayConfig, Gatewayz, Name, Outbound, RoutePeer, Routez, ServerInfo, Signal, Statsz,
    Varz,
};
pub use roster::{Look, Odd, Roster, SERVERS_MAX};
pub use snapshot::{
    Cluster, Complaint, Life, Link, LinkState, Observer, Outbox, Refusal, Rejection, Server, Sight, Snapshot,
    Vantage, version,
};
pub use time::Time;
