use super::*;

const PRINT: &str = "00000000000000aa";

fn message(print: &str, action: &str, life: u64, revision: u64) -> Message {
    let state = if action == "resolved" { "resolved" } else { "open" };
    let opened_at = crate::model::Time::from_millis(life);
    let body = serde_json::json!({ "action": action, "opened_at": opened_at, "revision": revision });
    Message {
        subject: format!("g.finding.{print}"),
        headers: vec![
            ("Nats-Msg-Id".into(), format!("{print}:{life}:{revision}")),
            ("Gatewatch-Action".into(), action.into()),
            ("Gatewatch-State".into(), state.into()),
        ],
        payload: body.to_string(),
    }
}

fn id(message: &Message) -> &str {
    &message.headers[0].1
}

/// What a stream and a bucket do, by the same rule as a server.
#[derive(Default)]
struct Server {
    log: Vec<Message>,
    bucket: BTreeMap<String, String>,
}

impl Server {
    fn last(&self, subject: &str) -> Option<Stored> {
        let at = self.log.iter().rposition(|m| m.subject == subject)?;
        let message = &self.log[at];
        Stored::of(at as u64 + 1, id(message), &message.headers[2].1)
    }

    fn append(&mut self, message: &Message, after: u64) -> Option<u64> {
        if self.last(&message.subject).map_or(0, |last| last.sequence) != after {
            return None;
        }
        self.log.push(message.clone());
        Some(self.log.len() as u64)
    }

    fn read(&self, shelf: &mut Shelf) {
        let subjects: BTreeSet<&String> = self.log.iter().map(|m| &m.subject).collect();
        shelf.rewind();
        shelf.read(subjects.into_iter().filter_map(|s| Some((s.clone(), self.last(s)?))).collect());
    }

    fn put(&mut self, key: String, value: Option<String>) {
        match value {
            Some(value) => drop(self.bucket.insert(key, value)),
            None => drop(self.bucket.remove(&key)),
        }
    }

    /// Writes all that may be written.
    fn take_all(&mut self, shelf: &mut Shelf) {
        while let Some((write, turn)) = shelf.take_next() {
            match write {
                Write::Event { message, after } => match self.append(&message, after) {
                    Some(sequence) => shelf.stored(&message.subject, sequence),
                    None => shelf.reread(&message.subject, self.last(&message.subject)),
                },
                Write::Put { key, value } => {
                    self.put(key.clone(), value);
                    shelf.kept(&key, turn);
                }
            }
        }
        assert_eq!((shelf.load().waiting, shelf.load().bytes), (0, 0), "all is written, all is given back");
    }

    fn story(&self) -> Vec<String> {
        self.log.iter().map(|m| format!("{} {}", m.headers[1].1, id(m))).collect()
    }

    /// Opened and resolved alternate, revisions go up, and nothing is there twice.
    fn hold_to_the_rule(&self) {
        let mut last: BTreeMap<&str, (bool, Mark)> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for message in &self.log {
            assert!(ids.insert(id(message)), "twice: {:#?}", self.story());
            let (_, mark) = read_id(id(message)).unwrap();
            let was = last.get(message.subject.as_str()).copied();
            match (message.headers[1].1.as_str(), was) {
                ("opened", None | Some((false, _))) => {}
                ("updated" | "reminded" | "resolved", Some((true, before))) => {
                    assert_eq!(mark.opened_at_ms, before.opened_at_ms, "{:#?}", self.story());
                    assert!(mark.revision > before.revision, "{:#?}", self.story());
                }
                _ => panic!("{} after {was:?}: {:#?}", message.headers[1].1, self.story()),
            }
            last.insert(&message.subject, (message.headers[1].1 != "resolved", mark));
        }
        let open: BTreeSet<String> = last
            .iter()
            .filter(|(_, (open, _))| *open)
            .map(|(s, _)| s.rsplit('.').next().unwrap().to_owned())
            .collect();
        assert_eq!(self.bucket.keys().cloned().collect::<BTreeSet<_>>(), open, "the bucket is the open set");
    }
}

