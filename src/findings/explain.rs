//! Which finding explains which: one fault makes one finding.

use crate::checks::{Entity, Scope};

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The check whose finding explains.
    pub by: &'static str,
    /// The check whose finding is explained.
    pub of: &'static str,
    /// Whether it does so for these two entities.
    pub holds: fn(&Entity, &Scope, &Entity) -> bool,
    /// In words.
    pub why: &'static str,
}

impl Rule {
    /// Whether it can hold for a finding about `by` at all. What is open by the thousand are single links and
    /// servers, which explain nothing of their own kind: comparing each with each would take seconds.
    pub(super) fn may_hold(&self, by: &Entity) -> bool {
        match (self.by, self.of) {
            ("gateway_disconnected", "gateway_disconnected") | ("gateway_rtt_high", "gateway_rtt_high") => {
                by.server.is_none()
            }
            ("route_mesh_incomplete", "route_mesh_incomplete") => by.peer_server.is_none(),
            ("topology_drift", "topology_drift") => by.server.is_none() || by.remote.is_none(),
            _ => true,
        }
    }
}

/// The whole table. Read: a finding of `by` explains one of `of` where `why`.
pub static RULES: &[Rule] = &[
    Rule {
        by: "cluster_unreachable",
        of: "gateway_disconnected",
        holds: cluster_covers_link,
        why: "the link leads to or from the cluster, and its other end is not one that still sees it",
    },
    Rule {
        by: "cluster_unreachable",
        of: "server_missing",
        holds: |by, _, of| by.cluster == of.cluster,
        why: "the server is of the cluster",
    },
    Rule {
        by: "gateway_config_mismatch",
        of: "gateway_disconnected",
        holds: block_covers_link,
        why: "the link is one that the difference concerns",
    },
    Rule {
        by: "duplicate_server_name",
        of: "gateway_disconnected",
        holds: name_covers_pair,
        why: "the link is that of a server of the name, to a cluster that has another one",
    },
    Rule {
        by: "duplicate_server_name",
        of: "duplicate_server_name",
        holds: name_covers_pair,
        why: "a third cluster has the name too: one finding speaks for all",
    },
    Rule {
        by: "gateway_tls_expiring",
        of: "gateway_disconnected",
        holds: block_covers_link,
        why: "the certificate has ended, and the link is to or from the server's gateway",
    },
    Rule {
        by: "gateway_config_mismatch",
        of: "gateway_stale_remote",
        holds: mismatch_covers_remote,
        why: "the difference is that remote",
    },
    Rule {
        by: "gateway_config_mismatch",
        of: "gateway_implicit",
        holds: mismatch_covers_remote,
        why: "the difference is that remote",
    },
    Rule {
        by: "gateway_implicit",
        of: "gateway_implicit",
        holds: |by, scope, of| by.remote != of.remote && mismatch_covers_remote(by, scope, of),
        why: "the cluster lists that remote under a wrong name",
    },
    Rule {
        by: "gateway_implicit",
        of: "gateway_stale_remote",
        holds: wrong_name_covers,
        why: "the name is the wrong one of a cluster that exists",
    },
    Rule {
        by: "gateway_implicit",
        of: "gateway_disconnected",
        holds: wrong_name_covers,
        why: "the name is the wrong one of a cluster that exists",
    },
    Rule {
        by: "gateway_stale_remote",
        of: "gateway_disconnected",
        holds: |by, _, of| by.cluster == of.cluster && by.remote == of.remote,
        why: "the remote exists nowhere",
    },
    Rule {
        by: "gateway_stale_remote",
        of: "cluster_unreachable",
        holds: |by, _, of| by.remote == of.cluster,
        why: "the cluster is forgotten, and only a name in a configuration is left of it",
    },
    Rule {
        by: "gateway_config_mismatch",
        of: "cluster_unreachable",
        holds: |by, scope, of| {
            by.server.is_none()
                && matches!((scope, &of.cluster), (Scope::Remotes(r), Some(c)) if r.contains(c))
        },
        why: "the vantage's whole cluster lacks the remote and is not let in, or does not let it in",
    },
    Rule {
        by: "gateway_disconnected",
        of: "gateway_disconnected",
        holds: |by, _, of| {
            by.server.is_none() && of.server.is_some() && by.cluster == of.cluster && by.remote == of.remote
        },
        why: "all servers of the cluster lost the remote",
    },
    Rule {
        by: "gateway_disconnected",
        of: "gateway_disconnected",
        holds: |by, _, of| {
            let forth = (&by.cluster, &by.remote);
            by.server.is_none() && forth == (&of.remote, &of.cluster) && by.cluster < by.remote
        },
        why: "two clusters lost each other: the finding of the first by name speaks for both directions",
    },
    Rule {
        by: "gateway_silent",
        of: "gateway_disconnected",
        holds: |by, _, of| by.cluster == of.cluster && by.server == of.server && by.remote == of.remote,
        why: "the server has noticed that nothing passes, and cannot make the link anew",
    },
    Rule {
        by: "gateway_silent",
        of: "server_missing",
        holds: |by, _, of| by.cluster == of.cluster && by.server == of.server,
        why: "the server lives; its answers and heartbeats are lost on its gateway to us",
    },
    Rule {
        by: "gateway_silent",
        of: "cluster_unreachable",
        holds: |_, scope, of| matches!((scope, &of.cluster), (Scope::Remotes(r), Some(c)) if r.contains(c)),
        why: "the cluster has one server, which lives; what it says is lost on its gateway to us",
    },
    Rule {
        by: "gateway_silent",
        of: "gateway_one_way",
        holds: |by, _, of| by.cluster == of.cluster && by.server == of.server,
        why: "nothing passes that link, or comes from that server",
    },
    Rule {
        by: "gateway_flapping",
        of: "gateway_flapping",
        holds: |by, _, of| {
            by.server.is_none() && of.server.is_some() && by.cluster == of.cluster && by.remote == of.remote
        },
        why: "all servers of the cluster flap",
    },
    Rule {
        by: "gateway_config_mismatch",
        of: "gateway_flapping",
        holds: block_covers_link,
        why: "the link is one that the difference concerns",
    },
    Rule {
        by: "server_missing",
        of: "gateway_disconnected",
        holds: |by, _, of| by.cluster == of.cluster && by.server == of.server,
        why: "the server that dials is gone",
    },
    Rule {
        by: "cluster_unreachable",
        of: "topology_drift",
        holds: |by, _, of| by.cluster == of.cluster || by.cluster == of.remote,
        why: "the cluster, its server or a remote of its name cannot be as expected while it is unreachable",
    },
    Rule {
        by: "server_missing",
        of: "topology_drift",
        holds: |by, _, of| by.cluster == of.cluster && by.server == of.server,
        why: "the server is missed, and that says more",
    },
    Rule {
        by: "gateway_disconnected",
        of: "topology_drift",
        holds: |by, _, of| is_part_of_link(by, of),
        why: "the link is lost",
    },
    Rule {
        by: "gateway_config_mismatch",
        of: "topology_drift",
        holds: |by, scope, of| {
            let dials = by.cluster == of.cluster && (by.server.is_none() || by.server == of.server);
            match (scope, &of.remote) {
                (Scope::Remotes(remotes), Some(remote)) => dials && remotes.contains(remote),
                (Scope::AllLinks | Scope::AllBut(_), Some(_)) => dials,
                _ => false,
            }
        },
        why: "the remote is one that the difference inside the cluster concerns",
    },
    Rule {
        by: "duplicate_server_name",
        of: "topology_drift",
        holds: |by, _, of| {
            by.server == of.server
                && (by.cluster == of.cluster || of.cluster.is_some() && by.remote == of.cluster)
        },
        why: "the server is one of the two",
    },
    Rule {
        by: "gateway_stale_remote",
        of: "topology_drift",
        holds: |by, _, of| {
            by.remote == of.cluster && of.server.is_none() && of.remote.is_none() || is_part_of_link(by, of)
        },
        why: "the remote exists nowhere",
    },
    Rule {
        by: "topology_drift",
        of: "topology_drift",
        holds: |by, _, of| match (&by.server, &by.remote) {
            (None, None) => {
                (by.cluster == of.cluster || by.cluster == of.remote)
                    && (of.server.is_some() || of.remote.is_some())
            }
            (None, Some(_)) => of.server.is_some() && is_part_of_link(by, of),
            (Some(_), None) => by.cluster == of.cluster && by.server == of.server && of.remote.is_some(),
            (Some(_), Some(_)) => false,
        },
        why: "what is not there, or not expected, as a whole is told of as a whole",
    },
    Rule {
        by: "gateway_pending_pressure",
        of: "gateway_silent",
        holds: |by, _, of| by.cluster == of.cluster && by.server == of.server && by.remote == of.remote,
        why: "what passes late, or not at all, waits on that gateway",
    },
    Rule {
        by: "gateway_pending_pressure",
        of: "gateway_disconnected",
        holds: |by, _, of| by.cluster == of.cluster && by.server == of.server && by.remote == of.remote,
        why: "the server closed the gateway as a slow consumer, and makes it anew",
    },
    Rule {
        by: "gateway_pending_pressure",
        of: "server_missing",
        holds: |by, _, of| by.cluster == of.cluster && by.server == of.server,
        why: "its answers and heartbeats wait behind the jam on its gateway",
    },
    Rule {
        by: "gateway_pending_pressure",
        of: "cluster_unreachable",
        holds: |by, _, of| by.cluster == of.cluster || by.remote == of.cluster,
        why: "requests to the cluster, or its answers, wait behind the jam",
    },
    Rule {
        by: "gateway_pending_pressure",
        of: "gateway_rtt_high",
        holds: |by, _, of| same_pair(by, of),
        why: "a PING waits behind the jam as everything does",
    },
    Rule {
        by: "gateway_rtt_high",
        of: "gateway_rtt_high",
        holds: |by, _, of| {
            let same = by.cluster == of.cluster;
            by.server.is_none()
                && same_pair(by, of)
                && (of.server.is_some() || !same && by.cluster < of.cluster)
        },
        why: "the way between the clusters is long, in both directions: the first by name speaks for all",
    },
    Rule {
        by: "route_pending_pressure",
        of: "server_missing",
        holds: |by, _, of| {
            by.cluster == of.cluster && (by.server == of.server || by.peer_server == of.server)
        },
        why: "requests to it, or its answers, wait behind the jam on the route",
    },
    Rule {
        by: "route_mesh_incomplete",
        of: "route_mesh_incomplete",
        holds: |by, _, of| {
            by.peer_server.is_none()
                && of.peer_server.is_some()
                && by.cluster == of.cluster
                && (by.server == of.server || by.server == of.peer_server)
        },
        why: "one server of the pair lost several peers",
    },
    Rule {
        by: "route_mesh_incomplete",
        of: "server_missing",
        holds: |by, _, of| {
            by.cluster == of.cluster && (by.server == of.server || by.peer_server == of.server)
        },
        why: "the server lives, and the way to ask it or to hear it is the route that is missing",
    },
    Rule {
        by: "route_mesh_incomplete",
        of: "gateway_one_way",
        holds: |by, _, of| by.cluster == of.cluster && of.remote.is_none(),
        why: "requests enter the cluster at one server and go on by routes, of which one is missing",
    },
];

