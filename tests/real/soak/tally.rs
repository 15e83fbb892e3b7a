//! What came of it, by kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::act::KINDS;
use crate::common::proc_status;

#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) injected: usize,
    pub(super) expected: usize,
    pub(super) opened: usize,
    pub(super) resolved: usize,
    pub(super) missed: usize,
    pub(super) invented: usize,
    pub(super) took: Vec<Duration>,
}

/// What an agent has of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Has {
    pub(super) resident_kib: u64,
    pub(super) files: u64,
    pub(super) threads: u64,
}

impl Has {
    /// Of a process, where the system tells.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let number = |key: &str| proc_status(u32::try_from(pid).ok()?, key);
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        Some(Self { resident_kib: number("VmRSS:")?, files, threads: number("Threads:")? })
    }
}

impl std::fmt::Display for Has {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = self.resident_kib / 1024;
        write!(f, "{mib} MiB, {} files, {} threads", self.files, self.threads)
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) rows: BTreeMap<&'static str, Row>,
    pub(super) rounds: usize,
    /// All that is wrong, in words.
    pub(super) wrong: Vec<String>,
    /// How many agents said that their disk was full.
    pub(super) full: usize,
    /// How often a long round trip was told of because the machine stood still.
    pub(super) slow: usize,
    /// What each agent had at the start and the end of each seed.
    pub(super) had: Vec<String>,
}

impl Tally {
    pub(super) fn row(&mut self, name: &'static str) -> &mut Row {
        self.rows.entry(name).or_default()
    }

    pub(super) fn table(&self) -> String {
        let mut out = String::from(
            "| fault | injected | expected | opened | resolved | missed | invented | p50 s | p99 s |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        let mut all = Row::default();
        for (.., name) in KINDS {
            let Some(row) = self.rows.get(name) else { continue };
            line(&mut out, name, row);
            all.injected += row.injected;
            all.expected += row.expected;
            all.opened += row.opened;
            all.resolved += row.resolved;
            all.missed += row.missed;
            all.invented += row.invented;
            all.took.extend(&row.took);
        }
        line(&mut out, "all", &all);
        out
    }
}

fn line(out: &mut String, name: &str, row: &Row) {
    let mut took = row.took.clone();
    took.sort();
    let at = |part: usize| match took.len() {
        0 => "–".to_owned(),
        count => format!("{:.1}", took[((count - 1) * part).div_ceil(100)].as_secs_f64()),
    };
    let (p50, p99) = (at(50), at(99));
    let Row { injected, expected, opened, resolved, missed, invented, .. } = row;
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "| {name} | {injected} | {expected} | {opened} | {resolved} | {missed} | {invented} | {p50} | {p99} |"
    );
}