#[test]
fn a_life_is_written_in_order_and_leaves_an_empty_bucket() {
    let (mut shelf, mut server) = (Shelf::new(true, true), Server::default());
    for (action, revision) in [("opened", 1), ("updated", 2), ("resolved", 3)] {
        shelf.push(&message(PRINT, action, 5, revision));
    }
    assert!(matches!(shelf.take_next(), Some((Write::Event { after: 0, .. }, _))));
    assert_eq!(shelf.take_next(), None, "one at a time");
    shelf.rewind();
    server.take_all(&mut shelf);
    let story = ["opened", "updated", "resolved"].map(|a| format!("{a} {PRINT}:5:"));
    assert!(server.story().iter().zip(story).all(|(line, start)| line.starts_with(&start)));
    server.hold_to_the_rule();
}

#[test]
fn what_another_agent_opened_is_carried_on_and_not_opened_again() {
    let (mut ours, mut server) = (Shelf::new(true, true), Server::default());
    let mut theirs = Shelf::new(true, true);
    theirs.push(&message(PRINT, "opened", 5, 1));
    theirs.push(&message(PRINT, "updated", 5, 2));
    server.take_all(&mut theirs);
    for (action, revision) in [("opened", 1), ("updated", 2), ("resolved", 3)] {
        ours.push(&message(PRINT, action, 9, revision));
    }
    server.take_all(&mut ours);
    theirs.push(&message(PRINT, "resolved", 5, 3));
    server.take_all(&mut theirs);
    let wanted = ["opened X:5:1", "updated X:5:2", "updated X:5:3", "resolved X:5:4"];
    assert_eq!(server.story(), wanted.map(|line| line.replace('X', PRINT)));
    let body: Value = serde_json::from_str(&server.log[3].payload).unwrap();
    assert_eq!(body["revision"], 4, "the body says what its number says");
    assert_eq!(body["opened_at"], "1970-01-01T00:00:00.005000000Z");
    server.hold_to_the_rule();
}

#[test]
fn what_came_to_its_end_elsewhere_is_not_opened_by_an_old_message() {
    let (mut shelf, mut server) = (Shelf::new(true, true), Server::default());
    for (action, revision) in [("opened", 1), ("resolved", 2)] {
        shelf.push(&message(PRINT, action, 5, revision));
    }
    server.take_all(&mut shelf);
    for (action, revision) in [("opened", 1), ("updated", 2), ("reminded", 7), ("resolved", 8)] {
        shelf.push(&message(PRINT, action, 5, revision));
        server.take_all(&mut shelf);
    }
    assert_eq!(server.log.len(), 2);
    shelf.push(&message(PRINT, "opened", 6, 1));
    server.take_all(&mut shelf);
    assert_eq!(server.log.len(), 3, "a new life is");
    server.hold_to_the_rule();
}

#[test]
fn an_answer_that_is_lost_doubles_nothing_and_the_bucket_follows() {
    let (mut shelf, mut server) = (Shelf::new(true, true), Server::default());
    shelf.push(&message(PRINT, "opened", 5, 1));
    let Some((Write::Event { message, after }, _)) = shelf.take_next() else { panic!() };
    server.append(&message, after).unwrap();
    server.read(&mut shelf);
    server.take_all(&mut shelf);
    assert_eq!(server.log.len(), 1);
    assert_eq!(server.bucket[PRINT], message.payload);
}

#[test]
fn what_changes_while_it_is_put_is_put_again() {
    let mut shelf = Shelf::new(false, true);
    shelf.push(&message(PRINT, "opened", 5, 1));
    let Some((Write::Put { key, value: Some(_) }, turn)) = shelf.take_next() else { panic!() };
    shelf.push(&message(PRINT, "resolved", 5, 2));
    assert_eq!(shelf.take_next(), None, "one at a time");
    shelf.kept(&key, turn);
    assert!(matches!(shelf.take_next(), Some((Write::Put { value: None, .. }, _))));
    assert_eq!(shelf.load().waiting, 1);
}

#[test]
fn under_the_bound_what_is_said_again_goes_first_and_ends_stay() {
    let (mut shelf, mut server) = (Shelf::new(true, true), Server::default());
    shelf.bytes_max = 64 * 1024;
    let large = |action: &str, revision| {
        let mut message = message(PRINT, action, 5, revision);
        message.payload = format!("{{\"x\":\"{}\"}}", "x".repeat(4000));
        message
    };
    shelf.push(&large("opened", 1));
    for revision in 2..1000 {
        shelf.push(&large("updated", revision));
        assert!(shelf.load().bytes <= 64 * 1024);
    }
    shelf.push(&large("resolved", 1000));
    let load = shelf.load();
    assert_eq!(load.waiting + load.dropped, 1000);
    server.take_all(&mut shelf);
    assert!(server.story().first().unwrap().starts_with("opened"));
    assert!(server.story().last().unwrap().ends_with(":1000"));
    server.hold_to_the_rule();
}

