//! What a row of the catalogue is made of.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use gatewatch::lab::{Direction, GatewaySpec, Lab, RemoteSpec, Spec, TlsSpec};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::common::load::Load;
use crate::common::{AgentSpec, WITHIN, Watch};

/// That server of `us` which the gateway of `eu-0` leads to: what the agent asks `us` through.
pub(crate) const US_N: &str = "us-n";
/// The server of `us` after that one.
pub(crate) const US_M: &str = "us-m";

/// A link that is reset again as soon as it is back has never been there for who looks twice a second.
const BETWEEN_RESETS: Duration = Duration::from_secs(2);
const STREAM: &str = "ORDERS";

/// One thing done to a lab. Each can be undone, and the order does not matter for that. A name is a server's
/// or a cluster's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Do {
    Cut(&'static str, &'static str),
    Blackhole(&'static str, &'static str, Direction),
    HalfOpen(&'static str, &'static str),
    /// Bytes per second in each direction.
    Throttle(&'static str, &'static str, u64),
    /// Milliseconds in each direction.
    Delay(&'static str, &'static str, u64),
    /// So many times, each when the link is back from the last.
    Reset(&'static str, &'static str, usize),
    Heal(&'static str, &'static str),
    Kill(&'static str),
    Stop(&'static str),
    Start(&'static str),
    /// With another gateway block.
    Restart(&'static str, fn(&mut GatewaySpec)),
    /// One of the remote's URLs, and one that leads nowhere.
    OneUrl(&'static str, &'static str),
    /// It has no remote but this one, by another name and by the servers' own addresses.
    Misspell(&'static str, &'static str, &'static str),
    Certificate(&'static str, TlsSpec),
    /// From a publisher at the one to a subscriber at the other: so many bytes a second.
    Load(&'static str, &'static str, u64),
    /// The same, so many bytes in all.
    Burst(&'static str, &'static str, u64),
    /// From a publisher that nobody hears: so many bytes a second.
    Unheard(&'static str, u64),
    /// So many clients of `APP`.
    Clients(&'static str, usize),
    /// A stream of `APP` whose only replica is in this cluster.
    Stream(&'static str),
    /// Something answers so many questions of the agent beside the servers, and cannot be understood.
    Garble(usize),
    /// Something says in the place of this server that it is optimistic about an account towards that remote,
    /// which no server that can be run here is.
    Optimistic(&'static str, &'static str),
    /// Milliseconds until the next.
    Wait(u64),
}

/// A finding that a fault must give.
#[derive(Clone, Debug)]
pub(crate) struct Finds {
    /// As [`crate::common::Event::about`] says it.
    pub(crate) about: &'static str,
    /// Where it is not the check's own.
    pub(crate) severity: Option<&'static str>,
    /// It gives way to the next one as the fault grows.
    pub(crate) reclassified: bool,
    pub(crate) cause: Option<(&'static str, &'static str)>,
}

impl Finds {
    pub(crate) fn check(&self) -> &'static str {
        self.about.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn severity(&self) -> &'static str {
        let own = || gatewatch::checks::find(self.check()).map(|check| check.manual().severity.as_str());
        self.severity.or_else(own).unwrap_or_default()
    }
}

/// Where continuous integration plays a fault; `GATEWATCH_VERSIONS=all` plays each on all of the table's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Plays {
    /// Servers of all versions do the same in it.
    Newest,
    /// Also on the oldest of the table that has the fault.
    Oldest,
    /// On each version that is supported, and on versions mixed.
    Each,
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// Done before the agent comes.
    pub(crate) before: Vec<Do>,
    pub(crate) does: Vec<Do>,
    /// What must open, in this order, and nothing else. Empty: silence.
    pub(crate) finds: Vec<Finds>,
    pub(crate) within: Duration,
    /// The check whose silence a row without findings is about.
    pub(crate) silent: Option<&'static str>,
    pub(crate) plays: Plays,
    /// The versions that have this fault at all, where not all do.
    pub(crate) only: Option<&'static [&'static str]>,
    /// The cluster that the agent is in.
    pub(crate) agent_in: &'static str,
    pub(crate) config: Option<&'static str>,
    /// The text of the expected topology, `topology.toml` beside the configuration.
    pub(crate) topology: Option<&'static str>,
    /// What the finding explains.
    pub(crate) inhibits: &'static [&'static str],
    /// The keys in `differs`.
    pub(crate) differs: &'static [&'static str],
    /// The server is mended with the `expected_block`.
    pub(crate) told: bool,
    /// Every one of `still_seen_by` is of this cluster.
    pub(crate) seen_by: Option<&'static str>,
    /// Only time ends it: the agent is not waited for.
    pub(crate) lasts: bool,
    /// What is open does not show in each look: a sweep that ends at any moment may end in one that does not show it.
    pub(crate) wavers: bool,
    pub(crate) resolves_in: Duration,
    /// What the server itself does about it.
    pub(crate) server: &'static str,
}

pub(crate) fn fault(name: &'static str, does: &[Do]) -> Fault {
    Fault {
        name,
        before: Vec::new(),
        does: does.to_vec(),
        finds: Vec::new(),
        within: WITHIN,
        silent: None,
        plays: Plays::Newest,
        only: None,
        agent_in: "eu",
        config: None,
        topology: None,
        inhibits: &[],
        differs: &[],
        told: false,
        seen_by: None,
        lasts: false,
        wavers: false,
        resolves_in: WITHIN,
        server: "",
    }
}

impl Fault {
    pub(crate) fn finds(mut self, about: &'static str) -> Self {
        self.finds.push(Finds { about, severity: None, reclassified: false, cause: None });
        self
    }

    fn last(mut self, edit: impl FnOnce(&mut Finds)) -> Self {
        edit(self.finds.last_mut().expect("a finding comes first"));
        self
    }

    pub(crate) fn which_is(self, severity: &'static str) -> Self {
        self.last(|finds| finds.severity = Some(severity))
    }

    pub(crate) fn wavers(mut self) -> Self {
        self.wavers = true;
        self
    }

    pub(crate) fn which_gives_way(self) -> Self {
        self.last(|finds| finds.reclassified = true)
    }

    pub(crate) fn because(self, kind: &'static str, confidence: &'static str) -> Self {
        self.last(|finds| finds.cause = Some((kind, confidence)))
    }

    pub(crate) fn within_s(mut self, seconds: u64) -> Self {
        self.within = Duration::from_secs(seconds);
        self
    }

    pub(crate) fn resolves_in_s(mut self, seconds: u64) -> Self {
        self.resolves_in = Duration::from_secs(seconds);
        self
    }

    /// Nothing opens, and `check` could.
    pub(crate) fn leaves_silent(mut self, check: &'static str) -> Self {
        self.silent = Some(check);
        self
    }

    pub(crate) fn plays(mut self, plays: Plays) -> Self {
        self.plays = plays;
        self
    }

    pub(crate) fn only(mut self, versions: &'static [&'static str]) -> Self {
        self.only = Some(versions);
        self
    }

    pub(crate) fn seen_from(mut self, cluster: &'static str) -> Self {
        self.agent_in = cluster;
        self
    }

    pub(crate) fn config(mut self, config: &'static str) -> Self {
        self.config = Some(config);
        self
    }

    pub(crate) fn topology(mut self, topology: &'static str) -> Self {
        self.topology = Some(topology);
        self
    }

    pub(crate) fn before(mut self, does: &[Do]) -> Self {
        self.before = does.to_vec();
        self
    }

    pub(crate) fn inhibits(mut self, links: &'static [&'static str]) -> Self {
        self.inhibits = links;
        self
    }

    pub(crate) fn differs(mut self, keys: &'static [&'static str]) -> Self {
        self.differs = keys;
        self.mended_as_told()
    }

    pub(crate) fn mended_as_told(mut self) -> Self {
        self.told = true;
        self
    }

    pub(crate) fn seen_by(mut self, cluster: &'static str) -> Self {
        self.seen_by = Some(cluster);
        self
    }

    pub(crate) fn lasts(mut self) -> Self {
        self.lasts = true;
        self
    }

    pub(crate) fn server(mut self, does: &'static str) -> Self {
        self.server = does;
        self
    }

    pub(crate) fn agent(&self) -> AgentSpec {
        AgentSpec {
            server: format!("{}-0", self.agent_in),
            listen_at: format!("{}-1", self.agent_in),
            config: self.config.map(str::to_owned),
        }
    }
}

