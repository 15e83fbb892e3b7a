//! The table in the docs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gatewatch::checks::REGISTRY;

use super::fault::Fault;
use super::{TABLE, THEMES};

const FILE: &str = "docs/faults.md";
const VARIABLE: &str = "GATEWATCH_FAULT_TABLE";
/// In a cell that no run has filled yet.
const UNMEASURED: &str = "?";
/// In the cell of a version that has no such fault.
const NONE: &str = "–";

const HEAD: &str = "\
# The catalogue of faults

Each fault is made on real servers, three clusters `eu`, `us` and `ap` of three servers each unless it says
otherwise, beside an agent with its defaults at `eu-0`. The finding is all that is published, until the fault is
healed and the finding resolves. The figures are the seconds from the fault to the finding's arrival at a
subscriber, or from the agent's first complete look where the fault was there before it; *silent* is a fault below a threshold, which must open nothing. What the server itself does about it
stands beside.

The table is written by the tests that play it, `GATEWATCH_VERSIONS=all GATEWATCH_FAULT_TABLE=docs/faults.md
cargo test --test real catalogue`, and a test holds it to them.

";

type Cells = BTreeMap<(String, String), String>;

/// What this run measured, by fault and version.
static MEASURED: Mutex<Cells> = Mutex::new(BTreeMap::new());

pub(crate) fn note(name: &str, version: &str, took: Option<Duration>) {
    let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    measured.insert((name.to_owned(), version.to_owned()), cell(took));
}

pub(crate) fn cell(took: Option<Duration>) -> String {
    took.map_or_else(|| "silent".to_owned(), |took| format!("{:.1}", took.as_secs_f64()))
}

/// Puts what was measured so far into the file, where one is asked for.
pub(crate) fn write() {
    let Some(file) = std::env::var_os(VARIABLE) else { return };
    let measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cells = read(&std::fs::read_to_string(&file).unwrap_or_default());
    cells.extend(measured.iter().map(|(key, cell)| (key.clone(), cell.clone())));
    std::fs::write(file, text(&cells)).unwrap();
}

fn faults() -> impl Iterator<Item = Fault> {
    THEMES.iter().flat_map(|theme| (theme.faults)())
}

/// The cells that a file has.
fn read(text: &str) -> Cells {
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = rows.flat_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let name = cells.first().copied().unwrap_or_default().to_owned();
        let figures: Vec<String> = cells.iter().skip(2).map(|cell| (*cell).to_owned()).collect();
        TABLE.iter().zip(figures).map(move |(version, cell)| ((name.clone(), (*version).to_owned()), cell))
    });
    cells.collect()
}

fn text(cells: &Cells) -> String {
    let mut text = HEAD.to_owned();
    let versions = TABLE.join(" | ");
    writeln!(text, "| fault | finding | {versions} | the server itself |").unwrap();
    writeln!(text, "|---|---|{}---|", "---|".repeat(TABLE.len())).unwrap();
    for fault in faults() {
        let figures: Vec<&str> = TABLE
            .iter()
            .map(|version| {
                if fault.only.is_some_and(|only| !only.contains(version)) {
                    return NONE;
                }
                let cell = cells.get(&(fault.name.to_owned(), (*version).to_owned()));
                cell.map_or(UNMEASURED, |cell| if cell == NONE { UNMEASURED } else { cell })
            })
            .collect();
        let (finding, figures) = (finding(&fault), figures.join(" | "));
        let server = if fault.server.is_empty() { NONE } else { fault.server };
        writeln!(text, "| {} | {finding} | {figures} | {server} |", fault.name).unwrap();
    }
    text
}

fn finding(fault: &Fault) -> String {
    let finds = fault.finds.iter().map(|finds| format!("{} `{}`", finds.severity(), finds.about));
    let finds: Vec<String> = finds.collect();
    match fault.silent {
        Some(check) => format!("no `{check}`"),
        None => finds.join(", then "),
    }
}

#[test]
fn the_table_in_the_docs_is_that_of_the_faults() {
    let mend = format!(
        "play what changed and have it written: GATEWATCH_VERSIONS=all {VARIABLE}={FILE} cargo test --test real \
         catalogue"
    );
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    let cells = read(&written);
    assert_eq!(written, text(&cells), "{mend}");
    let unmeasured: Vec<_> = cells.iter().filter(|(_, cell)| *cell == UNMEASURED).collect();
    assert!(unmeasured.is_empty(), "{mend}: {unmeasured:#?}");
}

#[test]
fn every_check_finds_a_fault_and_every_fault_is_for_a_check() {
    let played: BTreeSet<&str> = faults().flat_map(|fault| fault.finds).map(|finds| finds.check()).collect();
    let registered: BTreeSet<&str> = REGISTRY.iter().map(|check| check.manual().slug).collect();
    assert_eq!(
        played, registered,
        "give each check a row in tests/real/catalogue/rows.rs: left are the rows"
    );
    for check in faults().filter_map(|fault| fault.silent) {
        assert!(registered.contains(check), "{check} is no check");
    }
}

#[test]
fn a_fault_has_one_name_and_a_finding_or_a_silence_of_its_own() {
    let mut names = BTreeSet::new();
    for fault in faults() {
        assert!(names.insert(fault.name), "{} is there twice", fault.name);
        assert_ne!(fault.finds.is_empty(), fault.silent.is_none(), "{}", fault.name);
        assert!(!fault.name.contains('|') && !fault.server.contains('|'), "{}", fault.name);
    }
    assert!(names.len() >= 30, "{} faults", names.len());
}
