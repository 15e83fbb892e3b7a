//! The micro service: what a request is answered, given what the agent knows.
//!
//! Pure: the agent hands over the body, the time and itself as a [`View`], and sends what comes back.

mod findings;
mod manual;
pub(crate) mod metrics;
mod silences;

pub use findings::Resolved;
pub use manual::{manual, wrap};
pub use metrics::Counters;
pub use silences::{add, remove};

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::checks::{self, Check, REGISTRY, Settings};
use crate::config::{nearest, redact};
use crate::findings::Ledger;
use crate::model::{Seen, Snapshot, Time};

/// The service's name.
pub const NAME: &str = "gatewatch";
/// What `nats micro info` shows of it.
pub const DESCRIPTION: &str =
    "watches the gateways of a NATS supercluster: open findings, topology, silences";
/// The largest request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// The largest answer of several parts, in bytes; what does not fit is on the next page.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How many sweeps wait for their look.
pub const SWEEPS_MAX: usize = 64;
/// How wide a manual is set.
const WIDTH: usize = 80;
/// How much of what somebody sent stands in an error, in characters.
const QUOTE_CHARS_MAX: usize = 200;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// Open findings, or those that resolved lately.
    Findings,
    /// Which clusters, servers and remotes there are, and how the links between them are.
    Topology,
    /// The last epoch message.
    Epoch,
    /// The catalogue.
    Checks,
    /// One check's manual.
    Explain,
    /// Look now.
    Sweep,
    /// `OpenMetrics`.
    Metrics,
    /// Mutes findings for a while.
    SilenceAdd,
    /// The silences that stand.
    SilenceList,
    /// Ends one.
    SilenceRemove,
}

impl Endpoint {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::Findings,
        Self::Topology,
        Self::Epoch,
        Self::Checks,
        Self::Explain,
        Self::Sweep,
        Self::Metrics,
        Self::SilenceAdd,
        Self::SilenceList,
        Self::SilenceRemove,
    ];

    /// What follows `<prefix>.api.` in its subject.
    pub const fn subject(self) -> &'static str {
        match self {
            Self::Findings => "findings",
            Self::Topology => "topology",
            Self::Epoch => "epoch",
            Self::Checks => "checks",
            Self::Explain => "explain",
            Self::Sweep => "sweep",
            Self::Metrics => "metrics",
            Self::SilenceAdd => "silence.add",
            Self::SilenceList => "silence.list",
            Self::SilenceRemove => "silence.remove",
        }
    }

    /// Its name, which has no dot.
    pub fn name(self) -> String {
        self.subject().replace('.', "-")
    }

    /// What a request looks like: in the service's metadata, and in an error.
    pub const fn example(self) -> &'static str {
        match self {
            Self::Findings => {
                r#"{"severity":"critical","check":"gateway_disconnected","cluster":"eu","state":"open","limit":100}"#
            }
            Self::Explain => r#"{"check":"gateway_disconnected"}"#,
            Self::SilenceAdd => {
                r#"{"match":{"cluster":"eu","server":"eu-1"},"for":"30m","why":"new disks","who":"jo"}"#
            }
            Self::SilenceList => r#"{"limit":100}"#,
            Self::SilenceRemove => r#"{"id":"…"}"#,
            Self::Topology | Self::Epoch | Self::Checks | Self::Sweep | Self::Metrics => "{}",
        }
    }
}

/// Why there is no answer: the code and the words of `Nats-Service-Error`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ApiError {
    /// As of HTTP.
    pub code: u16,
    /// One line that says what to do. It is safe in a header.
    pub text: String,
}

impl ApiError {
    /// One with this code. What others wrote is made harmless.
    pub fn new(code: u16, text: &str) -> Self {
        Self { code, text: redact::control(text).into_owned() }
    }

    /// Nothing was seen yet.
    pub fn too_early() -> Self {
        Self::new(503, "the agent has not looked yet; ask again in a second")
    }
}

/// What the agent knows.
#[derive(Debug)]
pub struct View<'a> {
    /// When the request is answered.
    pub now: Time,
    /// What is open, and the silences.
    pub ledger: &'a Ledger,
    /// What resolved lately.
    pub resolved: &'a Resolved,
    /// The last look.
    pub snapshot: Option<&'a Snapshot>,
    /// The last epoch message.
    pub epoch: Option<&'a str>,
    /// By slug.
    pub settings: &'a BTreeMap<&'static str, Settings>,
    /// What was counted since the start.
    pub counters: &'a Counters,
    /// The agent's name.
    pub agent: &'a str,
    /// The largest answer that the server carries, in bytes.
    pub answer_bytes_max: usize,
}

