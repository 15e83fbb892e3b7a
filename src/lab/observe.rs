//! What a server says about itself, asked by the system user on a connection to that very server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use async_nats::Client;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{Lab, LabError};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a condition is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Routes between two servers: a pool of three, and one of the system account.
const ROUTES: usize = 4;

/// Connections that were made, by server.
#[derive(Debug, Default)]
pub(super) struct Observers(Mutex<BTreeMap<String, Client>>);

impl Observers {
    /// The server has another life now, and another ID.
    pub(super) async fn forget(&self, server: &str) {
        self.0.lock().await.remove(server);
    }
}

/// One server's gateways and routes as it lists them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct View {
    /// The server's ID of this life.
    pub server_id: String,
    /// Outbound gateways by remote.
    pub outbound: BTreeMap<String, Outbound>,
    /// IDs of the servers behind the inbound gateways, by remote.
    pub inbound: BTreeMap<String, Vec<String>>,
    /// The servers that it has routes to, by name, and how many: a pool, and one of the system account.
    pub routes: BTreeMap<String, usize>,
}

/// One outbound gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outbound {
    /// Its connection's number; another one after a reconnect.
    pub cid: u64,
    /// Whether the server's own configuration names it, or gossip did.
    pub configured: bool,
    /// The ID of the server at the other end.
    pub server_id: String,
    /// The version of TLS in use.
    pub tls: Option<String>,
}

impl Lab {
    /// A connection to this server as the system user. It is kept for later calls.
    pub async fn system_client(&self, server: &str) -> Result<Client, LabError> {
        let url = self.url(server)?;
        let mut clients = self.observers.0.lock().await;
        if let Some(client) = clients.get(server) {
            return Ok(client.clone());
        }
        let no_answer = |reason: String| LabError::NoAnswer { server: server.to_owned(), reason };
        let client = self
            .connect_options("sys")
            .await?
            .name("gatewatch lab")
            // A view of one server must never come from another one.
            .ignore_discovered_servers()
            .connection_timeout(REQUEST_TIMEOUT)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .max_reconnects(1)
            .connect(url)
            .await
            .map_err(|error| no_answer(error.to_string()))?;
        clients.insert(server.to_owned(), client.clone());
        Ok(client)
    }

    /// Asks one server one of its monitoring endpoints, such as `VARZ`; returns the `data` of the reply.
    pub async fn ask(&self, server: &str, endpoint: &str) -> Result<Value, LabError> {
        let client = self.system_client(server).await?;
        let id = client.server_info().server_id;
        let answer = async {
            let reply = client
                .request(format!("$SYS.REQ.SERVER.{id}.{endpoint}"), "".into())
                .await
                .map_err(|error| error.to_string())?;
            let mut reply: Value =
                serde_json::from_slice(&reply.payload).map_err(|error| error.to_string())?;
            reply.get_mut("data").map(Value::take).ok_or_else(|| format!("no data in {reply}"))
        };
        match answer.await {
            Ok(data) => Ok(data),
            Err(reason) => {
                self.observers.forget(server).await;
                Err(LabError::NoAnswer { server: server.to_owned(), reason })
            }
        }
    }

    /// The ID of a server's present life.
    pub async fn server_id(&self, server: &str) -> Result<String, LabError> {
        Ok(self.view(server).await?.server_id)
    }

    /// A server's gateways and routes as it lists them now.
    pub async fn view(&self, server: &str) -> Result<View, LabError> {
        let gateways = self.ask(server, "GATEWAYZ").await?;
        let routes = self.ask(server, "ROUTEZ").await?;
        Ok(View::read(&gateways, &routes))
    }

    /// Waits until a server's view is as wanted.
    pub async fn wait_until(
        &self,
        server: &str,
        what: &str,
        within: Duration,
        wanted: impl Fn(&View) -> bool,
    ) -> Result<View, LabError> {
        let start = Instant::now();
        loop {
            let view = self.view(server).await;
            match view {
                Ok(view) if wanted(&view) => return Ok(view),
                _ if start.elapsed() < within => tokio::time::sleep(LOOK_EVERY).await,
                last => {
                    return Err(LabError::Timeout {
                        what: format!("{server}: {what}"),
                        within_ms: within.as_millis(),
                        last: last.map_or_else(|error| error.to_string(), |view| format!("{view:?}")),
                    });
                }
            }
        }
    }

    /// Waits until every server has an outbound gateway to every other cluster, and all routes to every peer:
    /// without the one of the system account, who asks at one of two servers does not hear the other.
    pub async fn wait_healthy(&self, within: Duration) -> Result<(), LabError> {
        let start = Instant::now();
        let clusters = self.clusters();
        // Of two routes that were dialed from both ends, each end may first keep the one that the other drops.
        for _ in 0..2 {
            for (cluster, servers) in &clusters {
                for server in servers {
                    let remotes: BTreeSet<_> =
                        clusters.iter().map(|(name, _)| name).filter(|name| *name != cluster).collect();
                    let peers: BTreeSet<_> = servers.iter().filter(|peer| *peer != server).collect();
                    let left = within.saturating_sub(start.elapsed());
                    self.wait_until(server, "all gateways and routes up", left, |view| {
                        remotes.iter().all(|name| view.outbound.contains_key(*name))
                            && peers.iter().all(|name| view.routes.get(*name).is_some_and(|n| *n >= ROUTES))
                    })
                    .await?;
                }
            }
        }
        Ok(())
    }
}

impl View {
    fn read(gateways: &Value, routes: &Value) -> Self {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let entries = |key: &str| gateways.get(key).and_then(Value::as_object).into_iter().flatten();
        let name = |remote: &Value| text(remote.get("connection")?, "name");
        let outbound = entries("outbound_gateways").filter_map(|(cluster, remote)| {
            let connection = remote.get("connection")?;
            let outbound = Outbound {
                cid: connection.get("cid")?.as_u64()?,
                configured: remote.get("configured")?.as_bool()?,
                server_id: text(connection, "name")?,
                tls: text(connection, "tls_version"),
            };
            Some((cluster.clone(), outbound))
        });
        let inbound = entries("inbound_gateways").map(|(cluster, remotes)| {
            (cluster.clone(), remotes.as_array().into_iter().flatten().filter_map(name).collect())
        });
        let peers = routes.get("routes").and_then(Value::as_array).into_iter().flatten();
        let mut routes = BTreeMap::new();
        for peer in peers.filter_map(|route| text(route, "remote_name")) {
            *routes.entry(peer).or_default() += 1;
        }
        Self {
            server_id: text(gateways, "server_id").unwrap_or_default(),
            outbound: outbound.collect(),
            inbound: inbound.collect(),
            routes,
        }
    }
}
