//! A look at a few clusters between two looks at all, as the agent has it in a large supercluster.

use std::collections::BTreeSet;

use super::super::{World, ms, secs};
use crate::checks;
use crate::findings::Judgement;
use crate::model::{Fact, Glance, LinkState, Name};

impl World {
    /// These clusters are asked for their gateways, and what can be told by that is.
    pub(crate) fn glance(&mut self, clusters: &[&str]) {
        let (Some(vantage), Some(mut whole)) = (self.agent.clone(), self.snapshot.take()) else { return };
        let asked_at = self.now;
        let mut answered = BTreeSet::new();
        self.come_late();
        for name in clusters.iter().flat_map(|cluster| self.names_of(cluster)).collect::<Vec<_>>() {
            if self.answers_in_time(&name, &vantage) {
                self.node(&name).seq += 1;
                let (info, fact) = (self.info(&name), Fact::Gatewayz(self.gatewayz(&name)));
                if let Some(looks) = self.delays.of.get(&name) {
                    self.delays.waiting.push((info, fact, asked_at, *looks));
                    continue;
                }
                answered.insert(info.id.clone());
                let own = self.node(&vantage).cluster.clone();
                if info.cluster.as_ref() == Some(&own) {
                    self.roster.note_who_comes_no_more(&info, &self.gatewayz(&name), asked_at);
                }
                let _ = self.roster.answer(info.clone(), fact, asked_at);
                if clusters.contains(&&*own) && info.cluster != Some(own) && !self.muted.contains(&name) {
                    let routes = Fact::Routez(self.routez(&name));
                    let _ = self.roster.answer(info, routes, asked_at);
                }
            }
        }
        if whole.settled && whole.vantage.server_id == self.id(&vantage) && asked_at > whole.at {
            let late = self.delays.told_before(asked_at, &answered);
            let clusters = clusters.iter().map(|cluster| Name::from(*cluster)).collect();
            let links = self.roster.glance(&mut whole, &Glance { asked_at, clusters, answered, late });
            let all = std::mem::replace(&mut whole.links, links);
            let at = std::mem::replace(&mut whole.at, asked_at);
            let verdicts = checks::glance(&whole, &self.settings, &self.ledger.watched());
            (whole.links, whole.at) = (all, at);
            let changes = self.ledger.step(Judgement {
                at: asked_at,
                seen_at: asked_at,
                is_glance: true,
                epoch: self.epoch,
                verdicts,
                settings: &self.settings,
                repeat_every: secs(3600),
            });
            self.published.extend(changes);
        }
        self.snapshot = Some(whole);
    }

    /// Nobody but the glancer looks for so many seconds.
    fn glance_for(&mut self, seconds: u64, clusters: &[&str]) {
        let agent = self.agent.take();
        for _ in 0..seconds * 2 {
            self.run(ms(500));
            self.agent.clone_from(&agent);
            self.epoch += 1;
            self.glance(clusters);
            self.agent = None;
        }
        self.agent = agent;
        // It goes on looking where it was.
        self.grid_at = self.now.plus(ms(500));
    }

    fn state(&self, server: &str, remote: &str) -> LinkState {
        let mut links = self.view().links.iter();
        links.find(|l| &*l.server == server && &*l.remote == remote).expect("it is known").state
    }
}

const LOST: &str = "opened gateway_disconnected us/us-1→ap path_cut";
const HEALED: &str = "resolved gateway_disconnected us/us-1→ap";

#[test]
fn a_link_that_is_lost_and_healed_is_told_of_by_glances_alone() {
    let mut world = World::seen_from("eu-0");
    world.cut("us-1", "ap");
    world.glance_for(2, &["us", "ap"]);
    assert_eq!(world.story(), [""; 0], "a reset link is back within this");
    assert_eq!(world.state("us-1", "ap"), LinkState::Absent, "who asks for the topology sees what is known");
    world.glance_for(1, &["us", "ap"]);
    assert_eq!(world.take_story(), [LOST]);
    world.run(secs(3));
    assert_eq!(world.take_story(), [""; 0], "the look at all says the same");
    world.heal();
    world.glance_for(4, &["us", "ap"]);
    assert_eq!(world.state("us-1", "ap"), LinkState::Connected);
    assert_eq!(world.take_story(), [HEALED]);
}

