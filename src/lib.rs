//! gatewatch: watches the gateways of a NATS supercluster and publishes what is wrong, and why.

pub mod agent;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod collect;
pub mod config;
pub mod connect;
pub mod findings;
#[cfg(feature = "lab")]
pub mod lab;
pub mod model;
pub mod publish;
