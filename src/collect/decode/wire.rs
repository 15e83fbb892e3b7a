//! The replies as servers write them. Text is borrowed from the reply, unless it is written with escapes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::model::{ByKind, Time};

/// A text. A bare `Cow` in an `Option` or a `Vec` would always be a copy.
#[derive(Debug, Default)]
pub(super) struct Str<'a>(Cow<'a, str>);

impl Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }
        }
        d.deserialize_str(Text)
    }
}

/// An object whose keys are names, in the order in which they are written: servers sort them.
#[derive(Debug)]
pub(super) struct Pairs<'a, V>(pub(super) Vec<(Str<'a>, V)>);

impl<V> Default for Pairs<'_, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, V> IntoIterator for Pairs<'a, V> {
    type Item = (Str<'a>, V);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Pairs<'a, V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Object<'a, V>(PhantomData<(&'a (), V)>);
        impl<'de: 'a, 'a, V: Deserialize<'de>> Visitor<'de> for Object<'a, V> {
            type Value = Pairs<'a, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        d.deserialize_map(Object(PhantomData))
    }
}

#[derive(Deserialize)]
pub(super) struct Envelope<'a, B> {
    #[serde(borrow)]
    pub(super) server: Server<'a>,
    #[serde(default = "Option::default")]
    pub(super) data: Option<B>,
    #[serde(default = "Option::default")]
    pub(super) statsz: Option<B>,
    #[serde(default)]
    pub(super) error: Option<Refusal>,
}

/// [`crate::model::ServerInfo`], borrowed.
#[derive(Deserialize)]
pub(super) struct Server<'a> {
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow, default)]
    pub(super) host: Str<'a>,
    #[serde(borrow)]
    pub(super) id: Str<'a>,
    #[serde(borrow)]
    pub(super) cluster: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) domain: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) ver: Str<'a>,
    #[serde(borrow, default)]
    pub(super) tags: Vec<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) metadata: Pairs<'a, Str<'a>>,
    #[serde(default)]
    pub(super) jetstream: bool,
    #[serde(default)]
    pub(super) seq: u64,
    pub(super) time: Option<Time>,
}

#[derive(Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: i64,
    #[serde(default)]
    pub(super) description: String,
}

#[derive(Deserialize)]
pub(super) struct Gatewayz<'a> {
    #[serde(borrow)]
    pub(super) server_id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) host: Option<Str<'a>>,
    pub(super) port: Option<u16>,
    #[serde(borrow)]
    pub(super) outbound_gateways: Option<Pairs<'a, Remote<'a>>>,
    #[serde(borrow)]
    pub(super) inbound_gateways: Option<Pairs<'a, Option<Vec<Remote<'a>>>>>,
}

#[derive(Deserialize)]
pub(super) struct Remote<'a> {
    #[serde(default)]
    pub(super) configured: bool,
    #[serde(borrow)]
    pub(super) connection: Connection<'a>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Connection<'a> {
    pub(super) cid: u64,
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow)]
    pub(super) start: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) rtt: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) idle: Option<Str<'a>>,
    pub(super) pending_bytes: u64,
    pub(super) in_msgs: u64,
    pub(super) in_bytes: u64,
    pub(super) out_msgs: u64,
    pub(super) out_bytes: u64,
    pub(super) stalls: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct Varz<'a> {
    #[serde(borrow)]
    pub(super) server_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) host: Str<'a>,
    #[serde(default)]
    pub(super) port: u16,
    #[serde(borrow)]
    pub(super) start: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) config_load_time: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) gateway: GatewayBlock<'a>,
    #[serde(borrow)]
    pub(super) system_account: Option<Str<'a>>,
    pub(super) slow_consumer_stats: Option<ByKind>,
    pub(super) stale_connection_stats: Option<ByKind>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct GatewayBlock<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) host: Option<Str<'a>>,
    pub(super) port: Option<u16>,
    pub(super) tls_required: bool,
    pub(super) tls_verify: bool,
    #[serde(borrow)]
    pub(super) advertise: Option<Str<'a>>,
    pub(super) connect_retries: u64,
    pub(super) reject_unknown: bool,
    #[serde(borrow)]
    pub(super) gateways: Vec<RemoteConfig<'a>>,
    #[serde(borrow)]
    pub(super) tls_cert_not_after: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct RemoteConfig<'a> {
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow)]
    pub(super) urls: Option<Vec<Str<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Routez<'a> {
    #[serde(borrow)]
    pub(super) server_id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) routes: Option<Vec<Route<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Route<'a> {
    #[serde(borrow, default)]
    pub(super) remote_id: Str<'a>,
    #[serde(borrow)]
    pub(super) remote_name: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) ip: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) rtt: Option<Str<'a>>,
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
pub(super) struct Statsz<'a> {
    #[serde(borrow)]
    pub(super) start: Option<Str<'a>>,
    pub(super) active_servers: Option<u64>,
    #[serde(borrow)]
    pub(super) gateways: Option<Vec<Gateway<'a>>>,
    pub(super) slow_consumer_stats: Option<ByKind>,
    pub(super) stale_connection_stats: Option<ByKind>,
}

#[derive(Deserialize)]
pub(super) struct Gateway<'a> {
    #[serde(default)]
    pub(super) gwid: u64,
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(default)]
    pub(super) inbound_connections: u64,
}

#[derive(Deserialize)]
pub(super) struct Accountz<'a> {
    #[serde(borrow)]
    pub(super) server_id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) account_statz: Option<Vec<AccountStat<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct AccountStat<'a> {
    #[serde(borrow)]
    pub(super) acc: Str<'a>,
    #[serde(borrow)]
    pub(super) name: Option<Str<'a>>,
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
pub(super) struct Jsz<'a> {
    #[serde(borrow)]
    pub(super) server_id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) account_details: Option<Vec<AccountDetail<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct AccountDetail<'a> {
    /// In operator mode what the operator calls it.
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    /// What all other endpoints call it.
    #[serde(borrow)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) stream_detail: Option<Vec<StreamDetail<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct StreamDetail<'a> {
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow)]
    pub(super) cluster: Option<StreamCluster<'a>>,
}

#[derive(Deserialize)]
pub(super) struct StreamCluster<'a> {
    #[serde(borrow)]
    pub(super) leader: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Interest<'a> {
    #[serde(borrow)]
    pub(super) server_id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) outbound_gateways: Option<Pairs<'a, RemoteInterest<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct RemoteInterest<'a> {
    #[serde(borrow)]
    pub(super) accounts: Option<Vec<AccountInterest<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct AccountInterest<'a> {
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow, default)]
    pub(super) interest_mode: Str<'a>,
}