/// Whether `by` is the link `of`, or all links of its cluster to that remote.
fn is_part_of_link(by: &Entity, of: &Entity) -> bool {
    by.cluster == of.cluster && by.remote == of.remote && (by.server.is_none() || by.server == of.server)
}

/// Both are about the way between the same two clusters.
fn same_pair(by: &Entity, of: &Entity) -> bool {
    (&by.cluster, &by.remote) == (&of.cluster, &of.remote)
        || (&by.cluster, &by.remote) == (&of.remote, &of.cluster)
}

fn cluster_covers_link(by: &Entity, scope: &Scope, of: &Entity) -> bool {
    let other = if by.cluster == of.cluster {
        &of.remote
    } else if by.cluster == of.remote {
        &of.cluster
    } else {
        return false;
    };
    match (scope, other) {
        (Scope::AllBut(spared), Some(other)) => !spared.contains(other),
        _ => true,
    }
}

fn name_covers_pair(by: &Entity, scope: &Scope, of: &Entity) -> bool {
    let (Scope::Remotes(clusters), Some(cluster), Some(remote)) = (scope, &of.cluster, &of.remote) else {
        return false;
    };
    by.server == of.server && clusters.contains(cluster) && clusters.contains(remote)
}

/// Not where it is gossip alone: such a link can be lost for any reason.
fn wrong_name_covers(by: &Entity, scope: &Scope, of: &Entity) -> bool {
    by.cluster == of.cluster && by.remote == of.remote && matches!(scope, Scope::Remotes(_))
}

