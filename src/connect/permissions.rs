//! What the agent's user must be allowed to do: the one table that `gatewatch permissions` prints and that
//! the preflight compares with what the server says.

use super::Operation;

/// The inbox prefix of the user that `gatewatch permissions` prints. A prefix of its own keeps the user from
/// listening to the replies to others.
pub const INBOX_PREFIX: &str = "_INBOX_gatewatch";

/// How many replies to one request `allow_responses` lets the agent send, and for how long: a sweep is answered
/// when the look after the present one is over.
pub const RESPONSES: (u32, &str) = (1, "10s");

/// The last of them, which no list of subjects holds: to answer whoever asks.
pub const ANSWERS: &str = "requests (allow_responses)";

/// One permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Publish or subscribe.
    pub operation: Operation,
    /// Of which subjects.
    pub subject: String,
    /// What for: a comment in the printed block.
    pub reason: &'static str,
}

/// Every permission that the agent uses, `prefix` being that of its own subjects.
pub fn needed(prefix: &str, inbox_prefix: &str) -> Vec<Permission> {
    use Operation::{Publish, Subscribe};
    let row =
        |operation, subject: &str, reason| Permission { operation, subject: subject.to_owned(), reason };
    vec![
        row(Publish, "$SYS.REQ.SERVER.*.GATEWAYZ", "which gateways are connected"),
        row(Publish, "$SYS.REQ.SERVER.*.VARZ", "which gateways are configured"),
        row(Publish, "$SYS.REQ.SERVER.*.STATSZ", "what a heartbeat tells, at once after a start"),
        row(Publish, "$SYS.REQ.SERVER.*.ROUTEZ", "the routes inside each cluster"),
        row(Publish, "$SYS.REQ.SERVER.*.JSZ", "where streams are led"),
        row(Publish, "$SYS.REQ.ACCOUNT.PING.STATZ", "what each account sends over gateways"),
        row(Publish, "$SYS.REQ.USER.INFO", "who am I, what may I do"),
        row(Publish, &format!("{prefix}.finding.>"), "findings"),
        row(Publish, &format!("{prefix}.agent.*.*"), "what happens to the agent"),
        row(Publish, &format!("{prefix}.epoch.*"), "what each look came to"),
        row(Publish, &format!("{prefix}.peer.*"), "that it lives, to other agents"),
        row(Publish, &format!("{prefix}.ledger.*"), "what it has open, to other agents"),
        row(Subscribe, &format!("{inbox_prefix}.>"), "replies"),
        row(Subscribe, &format!("{prefix}.peer.*"), "which agent leads"),
        row(Subscribe, &format!("{prefix}.finding.>"), "what the agent that leads finds"),
        row(Subscribe, &format!("{prefix}.ledger.*"), "what it has open"),
        row(Subscribe, "$SYS.SERVER.*.STATSZ", "heartbeats of the servers"),
        row(Subscribe, "$SYS.SERVER.*.SHUTDOWN", "a server that leaves"),
        row(Subscribe, "$SYS.SERVER.*.LAMEDUCK", "a server that is about to leave"),
        row(Subscribe, "$SYS.SERVER.*.CLIENT.AUTH.ERR", "a gateway whose login is refused"),
        row(Subscribe, &format!("{prefix}.api.>"), "requests to its API"),
        // By `$SRV.*` one may subscribe to `$SRV.>` too, and overhear what other services are asked.
        row(Subscribe, "$SRV.PING", "who asks which services there are"),
        row(Subscribe, "$SRV.INFO", "who asks what they are"),
        row(Subscribe, "$SRV.STATS", "who asks what they have done"),
        row(Subscribe, "$SRV.*.gatewatch", "who asks for this one by its name"),
        row(Subscribe, "$SRV.*.gatewatch.*", "or by its ID"),
    ]
}

/// The permission of the table that `subject`, which the server refused, stands under. What is published and stands
/// under none is an answer.
pub fn of_refused(
    prefix: &str,
    inbox_prefix: &str,
    operation: Operation,
    subject: &str,
) -> Option<Permission> {
    let mut table = needed(prefix, inbox_prefix);
    table.push(answers());
    let fits = |p: &Permission| p.operation == operation && covers(&p.subject, subject);
    let place = table.iter().position(fits).or((operation == Operation::Publish).then(|| table.len() - 1))?;
    Some(table.swap_remove(place))
}

/// The permission to answer.
pub(super) fn answers() -> Permission {
    Permission { operation: Operation::Answer, subject: ANSWERS.to_owned(), reason: "requests to its API" }
}

/// What the system account lets another account hear or ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// A service, which answers; else a stream. An answer may come in parts.
    pub service: bool,
    /// Which subjects.
    pub subject: String,
}

/// What makes findings visible and the API answerable in another account, `prefix` being that of the agent's own
/// subjects. Never overlapping: where two exports match, which one wins is chance, and answers get lost.
pub fn exports(prefix: &str) -> Vec<Export> {
    let stream = |kind: &str| Export { service: false, subject: format!("{prefix}.{kind}.>") };
    let service = |subject: String| Export { service: true, subject };
    vec![
        stream("finding"),
        stream("agent"),
        stream("epoch"),
        service(format!("{prefix}.api.>")),
        // By which the tools find a micro service and its instances.
        service("$SRV.*.gatewatch".to_owned()),
        service("$SRV.*.gatewatch.*".to_owned()),
    ]
}