#[test]
fn a_server_that_lost_its_way_to_us_is_told_of_by_what_our_own_cluster_shows() {
    let mut world = World::seen_from("eu-0");
    world.cut("us-1", "eu");
    world.glance_for(2, &["us", "eu"]);
    assert_eq!(world.story(), [""; 0]);
    assert_eq!(world.state("us-1", "eu"), LinkState::Absent);
    world.glance_for(1, &["us", "eu"]);
    let story = world.take_story();
    let [line] = &story[..] else { panic!("one fault, one finding: {story:?}") };
    assert!(line.starts_with("opened gateway_disconnected us/us-1→eu"), "{line}");
    world.run(secs(5));
    assert_eq!(world.take_story(), [""; 0], "the look at all says the same");
    world.heal();
    world.glance_for(4, &["us", "eu"]);
    assert_eq!(world.take_story(), ["resolved gateway_disconnected us/us-1→eu"]);
    world.kill("us-1");
    world.glance_for(8, &["us", "eu"]);
    assert_eq!(world.take_story(), [""; 0], "who died lost no gateway");
}

#[test]
fn a_link_of_a_server_that_answers_late_is_told_of_by_glances_alone() {
    let mut world = World::seen_from("eu-0");
    world.delay_replies("us-1", 6);
    world.run(secs(5));
    world.reset("us-1", "ap", ms(1150));
    world.glance_for(8, &["us", "ap"]);
    assert_eq!(world.take_story(), [""; 0]);
    world.cut("us-1", "ap");
    world.glance_for(5, &["us", "ap"]);
    assert_eq!(world.take_story(), [""; 0]);
    world.glance_for(2, &["us", "ap"]);
    assert_eq!(world.take_story(), [LOST]);
    world.run(secs(5));
    assert_eq!(world.take_story(), [""; 0], "the look at all says the same");
    world.heal();
    world.glance_for(8, &["us", "ap"]);
    assert_eq!(world.take_story(), [HEALED]);
}

#[test]
fn what_a_server_told_before_it_lost_its_way_to_us_does_not_hide_that() {
    let mut world = World::seen_from("eu-0");
    world.delay_replies("us-1", 6);
    world.run(secs(10));
    world.cut("us-1", "eu");
    world.glance_for(4, &["us", "eu"]);
    let story = world.take_story();
    let [line] = &story[..] else { panic!("one fault, one finding: {story:?}") };
    assert!(line.starts_with("opened gateway_disconnected us/us-1→eu"), "{line}");
    world.run(secs(5));
    assert_eq!(world.take_story(), [""; 0]);
}

#[test]
fn a_server_that_seemed_to_hang_when_all_were_looked_at_is_seen_to_live_by_glances() {
    let mut world = World::seen_from("eu-0");
    // In a round that takes a minute its cluster is asked after the cut, and ours was before.
    world.deafen("us-1");
    world.run(ms(500));
    world.deaf.clear();
    world.cut("us-1", "eu");
    world.glance_for(5, &["us", "eu"]);
    let story = world.take_story();
    let [line] = &story[..] else { panic!("one fault, one finding: {story:?}") };
    assert!(line.starts_with("opened gateway_disconnected us/us-1→eu"), "{line}");
}

#[test]
fn a_link_that_went_while_nobody_judged_is_told_of_by_glances_later() {
    let mut world = World::seen_from("eu-0");
    world.cut("us-1", "eu");
    let agent = world.agent.take();
    world.run(secs(2));
    world.agent.clone_from(&agent);
    world.snapshot.as_mut().expect("there is one").settled = false;
    world.glance(&["us", "eu"]);
    world.snapshot.as_mut().expect("there is one").settled = true;
    world.agent = None;
    world.run(secs(60));
    world.agent = agent;
    world.glance_for(5, &["us", "eu"]);
    let story = world.take_story();
    let [line] = &story[..] else { panic!("one fault, one finding: {story:?}") };
    assert!(line.starts_with("opened gateway_disconnected us/us-1→eu"), "{line}");
}

#[test]
fn a_link_that_is_lost_besides_another_waits_for_no_look_at_all() {
    let mut world = World::seen_from("eu-0");
    world.cut("ap-1", "eu");
    world.run(secs(2));
    assert_eq!(world.take_story(), [""; 0], "that one waits yet");
    world.cut("us-1", "ap");
    world.cut("us-2", "eu");
    world.glance_for(5, &["us", "eu"]);
    let story = world.take_story();
    let [line] = &story[..] else { panic!("ap is not looked at: {story:?}") };
    assert!(line.starts_with("opened gateway_disconnected us/us-2→eu"), "{line}");
}