/// What a fault holds while it lasts.
#[derive(Debug, Default)]
pub(crate) struct Held {
    loads: Vec<Load>,
    clients: Vec<async_nats::Client>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The servers of this name; all of a cluster's.
fn members(lab: &Lab, name: &str) -> Vec<String> {
    lab.members(name).unwrap().into_iter().map(str::to_owned).collect()
}

/// Who [`US_N`] and [`US_M`] are.
#[derive(Debug)]
pub(crate) struct Us {
    n: String,
    m: String,
}

impl Us {
    pub(crate) async fn of(lab: &Lab) -> Self {
        let id = lab.view("eu-0").await.unwrap().outbound["us"].server_id.clone();
        let members = members(lab, "us");
        for (at, server) in members.iter().enumerate() {
            if lab.server_id(server).await.unwrap() == id {
                return Self { n: server.clone(), m: members[(at + 1) % members.len()].clone() };
            }
        }
        panic!("eu-0 has a gateway to {id}, which is no server of us");
    }

    fn name<'a>(&'a self, name: &'a str) -> &'a str {
        match name {
            US_N => &self.n,
            US_M => &self.m,
            other => other,
        }
    }

    /// What is said of the two names the first by name first.
    pub(crate) fn in_text(&self, text: &str) -> String {
        let pair = format!("{US_N}/{US_M}");
        let (first, second) = if self.n < self.m { (&self.n, &self.m) } else { (&self.m, &self.n) };
        text.replace(&pair, &format!("{first}/{second}")).replace(US_N, &self.n).replace(US_M, &self.m)
    }
}

impl Do {
    pub(crate) async fn apply(self, watch: &Watch, us: &Us, held: &mut Held) {
        let lab = &watch.lab;
        let name = |name: &'static str| us.name(name);
        match self {
            Self::Cut(from, to) => drop(lab.cut(name(from), name(to)).await.unwrap()),
            Self::Blackhole(from, to, way) => drop(lab.blackhole(from, to, way).await.unwrap()),
            Self::HalfOpen(from, to) => drop(lab.half_open(from, to).await.unwrap()),
            Self::Throttle(from, to, rate) => drop(lab.throttle(from, to, rate).await.unwrap()),
            Self::Delay(from, to, ms) => {
                lab.delay(from, to, Duration::from_millis(ms)).await.unwrap();
            }
            Self::Reset(from, to, times) => reset(lab, from, to, times).await,
            Self::Heal(from, to) => drop(lab.heal(from, to).await.unwrap()),
            Self::Kill(of) => {
                let members = members(lab, name(of));
                let kills = members.iter().map(|server| lab.kill(server));
                futures_util::future::try_join_all(kills).await.unwrap();
            }
            Self::Stop(of) => {
                for server in members(lab, name(of)) {
                    lab.stop(&server).await.unwrap();
                }
            }
            Self::Start(of) => start(lab, name(of)).await,
            Self::Restart(of, edit) => restart(lab, name(of), |_, gateway| edit(gateway)).await,
            Self::Misspell(server, remote, wrong) => {
                let mut urls = Vec::new();
                for target in members(lab, remote) {
                    let gateway = lab.ask(&target, "GATEWAYZ").await.unwrap();
                    urls.push(format!("nats://{}:{}", gateway["host"].as_str().unwrap(), gateway["port"]));
                }
                let misspelt = RemoteSpec { urls: Some(urls), ..RemoteSpec::new(wrong) };
                lab.restart_with(server, |gateway| gateway.remotes = Some(vec![misspelt])).await.unwrap();
            }
            Self::OneUrl(server, remote) => {
                let gateways = lab.ask(server, "VARZ").await.unwrap()["gateway"]["gateways"].clone();
                let mut gateways = gateways.as_array().unwrap().iter();
                let one = &gateways.find(|gateway| gateway["name"] == remote).unwrap()["urls"][0];
                // Without a user, which the server then takes from its own authorization.
                let one = format!("nats://{}", one.as_str().unwrap());
                let nowhere = format!("nats://127.0.0.1:{}", lab.free_port().unwrap());
                let clusters = lab.clusters().into_iter().map(|(cluster, _)| cluster);
                let own = server.split('-').next().unwrap();
                let mut remotes: Vec<_> =
                    clusters.filter(|name| name != own).map(|name| RemoteSpec::new(&name)).collect();
                let changed = remotes.iter_mut().find(|spec| spec.name == remote).unwrap();
                changed.urls = Some(vec![one, nowhere]);
                lab.restart_with(server, |gateway| gateway.remotes = Some(remotes)).await.unwrap();
                lab.wait_healthy(WITHIN).await.unwrap();
            }
            Self::Certificate(server, tls) => drop(lab.renew_certificate(server, tls).await.unwrap()),
            Self::Load(from, to, rate) => held.loads.push(Load::start(lab, from, Some(to), rate, None).await),
            Self::Burst(from, to, bytes) => {
                // As fast as a publisher can.
                held.loads.push(Load::start(lab, from, Some(to), 1 << 30, Some(bytes)).await);
            }
            Self::Unheard(from, rate) => held.loads.push(Load::start(lab, from, None, rate, None).await),
            Self::Clients(server, count) => {
                for _ in 0..count {
                    let options = lab.connect_options("app").await.unwrap();
                    held.clients.push(options.connect(lab.url(server).unwrap()).await.unwrap());
                }
            }
            Self::Stream(cluster) => {
                let config = json!({ "name": STREAM, "subjects": ["stream"], "num_replicas": 1,
                                     "storage": "memory", "placement": { "cluster": cluster } });
                stream_request(lab, "CREATE", &config.to_string()).await;
            }
            Self::Garble(times) => {
                let client = lab.system_client("eu-2").await.unwrap();
                let mut questions = client.subscribe("$SYS.REQ.SERVER.PING.GATEWAYZ").await.unwrap();
                client.flush().await.unwrap();
                held.tasks.push(tokio::spawn(async move {
                    let mut left = times;
                    while left > 0
                        && let Some(question) = questions.next().await
                    {
                        if let Some(reply) = question.reply {
                            client.publish(reply, "go away".into()).await.unwrap();
                            left -= 1;
                        }
                    }
                }));
            }
            Self::Optimistic(server, remote) => held.tasks.push(optimistic(lab, server, remote).await),
            Self::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }

    pub(crate) async fn undo(self, watch: &Watch, us: &Us, spec: &Spec) {
        let lab = &watch.lab;
        let name = |name: &'static str| us.name(name);
        match self {
            Self::Cut(from, to)
            | Self::Blackhole(from, to, _)
            | Self::HalfOpen(from, to)
            | Self::Throttle(from, to, _)
            | Self::Delay(from, to, _) => drop(lab.heal(name(from), name(to)).await.unwrap()),
            Self::Kill(of) => start(lab, name(of)).await,
            Self::Stop(of) => {
                for server in members(lab, name(of)) {
                    lab.cont(&server).await.unwrap();
                }
            }
            Self::Restart(of, _) | Self::OneUrl(of, _) | Self::Misspell(of, ..) => {
                let own = |server: &str| spec.gateways.get(server).cloned().unwrap_or_default();
                restart(lab, name(of), |server, gateway| *gateway = own(server)).await;
            }
            Self::Certificate(server, _) => {
                lab.renew_certificate(server, TlsSpec::default()).await.unwrap();
            }
            Self::Stream(_) => stream_request(lab, "DELETE", "").await,
            Self::Optimistic(server, _) => drop(lab.heal(server, "eu").await.unwrap()),
            // What is held ends with the fault.
            Self::Load(..)
            | Self::Burst(..)
            | Self::Unheard(..)
            | Self::Clients(..)
            | Self::Garble(_)
            | Self::Reset(..)
            | Self::Heal(..)
            | Self::Start(_)
            | Self::Wait(_) => {}
        }
    }
}

/// All at once, so that no server differs from the others for long.
pub(crate) async fn restart(lab: &Lab, of: &str, edit: impl Fn(&str, &mut GatewaySpec)) {
    let members = members(lab, of);
    let restarts = members.iter().map(|server| lab.restart_with(server, |gateway| edit(server, gateway)));
    futures_util::future::try_join_all(restarts).await.unwrap();
}

async fn optimistic(lab: &Lab, server: &str, remote: &str) -> JoinHandle<()> {
    let client = lab.system_client("eu-2").await.unwrap();
    let question = format!("$SYS.REQ.SERVER.{}.GATEWAYZ", lab.server_id(server).await.unwrap());
    let truth = client.request(question, r#"{"accounts":true}"#.into()).await.unwrap();
    let mut lie: Value = serde_json::from_slice(&truth.payload).unwrap();
    let account = &mut lie["data"]["outbound_gateways"][remote]["accounts"][0];
    account["interest_mode"] = json!("Optimistic");
    // The lie has to be there before the truth.
    lab.delay(server, "eu", Duration::from_millis(20)).await.unwrap();
    let mut questions = client.subscribe("$SYS.REQ.SERVER.PING.GATEWAYZ").await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            if let (Some(reply), Ok(body)) =
                (question.reply, serde_json::from_slice::<Value>(&question.payload))
                && body["accounts"] == true
            {
                client.publish(reply, lie.to_string().into()).await.unwrap();
            }
        }
    })
}

