//! One request: what, to whom, and where the replies go.

use serde_json::json;

use super::decode::Endpoint;
use crate::model::Name;

/// To whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every server that can be reached.
    All,
    /// The servers of one cluster, and perhaps some whose cluster's name contains its name: the filter of the
    /// servers matches parts, and `exact_match` is known since 2.12 only.
    Cluster(Name),
    /// The server with this ID.
    Server(Name),
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What.
    pub endpoint: Endpoint,
    /// To whom.
    pub target: Target,
}

impl Request {
    /// The subject; none where the ID is not one that a server makes, and could say something else in a
    /// subject.
    pub fn subject(&self) -> Option<String> {
        let to = match &self.target {
            Target::All | Target::Cluster(_) => "PING",
            Target::Server(id) if !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()) => id,
            Target::Server(_) => return None,
        };
        Some(match self.endpoint {
            Endpoint::Accountz => "$SYS.REQ.ACCOUNT.PING.STATZ".to_owned(),
            Endpoint::Interest => format!("$SYS.REQ.SERVER.{to}.GATEWAYZ"),
            endpoint => format!("$SYS.REQ.SERVER.{to}.{}", endpoint.as_str()),
        })
    }

    /// The body.
    pub fn body(&self) -> String {
        let mut body = match self.endpoint {
            // Servers without a connection of an account count what passes through them too.
            Endpoint::Accountz => json!({ "include_unused": true }),
            // Older versions skip what they do not know and tell all streams they hold.
            Endpoint::Jsz => json!({ "accounts": true, "streams": true, "stream_leader_only": true }),
            Endpoint::Interest => json!({ "accounts": true }),
            Endpoint::Gatewayz | Endpoint::Varz | Endpoint::Routez | Endpoint::Statsz => json!({}),
        };
        if let (Target::Cluster(name), Some(filter)) = (&self.target, body.as_object_mut()) {
            filter.insert("cluster".to_owned(), json!(name));
        }
        if body.as_object().is_some_and(serde_json::Map::is_empty) { String::new() } else { body.to_string() }
    }

    /// The last token of the subject for replies: `<look>-<endpoint>`.
    pub fn inbox_token(&self, look: u64) -> String {
        format!("{look}-{}", self.endpoint.as_str())
    }
}

/// Look and endpoint of a reply's subject.
pub fn parse_inbox(subject: &str) -> Option<(u64, Endpoint)> {
    let (look, endpoint) = subject.rsplit('.').next()?.split_once('-')?;
    let endpoint = Endpoint::ALL.into_iter().find(|e| e.as_str() == endpoint)?;
    Some((look.parse().ok()?, endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_none_never_reaches_a_subject() {
        for id in ["", "*", ">", "a.b", "a b", "a\r\nPUB x", "ä"] {
            let request = Request { endpoint: Endpoint::Varz, target: Target::Server(id.into()) };
            assert_eq!(request.subject(), None, "{id:?}");
        }
        let request = Request { endpoint: Endpoint::Varz, target: Target::Server("NABC".into()) };
        assert_eq!(request.subject().as_deref(), Some("$SYS.REQ.SERVER.NABC.VARZ"));
    }

    #[test]
    fn a_reply_finds_its_look() {
        for endpoint in Endpoint::ALL {
            let request = Request { endpoint, target: Target::All };
            let subject = format!("_INBOX.x.{}", request.inbox_token(7));
            assert_eq!(parse_inbox(&subject), Some((7, endpoint)));
        }
        for odd in ["_INBOX.x", "_INBOX.x.7", "_INBOX.x.-VARZ", "_INBOX.x.7-CONNZ", ""] {
            assert_eq!(parse_inbox(odd), None, "{odd:?}");
        }
    }
}
