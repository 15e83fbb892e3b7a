//! Asking the servers, and listening to them.
//!
//! A [`Look`] is one round of requests: its replies carry its number, so that one which comes late is known
//! for what it is. Pure as far as it goes: what is to be sent is returned, what came is handed in.

pub mod decode;
mod late;
mod look;
mod parts;
mod request;

pub use late::Late;
pub use look::{Arrival, Look, Pace};
pub use parts::{Part, Share, Sizes, parts};
pub use request::{Request, Target, parse_inbox};

/// What is listened to: the second part says what it is.
pub const HEARTBEAT: &str = "$SYS.SERVER.*.STATSZ";
/// A server stops.
pub const SHUTDOWN: &str = "$SYS.SERVER.*.SHUTDOWN";
/// A server sends its clients away.
pub const LAMEDUCK: &str = "$SYS.SERVER.*.LAMEDUCK";
/// A server refused a login.
pub const AUTH_ERROR: &str = "$SYS.SERVER.*.CLIENT.AUTH.ERR";