/// Until the cluster's `JetStream` has a leader it answers with an error.
async fn stream_request(lab: &Lab, what: &str, body: &str) {
    let options = lab.connect_options("app").await.unwrap();
    let client = options.connect(lab.url("eu-0").unwrap()).await.unwrap();
    let deadline = Instant::now() + WITHIN;
    loop {
        let subject = format!("$JS.API.STREAM.{what}.{STREAM}");
        let reply = client.request(subject, body.to_owned().into()).await;
        let reply = reply.map(|reply| String::from_utf8_lossy(&reply.payload).into_owned());
        match reply {
            Ok(reply) if !reply.contains("\"error\"") => return,
            reply if Instant::now() > deadline => panic!("{what}: {reply:?}"),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Those that do not run.
async fn start(lab: &Lab, name: &str) {
    for server in members(lab, name) {
        if lab.pid(&server).await.unwrap().is_none() {
            lab.start_server(&server).await.unwrap();
        }
    }
}

async fn reset(lab: &Lab, from: &str, to: &str, times: usize) {
    for _ in 0..times {
        let cid = lab.view(from).await.unwrap().outbound[to].cid;
        lab.reset(from, to).await.unwrap();
        let again = |view: &gatewatch::lab::View| view.outbound.get(to).is_some_and(|link| link.cid != cid);
        lab.wait_until(from, "another connection", WITHIN, again).await.unwrap();
        tokio::time::sleep(BETWEEN_RESETS).await;
    }
}
