use super::super::{Traffic, TrafficOf};
use super::*;

const WINDOW: Duration = Duration::from_secs(300);

fn at(secs: u64) -> Time {
    Time::from_millis(1_000_000_000 + secs * 1000)
}

fn server(name: &str) -> ServerInfo {
    ServerInfo {
        name: name.into(),
        cluster: name.split('-').next().map(Name::from),
        ver: "2.15.1".into(),
        ..ServerInfo::default()
    }
}

/// What a server counted since its start: published, sent and received over gateways.
fn told(published: u64, tx: u64, rx: u64) -> Accountz {
    let of = |gateways| Some(TrafficOf { gateways, routes: 70, leafs: 0 });
    let account = Account {
        sent: Traffic { bytes: tx + rx + 70, of: of(tx) },
        received: Traffic { bytes: published + rx + 70, of: of(rx) },
        ..Account::default()
    };
    Accountz { accounts: BTreeMap::from([("APP".into(), account)]) }
}

/// Servers that tell every ten seconds, and what they told.
struct Told {
    memory: TrafficMemory,
    last: BTreeMap<Name, (Time, Accountz)>,
}

impl Told {
    fn new() -> Self {
        Self { memory: TrafficMemory::over(WINDOW), last: BTreeMap::new() }
    }

    fn tell(&mut self, name: &str, secs: u64, accountz: Accountz) {
        let before = self.last.get(name).map(|(at, held)| (*at, held));
        self.memory.take(&server(name), before, &accountz, at(secs));
        self.last.insert(name.into(), (at(secs), accountz));
    }

    fn view(&mut self, secs: u64) -> Arc<Movement> {
        let last = self.last.iter().min_by_key(|(_, (at, _))| *at).map(|(name, (at, _))| (name.clone(), *at));
        self.memory.view(last, BTreeSet::new(), at(secs))
    }

    fn total(&mut self, secs: u64) -> Moved {
        self.view(secs).accounts.get("APP").map(AccountView::total).unwrap_or_default()
    }
}

fn moved(published_bytes: u64, tx_bytes: u64, rx_bytes: u64) -> Moved {
    Moved { published_bytes, tx_bytes, rx_bytes }
}

#[test]
fn what_was_moved_between_two_answers_is_summed_up_and_what_came_before_is_not() {
    let mut told_ = Told::new();
    for (n, secs) in (0..=60).step_by(10).enumerate() {
        let n = n as u64;
        told_.tell("eu-0", secs, told(1_000_000 + 100 * n, 500_000 + 40 * n, 0));
        told_.tell("us-0", secs, told(900 + 10 * n, 0, 500_000 + 40 * n));
    }
    let view = told_.view(60);
    assert_eq!(told_.total(60), moved(660, 240, 240), "{view:?}");
    assert_eq!(view.accounts["APP"].clusters["eu"], moved(600, 240, 0));
    assert_eq!(view.accounts["APP"].seen, Duration::from_secs(60));
    assert_eq!((view.accounts["APP"].rank, view.accounts_total), (1, 1));
}

#[test]
fn what_is_older_than_the_window_drops_out_and_an_account_that_rests_is_forgotten() {
    let mut told_ = Told::new();
    for secs in (0..=600).step_by(10) {
        told_.tell("eu-0", secs, told(if secs < 100 { 0 } else { 5000 }, 0, 0));
    }
    assert_eq!(told_.total(600), Moved::default(), "it was published 500 s ago");
    assert!(told_.view(600).accounts.is_empty());
    for secs in (610..1200).step_by(10) {
        told_.tell("eu-0", secs, told(5000, 0, 0));
    }
    assert!(told_.memory.accounts.is_empty());
}

#[test]
fn an_answer_that_got_lost_comes_with_the_next_and_until_then_nobody_counts_further() {
    let mut told_ = Told::new();
    for n in 0..=6 {
        told_.tell("eu-0", n * 10, told(100 * n, 100 * n, 0));
        if n != 5 && n != 6 {
            told_.tell("us-0", n * 10, told(0, 0, 100 * n));
        }
    }
    let view = told_.view(62);
    assert_eq!(
        (view.until, told_.total(62)),
        (Some(at(40)), moved(400, 400, 400)),
        "both ends to the same time"
    );
    told_.tell("us-0", 70, told(0, 0, 700));
    told_.tell("eu-0", 70, told(700, 700, 0));
    assert_eq!(told_.total(71), moved(700, 700, 700));
    assert_eq!(told_.view(71).doubt, None);
}