/// Every permission that the sink's user needs, for the stream and the bucket that there are.
pub fn needed_by_sink(
    prefix: &str,
    inbox_prefix: &str,
    stream: Option<&str>,
    bucket: Option<&str>,
) -> Vec<Permission> {
    use Operation::{Publish, Subscribe};
    let row = |operation, subject: String, reason| Permission { operation, subject, reason };
    let mut out = Vec::new();
    for (name, writes, reason) in [
        (stream.map(str::to_owned), format!("{prefix}.finding.>"), "findings"),
        (bucket.map(|b| format!("KV_{b}")), format!("$KV.{}.>", bucket.unwrap_or_default()), "open findings"),
    ] {
        let Some(name) = name else { continue };
        out.push(row(Publish, writes, reason));
        for (verb, reason) in [
            ("STREAM.INFO", "is it there, is it fit"),
            ("STREAM.CREATE", "make it where it is not; may be left out where it is"),
            ("STREAM.MSG.GET", "what it holds of one finding"),
            ("CONSUMER.CREATE", "what it holds of each finding"),
        ] {
            out.push(row(Publish, format!("$JS.API.{verb}.{name}"), reason));
        }
        out.push(row(Publish, format!("$JS.API.CONSUMER.MSG.NEXT.{name}.*"), "the same"));
        out.push(row(Publish, format!("$JS.API.CONSUMER.DELETE.{name}.*"), "the same"));
    }
    out.push(row(Subscribe, format!("{inbox_prefix}.>"), "replies"));
    out
}

/// Whether every subject that `wanted` stands for is one that `allowed` stands for.
pub fn covers(allowed: &str, wanted: &str) -> bool {
    let (mut allowed, mut wanted) = (allowed.split('.'), wanted.split('.'));
    loop {
        match (allowed.next(), wanted.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(w)) if w != ">" => {}
            (Some(a), Some(w)) if a == w => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_exports_overlap() {
        let all = exports("gatewatch");
        for (n, one) in all.iter().enumerate() {
            for (m, other) in all.iter().enumerate().filter(|(m, _)| *m != n) {
                assert!(!covers(&one.subject, &other.subject), "{n} covers {m}: {one:?} {other:?}");
            }
        }
    }

    #[test]
    fn the_sink_needs_nothing_of_what_it_does_not_have() {
        let table = needed_by_sink("g", "_I", Some("S"), None);
        assert!(table.iter().all(|p| !p.subject.contains("KV")), "{table:?}");
        assert!(table.iter().any(|p| p.subject == "g.finding.>"));
        let table = needed_by_sink("g", "_I", None, Some("b"));
        assert!(table.iter().all(|p| p.subject == "_I.>" || p.subject.contains("KV")), "{table:?}");
    }

    #[test]
    fn what_is_refused_is_named_as_the_table_has_it() {
        let named = |operation, subject: &str| {
            of_refused("acme.gw", "_I", operation, subject).map(|p| (p.operation, p.subject))
        };
        let (publish, subscribe) = (Operation::Publish, Operation::Subscribe);
        for (operation, subject, wanted) in [
            (publish, "$SYS.REQ.SERVER.NABC.VARZ", "$SYS.REQ.SERVER.*.VARZ"),
            (publish, "acme.gw.finding.info.c.eu._._", "acme.gw.finding.>"),
            (publish, "acme.gw.agent.started.a", "acme.gw.agent.*.*"),
            (subscribe, "_I.abc.*", "_I.>"),
            (subscribe, "acme.gw.ledger.pull", "acme.gw.ledger.*"),
            (subscribe, "$SRV.PING.gatewatch.x", "$SRV.*.gatewatch.*"),
        ] {
            assert_eq!(named(operation, subject), Some((operation, wanted.to_owned())), "{subject}");
        }
        for answer in ["_R_.a.b", "_INBOX.x"] {
            assert_eq!(named(publish, answer), Some((Operation::Answer, ANSWERS.to_owned())), "{answer}");
        }
        assert_eq!(named(subscribe, "other"), None);
    }

    #[test]
    fn a_pattern_covers_what_it_stands_for() {
        let yes =
            [("a.b", "a.b"), (">", "a.*"), (">", ">"), ("a.*", "a.b"), ("a.*", "a.*"), ("a.>", "a.b.>")];
        let no = [("a.b", "a.*"), ("a.*", "a.>"), ("a.>", "a"), ("a", "a.b"), ("a.b", "a"), ("*", ">")];
        for (allowed, wanted) in yes {
            assert!(covers(allowed, wanted), "{allowed} covers {wanted}");
        }
        for (allowed, wanted) in no {
            assert!(!covers(allowed, wanted), "{allowed} does not cover {wanted}");
        }
    }
}
