//! gatewatch watches the gateways of a NATS supercluster and publishes what is wrong, and why, on NATS itself.
//!
//! # The map
//!
//! Data flows one way, and the modules are named in that order:
//!
//! ```text
//! NATS ──► connect, collect ──► model ──► checks ──► findings ──► publish ──► NATS
//!                 IO             pure      pure        pure      pure + file
//!                  ▲ advisories only say "look now"                  │
//!                  └───────────────────── agent ◄────────────────────┘
//! ```
//!
//! | module | what it holds | waits? |
//! |---|---|---|
//! | [`connect`] | one connection: credentials, TLS, reconnects, what the user may do | yes |
//! | [`collect`] | the requests of one look, when it is over, and the decoding of replies | no |
//! | [`model`] | the [`Roster`](model::Roster), which remembers, and the [`Snapshot`](model::Snapshot), which is judged | no |
//! | [`checks`] | one file a check: manual, thresholds, `evaluate`, tests | no |
//! | [`findings`] | the [`Ledger`](findings::Ledger): what opens, is explained, is repeated, resolves, and the named reason | no |
//! | [`publish`] | the public events, their schemas and signatures, the outbox that keeps them until the server has them, the state file | the files |
//! | [`api`] | a request to the micro service and what its answer is | no |
//! | [`agent`] | `select` one action, `apply` it, `perform` its effects | `select`, `perform` |
//! | [`peers`] | which of many agents leads | no |
//! | [`sink`] | the stream and the bucket that keep findings, in an account of the user's | its own task |
//! | [`config`], [`cli`] | what the user says, what the user sees | |
//! | [`clock`] | the one place where a clock is read | |
//! | `lab` | real nats-servers on loopback, each link behind a proxy; the tests and the demo stand on it | yes |
//!
//! # What stays true
//!
//! * A module uses only what is to its left in the picture. [`checks`] and [`findings`] never await, log, read a
//!   clock or see a type of the client library: time, order and randomness are inputs.
//! * *Unknown* is inert. Who does not answer is not well and not ill; absence of a reply opens nothing by itself
//!   and resolves nothing. What decides is what those who do answer say.
//! * Level, not edge. An advisory or a heartbeat never opens or resolves a finding; it makes the agent look.
//! * A link has two ends. A server that cannot answer, for gateways are one hop, is judged by the far end of its
//!   links and by the routes of its peers.
//! * One fault, one finding. What explains what is the table in [`findings::RULES`]; an explanation that is only
//!   on its way holds back what it would explain.
//! * The servers are asked at our own pace. Nothing that arrives makes the agent ask more often than every
//!   quarter of a second, and nothing that the network says grows without a bound.
//! * A snapshot holds all that a check needs, and can be written and read: what was seen once can be judged
//!   again elsewhere.
//!
//! # What is deliberately absent
//!
//! HTTP; a database; a thread of our own; an order that depends on a hash; any way to change a server.

pub mod agent;
pub mod api;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod collect;
pub mod config;
pub mod connect;
pub mod findings;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(feature = "lab")]
pub mod lab;
pub mod model;
pub mod peers;
pub mod publish;
pub mod sink;