#[test]
fn what_is_all_openings_is_bounded_too() {
    let (mut shelf, mut server) = (Shelf::new(true, true), Server::default());
    shelf.bytes_max = 64 * 1024;
    for life in 0..2000 {
        let print = format!("{:016x}", life % 50);
        shelf.push(&message(&print, "opened", life, 1));
        shelf.push(&message(&print, "resolved", life, 2));
        assert!(shelf.load().bytes <= 64 * 1024);
    }
    assert!(shelf.load().dropped > 1000);
    server.take_all(&mut shelf);
    server.hold_to_the_rule();
}

#[test]
fn messages_of_others_are_left_alone() {
    let mut shelf = Shelf::new(true, true);
    shelf.push(&Message { subject: "g.epoch.a".into(), headers: Vec::new(), payload: String::new() });
    let mut odd = message(PRINT, "opened", 1, 1);
    odd.headers[0].1 = "a:b".into();
    shelf.push(&odd);
    assert_eq!((shelf.load().waiting, shelf.take_next()), (0, None));
    for id in ["", "a:1:1", "00000000000000aa:1", "00000000000000aa:1:1:1", "00000000000000aa:-1:1"] {
        assert_eq!(Stored::of(1, id, "open"), None, "{id}");
    }
    assert_eq!(Stored::of(1, "00000000000000aa:1:1", "ajar"), None);
}

/// Two agents with wills of their own, one server; answers get lost, writes arrive late, agents forget.
#[test]
fn whatever_happens_on_the_way_the_stream_alternates() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut dice = |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    for _ in 0..300 {
        let mut server = Server::default();
        let mut shelves = [Shelf::new(true, true), Shelf::new(true, true)];
        let mut ledgers: [BTreeMap<String, Mark>; 2] = Default::default();
        let mut late: Vec<(Message, u64)> = Vec::new();
        let mut clock = 1;
        for _ in 0..120 {
            let who = usize::try_from(dice(2)).unwrap();
            let (shelf, ledger) = (&mut shelves[who], &mut ledgers[who]);
            match dice(10) {
                0..=3 => {
                    clock += 1;
                    let print = format!("{:016x}", dice(3));
                    let is_open = ledger.contains_key(&print);
                    let mark =
                        ledger.entry(print.clone()).or_insert(Mark { opened_at_ms: clock, revision: 0 });
                    mark.revision += 1;
                    let mark = *mark;
                    let action = match (is_open, dice(2)) {
                        (false, _) => "opened",
                        (true, 0) => "updated",
                        (true, _) => "resolved",
                    };
                    if action == "resolved" {
                        ledger.remove(&print);
                    }
                    shelf.push(&message(&print, action, mark.opened_at_ms, mark.revision));
                }
                4..=7 => match shelf.take_next() {
                    Some((Write::Event { message, after }, _)) => match dice(5) {
                        // Its answer is lost, or itself, or it arrives some day.
                        0 => drop(server.append(&message, after)),
                        1 => {}
                        2 => late.push((message, after)),
                        _ => match server.append(&message, after) {
                            Some(sequence) => shelf.stored(&message.subject, sequence),
                            None => shelf.reread(&message.subject, server.last(&message.subject)),
                        },
                    },
                    Some((Write::Put { key, value }, turn)) => {
                        server.put(key.clone(), value);
                        shelf.kept(&key, turn);
                    }
                    None => {}
                },
                8 => {
                    if let Some((message, after)) = late.pop() {
                        server.append(&message, after);
                    }
                }
                _ => server.read(shelf),
            }
        }
        for shelf in &mut shelves {
            server.read(shelf);
            server.take_all(shelf);
        }
        // What is told again is told to a bucket that may have been written by two.
        let subjects: BTreeSet<String> = server.log.iter().map(|m| m.subject.clone()).collect();
        server.bucket = subjects
            .iter()
            .filter_map(|s| server.last(s))
            .filter(Stored::is_open)
            .map(|s| (s.fingerprint, String::new()))
            .collect();
        server.hold_to_the_rule();
    }
}