/// Answers what changes nothing and can be answered at once.
///
/// # Errors
/// The request is no good, or there is nothing to tell yet.
pub fn answer(endpoint: Endpoint, body: &[u8], view: &View<'_>) -> Result<Vec<u8>, ApiError> {
    match endpoint {
        Endpoint::Findings => findings::page(body, view),
        Endpoint::Topology => {
            read::<Nothing>(endpoint, body)?;
            let mut seen = Seen::of(view.snapshot.ok_or_else(ApiError::too_early)?);
            let names_bytes = written(&seen.topology)?.len();
            // The names come whole; of the links as much as fits beside them.
            let left = view.answer_bytes_max.saturating_sub(names_bytes);
            seen.matrix.fit(left.max(view.answer_bytes_max / 2));
            written(&seen)
        }
        Endpoint::Epoch => {
            read::<Nothing>(endpoint, body)?;
            view.epoch.map(|epoch| epoch.as_bytes().to_vec()).ok_or_else(ApiError::too_early)
        }
        Endpoint::Checks => {
            read::<Nothing>(endpoint, body)?;
            written(&catalogue(view))
        }
        Endpoint::Explain => {
            let Explain { check } = read(endpoint, body)?;
            let found = check_named(&check)?.manual();
            written(&json!({
                "type": "io.nats.gatewatch.api.v1.explain_response",
                "check": found.slug,
                "code": found.code,
                "text": manual(found, WIDTH),
            }))
        }
        Endpoint::Metrics => {
            read::<Nothing>(endpoint, body)?;
            Ok(metrics::text(view).into_bytes())
        }
        Endpoint::SilenceList => silences::list(body, view),
        // These are for who can change the agent.
        Endpoint::Sweep | Endpoint::SilenceAdd | Endpoint::SilenceRemove => {
            Err(ApiError::new(500, "this is answered elsewhere"))
        }
    }
}

/// Whether the body of a sweep is one.
///
/// # Errors
/// It has something in it.
pub fn sweep(body: &[u8]) -> Result<(), ApiError> {
    read::<Nothing>(Endpoint::Sweep, body).map(|_| ())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Explain {
    check: String,
}

fn catalogue(view: &View<'_>) -> Value {
    let checks: Vec<Value> = REGISTRY
        .iter()
        .map(|check| {
            let manual = check.manual();
            let settings = view.settings.get(manual.slug);
            let severity = settings.and_then(|s| s.severity).unwrap_or(manual.severity);
            json!({
                "check": manual.slug,
                "code": manual.code,
                "severity": severity,
                "enabled": settings.is_some_and(|s| s.enabled),
                "detects": manual.detects,
            })
        })
        .collect();
    json!({ "type": "io.nats.gatewatch.api.v1.checks_response", "checks": checks })
}

/// The check of this slug or code.
fn check_named(name: &str) -> Result<&'static dyn Check, ApiError> {
    checks::find(name).ok_or_else(|| {
        let names = REGISTRY.iter().flat_map(|c| [c.manual().slug, c.manual().code]);
        // What is that long is no misspelt name, and comparing it takes long.
        let near = (name.len() <= QUOTE_CHARS_MAX).then(|| nearest(name, names)).flatten();
        let help = near.map_or_else(
            || "the endpoint `checks` lists all".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        ApiError::new(404, &format!("there is no check `{}`; {help}", clip(name)))
    })
}

/// The body as what it is to be. Nothing at all is `{}`.
fn read<T: DeserializeOwned>(endpoint: Endpoint, body: &[u8]) -> Result<T, ApiError> {
    if body.len() > REQUEST_BYTES_MAX {
        return Err(ApiError::new(413, &format!("a request has {REQUEST_BYTES_MAX} bytes at the most")));
    }
    let body = match body.trim_ascii() {
        [] => b"{}",
        body => body,
    };
    // A list would do for an object, its items in the order of our fields.
    if !body.starts_with(b"{") {
        let text = format!("a request is a JSON object, or nothing; for example: {}", endpoint.example());
        return Err(ApiError::new(400, &text));
    }
    serde_json::from_slice(body).map_err(|error| {
        let error = clip(&error.to_string());
        ApiError::new(400, &format!("{error}; for example: {}", endpoint.example()))
    })
}

fn written(value: &impl serde::Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|_| ApiError::new(500, "the answer cannot be written as JSON"))
}

fn clip(text: &str) -> String {
    let mut out: String = text.chars().take(QUOTE_CHARS_MAX).collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

/// How many of a list, and from where on.
#[derive(Clone, Copy, Debug)]
struct Page<'a> {
    limit: usize,
    after: Option<&'a str>,
}

/// Items of a list when the request does not say.
const LIMIT_DEFAULT: usize = 100;
/// Items of a list at the most.
const LIMIT_MAX: usize = 1000;

impl<'a> Page<'a> {
    fn of(limit: Option<u64>, after: Option<&'a str>) -> Result<Self, ApiError> {
        let wanted = limit.unwrap_or(LIMIT_DEFAULT as u64);
        match usize::try_from(wanted) {
            Ok(limit @ 1..=LIMIT_MAX) => Ok(Self { limit, after }),
            _ => Err(ApiError::new(400, &format!("`limit` is 1 to {LIMIT_MAX}, and not {wanted}"))),
        }
    }
}

/// A list under its key, as much of it as is wanted and fits: each item with its cursor. The total counts the
/// items of all pages.
fn list<'a>(
    kind: &str,
    key: &str,
    items: impl Iterator<Item = (String, Cow<'a, [u8]>)>,
    [limit, total, bytes_max]: [usize; 3],
) -> Vec<u8> {
    // For what stands around the items.
    const FRAME_BYTES: usize = 512;
    let mut out = format!("{{\"type\":\"io.nats.gatewatch.api.v1.{kind}\",\"{key}\":[").into_bytes();
    let (mut last, mut next) = (None, None);
    for (number, (cursor, item)) in items.enumerate() {
        let full = number > 0 && out.len() + item.len() + FRAME_BYTES > bytes_max;
        if full || number == limit {
            next = last;
            break;
        }
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&item);
        last = Some(cursor);
    }
    out.extend_from_slice(format!("],\"total\":{total},\"next\":{}}}", json!(next)).as_bytes());
    out
}

#[cfg(test)]
mod tests;
