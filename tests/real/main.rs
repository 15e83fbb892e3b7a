//! What needs real nats-servers, in one program: so many superclusters run at once as two cores carry, whatever
//! is tested with them.
#![cfg(feature = "lab")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

mod catalogue;
mod check;
mod common;
mod company;
mod documented;
mod examples;
mod exports;
mod forged;
mod hostile;
mod lab;
mod least;
mod level;
mod mistakes;
mod operator;
mod scale;
mod service;
mod sign;
mod silence;
mod simulate;
mod sink;
mod soak;
mod sweep;
mod top;
mod topology;
mod traffic;
mod vantages;
