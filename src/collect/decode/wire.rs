//! The replies as servers write them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::{ByKind, Name, ServerInfo};

#[derive(Deserialize)]
pub(super) struct Envelope<B> {
    pub(super) server: ServerInfo,
    #[serde(default = "Option::default")]
    pub(super) data: Option<B>,
    #[serde(default = "Option::default")]
    pub(super) statsz: Option<B>,
    #[serde(default)]
    pub(super) error: Option<Refusal>,
}

#[derive(Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: i64,
    #[serde(default)]
    pub(super) description: String,
}

#[derive(Deserialize)]
pub(super) struct Gatewayz {
    pub(super) server_id: Option<Name>,
    pub(super) name: Option<Name>,
    pub(super) host: Option<Name>,
    pub(super) port: Option<u16>,
    pub(super) outbound_gateways: Option<BTreeMap<Name, Remote>>,
    pub(super) inbound_gateways: Option<BTreeMap<Name, Option<Vec<Remote>>>>,
}

#[derive(Deserialize)]
pub(super) struct Remote {
    #[serde(default)]
    pub(super) configured: bool,
    pub(super) connection: Connection,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Connection {
    pub(super) cid: u64,
    pub(super) name: Name,
    pub(super) start: Option<String>,
    pub(super) rtt: Option<String>,
    pub(super) idle: Option<String>,
    pub(super) pending_bytes: u64,
    pub(super) in_msgs: u64,
    pub(super) in_bytes: u64,
    pub(super) out_msgs: u64,
    pub(super) out_bytes: u64,
    pub(super) stalls: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct Varz {
    pub(super) server_id: Option<Name>,
    #[serde(default)]
    pub(super) host: Name,
    #[serde(default)]
    pub(super) port: u16,
    pub(super) start: Option<String>,
    pub(super) config_load_time: Option<String>,
    #[serde(default)]
    pub(super) gateway: GatewayBlock,
    pub(super) system_account: Option<Name>,
    pub(super) slow_consumer_stats: Option<ByKind>,
    pub(super) stale_connection_stats: Option<ByKind>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct GatewayBlock {
    pub(super) name: Option<Name>,
    pub(super) host: Option<Name>,
    pub(super) port: Option<u16>,
    pub(super) tls_required: bool,
    pub(super) tls_verify: bool,
    pub(super) advertise: Option<Name>,
    pub(super) connect_retries: u64,
    pub(super) reject_unknown: bool,
    pub(super) gateways: Vec<RemoteConfig>,
    pub(super) tls_cert_not_after: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RemoteConfig {
    pub(super) name: Name,
    pub(super) urls: Option<Vec<Name>>,
}

#[derive(Deserialize)]
pub(super) struct Routez {
    pub(super) server_id: Option<Name>,
    pub(super) routes: Option<Vec<Route>>,
}

#[derive(Deserialize)]
pub(super) struct Route {
    #[serde(default)]
    pub(super) remote_id: Name,
    pub(super) remote_name: Option<Name>,
    pub(super) ip: Option<Name>,
    pub(super) rtt: Option<String>,
    #[serde(default)]
    pub(super) pending_size: u64,
    #[serde(default)]
    pub(super) in_msgs: u64,
    #[serde(default)]
    pub(super) out_msgs: u64,
    #[serde(default)]
    pub(super) out_bytes: u64,
}

#[derive(Deserialize)]
pub(super) struct Statsz {
    pub(super) start: Option<String>,
    pub(super) active_servers: Option<u64>,
    pub(super) gateways: Option<Vec<Gateway>>,
    pub(super) slow_consumer_stats: Option<ByKind>,
    pub(super) stale_connection_stats: Option<ByKind>,
}

#[derive(Deserialize)]
pub(super) struct Gateway {
    #[serde(default)]
    pub(super) gwid: u64,
    pub(super) name: Name,
}

#[derive(Deserialize)]
pub(super) struct Accountz {
    pub(super) server_id: Option<Name>,
    pub(super) account_statz: Option<Vec<AccountStat>>,
}

#[derive(Deserialize)]
pub(super) struct AccountStat {
    pub(super) acc: Name,
    pub(super) name: Option<Name>,
    #[serde(default)]
    pub(super) conns: u64,
    #[serde(default)]
    pub(super) leafnodes: u64,
    #[serde(default)]
    pub(super) sent: Traffic,
    #[serde(default)]
    pub(super) received: Traffic,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Traffic {
    pub(super) bytes: u64,
    pub(super) gateways: Option<Bytes>,
    pub(super) routes: Option<Bytes>,
    pub(super) leafs: Option<Bytes>,
}

#[derive(Deserialize)]
pub(super) struct Bytes {
    #[serde(default)]
    pub(super) bytes: u64,
}

#[derive(Deserialize)]
pub(super) struct Jsz {
    pub(super) server_id: Option<Name>,
    pub(super) account_details: Option<Vec<AccountDetail>>,
}

#[derive(Deserialize)]
pub(super) struct AccountDetail {
    /// In operator mode what the operator calls it.
    pub(super) name: Name,
    /// What all other endpoints call it.
    pub(super) id: Option<Name>,
    pub(super) stream_detail: Option<Vec<StreamDetail>>,
}

#[derive(Deserialize)]
pub(super) struct StreamDetail {
    pub(super) name: Name,
    pub(super) cluster: Option<StreamCluster>,
}

#[derive(Deserialize)]
pub(super) struct StreamCluster {
    pub(super) leader: Option<Name>,
}

#[derive(Deserialize)]
pub(super) struct Interest {
    pub(super) server_id: Option<Name>,
    pub(super) outbound_gateways: Option<BTreeMap<Name, RemoteInterest>>,
}

#[derive(Deserialize)]
pub(super) struct RemoteInterest {
    pub(super) accounts: Option<Vec<AccountInterest>>,
}

#[derive(Deserialize)]
pub(super) struct AccountInterest {
    pub(super) name: Name,
    #[serde(default)]
    pub(super) interest_mode: Name,
}
