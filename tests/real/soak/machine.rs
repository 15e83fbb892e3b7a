//! When the machine stood still, which nothing here did: its host had no time for it. A round trip that a server measured
//! then was as long as it says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::lock;

const TICK: Duration = Duration::from_millis(20);
/// Not to be woken for so long is no matter of scheduling.
const STILL: Duration = Duration::from_millis(100);
/// A server measures each gateway about every 15 s, and the last two measurements count.
const MEASURED_WITHIN: Duration = Duration::from_secs(40);

pub(super) struct Machine {
    /// When it went on, and how long it had stood still.
    stood: Arc<Mutex<Vec<(Instant, Duration)>>>,
    ends: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl Machine {
    pub(super) fn watch() -> Self {
        let (stood, ends) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(AtomicBool::new(false)));
        let watcher = std::thread::spawn({
            let (stood, ends) = (Arc::clone(&stood), Arc::clone(&ends));
            move || {
                let mut before = Instant::now();
                while !ends.load(Ordering::Relaxed) {
                    std::thread::sleep(TICK);
                    let now = Instant::now();
                    let late = (now - before).saturating_sub(TICK);
                    if late >= STILL {
                        lock(&stood).push((now, late));
                    }
                    before = now;
                }
            }
        });
        Self { stood, ends, watcher: Some(watcher) }
    }

    /// Whether a round trip that is told of at `at` may have been measured while it stood still.
    pub(super) fn stood_still_before(&self, at: Instant) -> bool {
        let within = |went_on: Instant| went_on <= at && at - went_on <= MEASURED_WITHIN;
        lock(&self.stood).iter().any(|(went_on, _)| within(*went_on))
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stood = lock(&self.stood);
        let all: Duration = stood.iter().map(|(_, late)| *late).sum();
        let most = stood.iter().map(|(_, late)| *late).max().unwrap_or_default();
        let times = stood.len();
        write!(
            f,
            "the machine stood still {times} times, {:.1} s in all, {most:.1?} at the most",
            all.as_secs_f64()
        )
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.watcher.take().map(JoinHandle::join);
    }
}