#[test]
fn a_server_that_says_nothing_for_long_makes_every_sum_doubtful() {
    let mut told_ = Told::new();
    for n in 0..=9 {
        told_.tell("eu-0", n * 10, told(100 * n, 100 * n, 0));
        if n < 5 {
            told_.tell("us-0", n * 10, told(0, 0, 100 * n));
        }
    }
    assert_eq!(told_.view(70).doubt, None);
    assert_eq!(told_.view(91).doubt, Some(Doubt::Silent { server: "us-0".into() }));
    // It comes back: what it moved in the meantime stands in no window; what is seen of the account begins anew.
    told_.tell("us-0", 100, told(0, 0, 1000));
    told_.tell("eu-0", 100, told(1000, 1000, 0));
    let view = told_.view(100);
    assert_eq!((view.doubt.clone(), view.accounts["APP"].seen), (None, Duration::ZERO));
    for n in 11..=16 {
        told_.tell("us-0", n * 10, told(0, 0, 100 * n));
        told_.tell("eu-0", n * 10, told(100 * n, 100 * n, 0));
    }
    assert_eq!(told_.total(160), moved(600, 600, 600));
    assert_eq!(told_.view(160).accounts["APP"].seen, Duration::from_secs(60));
}

#[test]
fn counters_that_begin_anew_count_from_zero() {
    let mut told_ = Told::new();
    told_.tell("eu-0", 0, told(1_000_000, 1_000_000, 0));
    told_.tell("eu-0", 10, told(1_000_300, 1_000_200, 0));
    told_.tell("eu-0", 20, told(50, 20, 0));
    assert_eq!(told_.total(20), moved(350, 220, 0));
}

#[test]
fn a_life_that_began_since_counts_from_its_start_and_one_that_ran_before_counts_from_now() {
    let mut told_ = Told::new();
    told_.tell("eu-0", 0, told(0, 0, 0));
    told_.tell("eu-0", 10, told(100, 50, 0));
    let empty = Accountz::default();
    told_.memory.take(&server("us-0"), Some((at(6), &empty)), &told(7, 3, 50), at(10));
    assert_eq!(told_.total(10), moved(107, 53, 50));
    told_.memory.take(&server("ap-0"), None, &told(1 << 40, 1 << 40, 0), at(10));
    let view = told_.view(10);
    assert_eq!((view.accounts["APP"].seen, view.accounts["APP"].total()), (Duration::ZERO, Moved::default()));
    told_.tell("eu-0", 20, told(300, 50, 0));
    assert_eq!(told_.total(20), moved(200, 0, 0), "what is seen begins anew");
}

#[test]
fn a_version_that_does_not_count_gateways_apart_makes_its_accounts_doubtful_and_no_others() {
    let plain = |sent: u64, received: u64| Account {
        sent: Traffic { bytes: sent, of: None },
        received: Traffic { bytes: received, of: None },
        ..Account::default()
    };
    let mut told_ = Told::new();
    let old = |moves: u64| {
        let accounts = [("APP", moves), ("IDLE", 9)].map(|(name, n)| (name.into(), plain(n, 0)));
        Accountz { accounts: accounts.into() }
    };
    told_.tell("us-0", 0, old(0));
    told_.tell("eu-0", 0, told(0, 0, 0));
    told_.tell("us-0", 10, old(1));
    told_.tell("eu-0", 10, told(100, 50, 0));
    let view = told_.view(10);
    let doubt = Doubt::NotCounted { server: "us-0".into(), ver: "2.15.1".into() };
    assert_eq!(view.accounts["APP"].doubt, Some(doubt));
    assert!(!view.accounts.contains_key("IDLE"), "nothing of it moved");
    for n in 2..=40 {
        told_.tell("us-0", n * 10, old(1));
        told_.tell("eu-0", n * 10, told(100 * n, 50 * n, 0));
    }
    assert_eq!(told_.view(400).accounts["APP"].doubt, None, "it moved nothing in the window");
}

