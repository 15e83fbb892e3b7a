//! gatewatch: watches the gateways of a NATS supercluster and publishes what is wrong, and why.

pub mod checks;
pub mod cli;
pub mod config;
pub mod connect;
#[cfg(feature = "lab")]
pub mod lab;
pub mod model;