#[test]
fn a_server_that_hangs_has_lost_no_gateway_when_the_others_close_theirs() {
    let mut world = World::seen_from("eu-0");
    world.stop("us-1");
    world.glance_for(60, &["us", "eu"]);
    assert_ne!(world.state("us-1", "eu"), LinkState::Absent);
    assert_eq!(world.take_story(), [""; 0], "that it hangs, the look at all tells");
}

#[test]
fn clusters_that_lose_each_other_are_one_finding_by_glances_too() {
    let mut world = World::seen_from("eu-0");
    world.partition("us", "ap");
    world.glance_for(5, &["us", "ap"]);
    let story = world.take_story();
    let [line] = &story[..] else { panic!("one fault, one finding: {story:?}") };
    assert!(line.starts_with("opened gateway_disconnected ap→us path_cut"), "{line}");
    world.run(secs(5));
    assert_eq!(world.take_story(), [""; 0]);
}

#[test]
fn who_was_not_asked_or_does_not_answer_any_more_is_not_judged() {
    let mut world = World::seen_from("eu-0");
    world.cut("us-1", "ap");
    world.glance_for(8, &["us", "eu"]);
    assert_eq!(world.take_story(), [""; 0], "ap was not asked");
    world.heal();
    world.run(secs(10));
    world.kill_cluster("ap");
    world.glance_for(8, &["us", "ap"]);
    assert_eq!(world.take_story(), [""; 0], "whether ap is down, the look at all tells");
    world.run(secs(10));
    let story = world.take_story();
    assert!(
        story.iter().all(|line| line.contains("cluster_unreachable ap")) && story.len() == 1,
        "{story:?}"
    );
}

#[test]
fn a_cluster_that_starts_anew_is_not_judged_by_a_glance() {
    for crash in [true, false] {
        let mut world = World::seen_from("eu-0");
        for server in ["ap-0", "ap-1", "ap-2"] {
            if crash { world.kill(server) } else { world.shut_down(server) }
        }
        world.glance_for(2, &["us", "ap"]);
        world.start_cluster("ap");
        world.glance_for(8, &["us", "ap"]);
        assert_eq!(world.take_story(), [""; 0], "crash: {crash}");
        world.run(secs(8));
        assert_eq!(world.take_story(), [""; 0], "crash: {crash}");
    }
}

#[test]
fn what_waits_and_may_explain_it_holds_back_a_finding() {
    let mut world = World::seen_from("eu-0");
    // The same block without the remote: two epochs until that opens, and it explains the link.
    world.reconfigure("us-1", |gateway| {
        gateway.as_mut().unwrap().remotes.remove("ap");
    });
    let until = world.now.plus(secs(40));
    while world.now < until && world.open().is_empty() {
        world.run(ms(500));
        world.glance(&["us", "ap"]);
    }
    let story = world.take_story();
    assert!(
        story.iter().all(|line| !line.contains("gateway_disconnected")) && !story.is_empty(),
        "{story:?}"
    );
}

#[test]
fn a_heartbeat_tells_to_where_gateways_are_other_ones_than_were_answered() {
    let mut world = World::seen_from("eu-0");
    let moved = |world: &World, server: &str, own: Option<&str>| {
        let own = own.map(Name::from);
        let remotes = world.roster.moved(&world.info(server), &world.statsz(server), own.as_ref());
        remotes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for name in world.names() {
        assert_eq!(moved(&world, &name, Some("eu")), [""; 0], "{name}");
    }
    world.agent = None;
    world.cut("us-1", "ap");
    world.cut("us-2", "eu");
    world.run(secs(1));
    assert_eq!(moved(&world, "us-1", None), ["ap"]);
    assert_eq!(moved(&world, "us-0", None), [""; 0]);
    let anew = |server: &str, own: Option<&str>| {
        let own = own.map(Name::from);
        let remotes = world.roster.answers_anew(&world.info(server), &world.gatewayz(server), own.as_ref());
        remotes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!((anew("us-1", None), anew("us-0", None)), (vec!["ap".to_owned()], vec![]));
    let end: Vec<Name> = world.names().into_iter().filter(|n| n.starts_with("eu")).collect();
    let of_own = |told: &dyn Fn(&str) -> Vec<String>| end.iter().filter(|name| told(name) == ["us"]).count();
    assert_eq!(of_own(&|name| moved(&world, name, Some("eu"))), 1, "where it ended");
    assert_eq!(of_own(&|name| anew(name, Some("eu"))), 1, "and in what is answered there");
    assert!(end.iter().all(|name| moved(&world, name, None).is_empty() && anew(name, None).is_empty()));
    world.heal();
    world.run(secs(5));
    assert_eq!(moved(&world, "us-1", None), ["ap"], "it is another connection");
}