fn mismatch_covers_remote(by: &Entity, scope: &Scope, of: &Entity) -> bool {
    by.cluster == of.cluster
        && matches!((scope, &of.remote), (Scope::Remotes(remotes), Some(remote)) if remotes.contains(remote))
}

fn block_covers_link(by: &Entity, scope: &Scope, of: &Entity) -> bool {
    let dials =
        by.cluster == of.cluster && (by.server.is_none() || of.server.is_none() || by.server == of.server);
    let (Some(cluster), Some(remote)) = (&of.cluster, &of.remote) else { return false };
    match scope {
        Scope::Entity => false,
        Scope::Remotes(remotes) => {
            // A remote that refuses, or is refused, is lost in both directions.
            dials && remotes.contains(remote)
                || by.server.is_none() && by.cluster.as_ref() == Some(remote) && remotes.contains(cluster)
        }
        Scope::AllLinks | Scope::AllBut(_) => dials || by.cluster.as_ref() == Some(remote),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks;

    #[test]
    fn every_check_in_the_table_is_in_the_registry() {
        for rule in RULES {
            assert!(checks::find(rule.by).is_some(), "{} is no check: mend the table", rule.by);
            assert!(checks::find(rule.of).is_some(), "{} is no check: mend the table", rule.of);
        }
    }

    #[test]
    fn a_rule_holds_only_where_it_may() {
        use std::collections::BTreeSet;
        let names = [None, Some("a"), Some("b")].map(|name| name.map(crate::model::Name::from));
        let mut entities = Vec::new();
        for cluster in &names {
            for server in &names {
                for remote in &names {
                    for peer in &names {
                        entities.push(Entity {
                            cluster: cluster.clone(),
                            server: server.clone(),
                            remote: remote.clone(),
                            peer_server: peer.clone(),
                            ..Entity::default()
                        });
                    }
                }
            }
        }
        let a = || BTreeSet::from(["a".into()]);
        for scope in [Scope::Entity, Scope::AllLinks, Scope::Remotes(a()), Scope::AllBut(a())] {
            for rule in RULES {
                for by in entities.iter().filter(|by| !rule.may_hold(by)) {
                    let holds = entities.iter().find(|of| (rule.holds)(by, &scope, of));
                    assert!(holds.is_none(), "{} explains {}: {by:?}, {holds:?}", rule.by, rule.of);
                }
            }
        }
    }

    #[test]
    fn no_finding_can_explain_itself_in_a_circle() {
        // Between checks the table must be a partial order; within gateway_disconnected a rule goes from a
        // cluster to a server, or from the first cluster by name to the second; within duplicate_server_name
        // from more clusters to fewer; within gateway_implicit from a wrong name to the right one; within
        // topology_drift from fewer names to more.
        let order = [
            "gateway_config_mismatch",
            "duplicate_server_name",
            "gateway_tls_expiring",
            "gateway_implicit",
            "gateway_stale_remote",
            "gateway_pending_pressure",
            "route_pending_pressure",
            "gateway_silent",
            "cluster_unreachable",
            "route_mesh_incomplete",
            "server_missing",
            "gateway_disconnected",
            "gateway_one_way",
            "gateway_flapping",
            "gateway_rtt_high",
            "topology_drift",
        ];
        let rank =
            |check: &str| order.iter().position(|c| *c == check).expect("a check of the table has a rank");
        for rule in RULES {
            assert!(
                rank(rule.by) < rank(rule.of) || rule.by == rule.of,
                "{} explains {} against the order: two findings could explain each other",
                rule.by,
                rule.of
            );
        }
    }
}
