//! Asking the servers, and listening to them.

pub mod decode;