#[test]
fn the_system_account_is_left_out() {
    let mut told_ = Told::new();
    told_.tell("eu-0", 0, told(0, 0, 0));
    told_.tell("eu-0", 10, told(100, 50, 0));
    let last = Some((Name::from("eu-0"), at(10)));
    assert!(told_.memory.view(last, BTreeSet::from(["APP".into()]), at(10)).accounts.is_empty());
    assert_eq!(told_.view(10).accounts.len(), 1);
}

#[test]
fn more_accounts_than_are_remembered_leave_those_that_send_most() {
    let mut memory = TrafficMemory::over(WINDOW);
    let of = |n: u64, times: u64| {
        let mut account = told(100, n * times, 0).accounts.remove("APP").expect("it is there");
        account.sent.bytes += times;
        (Name::from(format!("A{n}")), account)
    };
    let all = |times| Accountz { accounts: (0..10_000).map(|n| of(n, times)).collect() };
    memory.take(&server("eu-0"), None, &all(1), at(0));
    memory.take(&server("eu-0"), Some((at(0), &all(1))), &all(2), at(10));
    assert!(memory.accounts.len() <= ACCOUNTS_MAX, "{}", memory.accounts.len());
    let view = memory.view(Some(("eu-0".into(), at(10))), BTreeSet::new(), at(10));
    assert_eq!((view.accounts.len(), view.accounts_total), (SHOWN_MAX, ACCOUNTS_MAX * 3 / 4));
    assert_eq!((view.accounts["A9999"].rank, view.accounts["A9744"].rank), (1, SHOWN_MAX));
    // One that comes back was not seen before.
    memory.take(
        &server("eu-0"),
        Some((at(10), &all(2))),
        &Accountz { accounts: [of(3, 1 << 40)].into() },
        at(20),
    );
    assert_eq!((memory.accounts["A3"].since, memory.accounts["A9999"].since), (Some(at(20)), None));
}

#[test]
fn a_window_that_no_second_divides_is_seen_whole() {
    let window = Duration::from_secs(20);
    let mut told_ = Told { memory: TrafficMemory::over(window), ..Told::new() };
    for n in 0..=10 {
        told_.tell("eu-0", n * 4, told(100 * n, 0, 0));
    }
    assert_eq!(told_.view(40).accounts["APP"].seen, window);
    assert_eq!(told_.total(40), moved(500, 0, 0));
    assert!(Arc::ptr_eq(&told_.view(40), &told_.view(41)), "summed up once");
}

#[test]
fn the_answers_to_one_question_lie_in_one_slot() {
    let mut told_ = Told::new();
    // A slot ends between them each time; who comes first is another one each time.
    let end_ms = at(0).as_millis() / 10_000 * 10_000;
    for n in 0..=7_u64 {
        let both = [("eu-0", told(1000 * n, 500 * n, 0), 2), ("us-0", told(0, 0, 500 * n), 9)];
        let order = if n % 2 == 0 { [0, 1] } else { [1, 0] };
        for (name, accountz, late_ms) in order.map(|which| both[which].clone()) {
            let came_at = Time::from_millis(end_ms + 10_000 * n + late_ms - 5);
            let came_at = told_.memory.poll_at(came_at);
            let before = told_.last.get(name).map(|(at, held)| (*at, held));
            told_.memory.take(&server(name), before, &accountz, came_at);
            told_.last.insert(name.into(), (came_at, accountz));
            let total = told_.total((end_ms + 10_000 * n - at(0).as_millis() + 1000) / 1000);
            assert_eq!(total.tx_bytes, total.rx_bytes, "after {n} questions");
            assert_eq!(total.published_bytes, 2 * total.tx_bytes);
        }
    }
    // The slot of the last ones has not ended.
    assert_eq!(told_.total(80), moved(6000, 3000, 3000));
}
