//! What was seen, as one immutable value: the [`Snapshot`].

mod time;

pub use time::Time;

/// One epoch's view of the supercluster.
#[derive(Clone, Debug)]
pub struct Snapshot;
