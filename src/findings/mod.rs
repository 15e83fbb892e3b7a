//! From verdicts to findings: what opens, what is repeated, what resolves, and why.

mod explain;
pub(crate) mod judge;
mod ledger;
mod silence;

pub use explain::{RULES, Rule};
pub use judge::judge;
pub use ledger::{
    Action, Change, FINDINGS_MAX, Finding, Judgement, Ledger, Listed, Reason, State, fingerprint,
};
pub use silence::{Match, SILENCE_MAX, SILENCES_MAX, Silence, SilenceError, Silences};
