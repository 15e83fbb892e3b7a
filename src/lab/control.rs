//! Commands for a lab that runs in another process.
