//! The JSON Schema of each message, as it is shipped in `schemas/`.
//!
//! The files are generated from the types that are serialised, by a test; who wants to know how, and what may
//! change, reads it.

#[cfg(test)]
mod compare;
#[cfg(test)]
mod generate;
#[cfg(test)]
pub(crate) mod tests;

/// One message's schema.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// What stands under `type` in the message.
    pub name: &'static str,
    /// A shorter name.
    pub short: &'static str,
    /// Its file in the repository.
    pub file: &'static str,
    /// What it is the schema of.
    pub about: &'static str,
    /// The schema: JSON, draft-07.
    pub text: &'static str,
}

macro_rules! shipped {
    ($name:literal, $short:literal, $file:literal, $about:literal) => {
        Schema {
            name: $name,
            short: $short,
            file: concat!("schemas/io/nats/gatewatch/", $file),
            about: $about,
            text: include_str!(concat!("../../schemas/io/nats/gatewatch/", $file)),
        }
    };
}

/// Every schema.
pub const SCHEMAS: &[Schema] = &[
    shipped!(
        "io.nats.gatewatch.advisory.v1.finding",
        "finding",
        "advisory/v1/finding.json",
        "what happened to a finding: gatewatch.finding.>"
    ),
    shipped!(
        "io.nats.gatewatch.advisory.v1.agent",
        "agent",
        "advisory/v1/agent.json",
        "what happened to an agent: gatewatch.agent.>"
    ),
    shipped!(
        "io.nats.gatewatch.metric.v1.epoch",
        "epoch",
        "metric/v1/epoch.json",
        "what one epoch cost and showed: gatewatch.epoch.>"
    ),
    shipped!(
        "io.nats.gatewatch.snapshot.v1",
        "snapshot",
        "snapshot/v1.json",
        "the file that `gatewatch sweep` writes"
    ),
];

/// The schema of this name, whole or short.
pub fn find(name: &str) -> Option<&'static Schema> {
    SCHEMAS.iter().find(|schema| schema.name == name || schema.short == name)
}
