//! What is asked, and of whom.

use serde::Deserialize;

use super::render::{cluster_name, tag_of};
use super::world::{Server, World};

/// What can be asked of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Gatewayz,
    Varz,
    Statsz,
    Routez,
    Accountz,
    Jsz,
    Healthz,
    Idz,
}

impl Endpoint {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "GATEWAYZ" => Self::Gatewayz,
            "VARZ" => Self::Varz,
            "STATSZ" => Self::Statsz,
            "ROUTEZ" => Self::Routez,
            "JSZ" => Self::Jsz,
            "HEALTHZ" => Self::Healthz,
            "IDZ" => Self::Idz,
            _ => return None,
        })
    }

    /// Heartbeats and identities are never compressed.
    pub(super) const fn is_compressed(self) -> bool {
        !matches!(self, Self::Statsz | Self::Idz)
    }
}

/// The body of a request: who is meant, and how much is to be told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    server_name: String,
    cluster: String,
    host: String,
    tags: Vec<String>,
    domain: String,
    exact_match: bool,
    /// Of a remote.
    pub(super) name: String,
    pub(super) accounts: bool,
    pub(super) account_name: String,
}

impl Options {
    pub(super) fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        if body.is_empty() { Ok(Self::default()) } else { serde_json::from_slice(body) }
    }

    /// Whether this server is meant. Before 2.12 a part of the name is always enough.
    pub(super) fn mean(&self, world: &World, server: &Server, release: Release) -> bool {
        let fits = |wanted: &str, has: &str| {
            wanted.is_empty()
                || if self.exact_match && release >= (2, 12, 0) {
                    wanted == has
                } else {
                    has.contains(wanted)
                }
        };
        let cluster = cluster_name(world, server.cluster);
        fits(&self.server_name, &server.name)
            && fits(&self.cluster, cluster)
            && fits(&self.host, &server.host)
            && self.tags.iter().all(|tag| tag.eq_ignore_ascii_case(&tag_of(cluster)))
            && self.domain.is_empty()
    }
}

/// Major, minor, patch.
pub(super) type Release = (u32, u32, u32);

/// Reads `2.15.1`.
pub(super) fn release(version: &str) -> Option<Release> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let release = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(release)
}
