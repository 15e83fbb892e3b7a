//! From findings to messages, and what becomes of a message until the server has it.

pub mod event;
mod outbox;
pub mod schema;
pub mod sign;
mod state;
mod subject;

pub use outbox::{BYTES_MAX, Message, Outbox};
pub use state::{State, StateError, StateFile};
pub use subject::{is_token, token};
