//! What must stay true of this repository. Each message says how to mend what it finds.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use gatewatch::checks::REGISTRY;

/// Every file that is in the repository, or would be with the next commit.
fn files() -> Vec<String> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .expect("needs git: these tests are about a checkout");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all = String::from_utf8(output.stdout).unwrap();
    let there: Vec<String> =
        all.lines().filter(|path| Path::new(path).is_file()).map(str::to_owned).collect();
    assert!(there.len() > 20, "found hardly a file: {there:?}");
    there
}

/// The files with this ending, and their text.
fn texts(end: &str) -> Vec<(String, String)> {
    files()
        .into_iter()
        .filter(|path| path.ends_with(end))
        // What is no text has no words in it.
        .filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text)))
        .collect()
}

/// Fails with all that was found, and how to mend it.
fn none(found: &[String], mend: &str) {
    assert!(found.is_empty(), "{mend}:\n  {}", found.join("\n  "));
}

#[test]
fn no_file_names_a_machine_of_its_authors() {
    // In halves, so that this file does not have what it looks for.
    let words = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("py", "pi.org"),
        concat!("crates", ".io"),
        concat!(".lib", "rary/"),
        concat!("helper ", "session"),
        concat!("issue tracker ", "session"),
    ];
    let mut found = Vec::new();
    for (path, text) in texts("").iter().filter(|(path, _)| !path.ends_with("Cargo.lock")) {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    none(&found, "say it without paths of one machine and addresses of registries");
}

#[test]
fn no_file_holds_a_seed() {
    let seed = |word: &str| {
        word.len() == 58
            && ["SO", "SA", "SU", "SN", "SC"].iter().any(|kind| word.starts_with(kind))
            && word.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
    };
    let found: Vec<String> = texts("")
        .iter()
        .filter(|(_, text)| text.split(|c: char| !c.is_ascii_alphanumeric()).any(seed))
        .map(|(path, _)| path.clone())
        .collect();
    none(&found, "these files hold the seed of an nkey: remove it, and make it useless where it was used");
}

#[test]
fn every_check_is_registered() {
    let registered: BTreeSet<&str> = REGISTRY.iter().map(|check| check.manual().slug).collect();
    let mut there: BTreeSet<String> = BTreeSet::new();
    for path in files() {
        let name = path.strip_prefix("src/checks/").and_then(|name| name.strip_suffix(".rs"));
        if let Some(name) = name.filter(|name| {
            !["mod", "block", "settings", "verdict", "watched", "example"].contains(name)
                && !name.contains('/')
        }) {
            there.insert(name.to_owned());
        }
    }
    assert_eq!(
        there.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        registered,
        "each check is src/checks/<slug>.rs and stands in REGISTRY in src/checks/mod.rs: \
         left are the files, right is the registry"
    );
}

#[test]
fn the_readme_lists_the_checks_as_their_manuals_say() {
    let Ok(readme) = fs::read_to_string("README.md") else { return };
    let mut table = "| check | code | severity | detects |\n|---|---|---|---|\n".to_owned();
    for manual in REGISTRY.iter().map(|check| check.manual()) {
        let (slug, code) = (manual.slug, manual.code);
        writeln!(table, "| `{slug}` | {code} | {} | {} |", manual.severity.as_str(), manual.detects).unwrap();
    }
    assert!(readme.contains(&table), "the README's table of checks must be this:\n\n{table}\n");
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut found = Vec::new();
    for (path, text) in texts(".md") {
        let here = Path::new(&path).parent().unwrap();
        let targets = ["](", "src=\"", "href=\""].into_iter().flat_map(|before| {
            let after = if before == "](" { ')' } else { '"' };
            text.split(before).skip(1).filter_map(move |rest| rest.split(after).next())
        });
        for target in targets {
            let file = target.split(['#', ' ']).next().unwrap_or_default();
            if !file.is_empty() && !file.contains(':') && !here.join(file).exists() {
                found.push(format!("{path}: {target}"));
            }
        }
    }
    none(&found, "these links lead nowhere; name a file that is there, from the directory of the text");
}

#[test]
fn every_check_has_its_part_of_the_runbook() {
    const PARTS: [&str; 6] =
        ["**Felt as**", "**Confirm**", "**Do**", "**Do not**", "**False friend**", "**Settings**"];
    let runbook = fs::read_to_string("docs/runbook.md").unwrap();
    let parts: Vec<&str> = runbook.split("\n## ").skip(1).collect();
    let slugs: BTreeSet<&str> = REGISTRY.iter().map(|check| check.manual().slug).collect();
    let titled = parts.iter().filter_map(|part| Some((part.lines().next()?, *part)));
    let titled: Vec<(&str, &str)> = titled.filter(|(title, _)| !title.contains(' ')).collect();
    assert_eq!(
        titled.iter().map(|(title, _)| *title).collect::<BTreeSet<_>>(),
        slugs,
        "docs/runbook.md has one part for each check: left are its headings"
    );
    let mut found = Vec::new();
    for manual in REGISTRY.iter().map(|check| check.manual()) {
        for (slug, part) in titled.iter().filter(|(title, _)| *title == manual.slug) {
            let keys = manual.thresholds.iter().map(|threshold| format!("`{}`", threshold.key));
            let wanted = PARTS.iter().map(|label| (*label).to_owned()).chain(keys);
            found.extend(wanted.filter(|word| !part.contains(word)).map(|word| format!("{slug}: {word}")));
        }
    }
    none(
        &found,
        "each part of docs/runbook.md has these labels, and names the settings of its check; it lacks",
    );
}

/// Each row of the table in this file ends in tests that are there, or in one of these words.
fn ends_in_tests(file: &str, words: &[&str]) {
    let sources: Vec<(String, String)> = texts(".rs");
    let text = fs::read_to_string(file).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let mut found = Vec::new();
    for row in &rows {
        let shown_by = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap();
        let names: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        if names.is_empty() && !words.contains(&shown_by) {
            found.push((*row).to_owned());
        }
        let is_there = |name: &&str| sources.iter().any(|(_, text)| text.contains(&format!("fn {name}()")));
        found.extend(names.into_iter().filter(|name| !is_there(name)).map(str::to_owned));
    }
    assert!(rows.len() > 15, "{file} has a table");
    none(&found, &format!("each row of {file} ends in tests that are there, or in one of {words:?}"));
}

#[test]
fn every_test_that_the_threats_name_is_there() {
    ends_in_tests("docs/threats.md", &["nothing", "the same two"]);
}

#[test]
fn every_limit_has_a_test() {
    ends_in_tests("docs/limits.md", &[]);
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        _ => c.is_alphanumeric().then(|| c.to_ascii_lowercase()),
    });
    kept.collect()
}

#[test]
fn every_anchor_of_a_link_is_a_heading() {
    let anchors = |text: &str| -> BTreeSet<String> {
        let mut inside = false;
        let headings = text.lines().filter(|line| {
            inside ^= line.trim_start().starts_with("```");
            !inside && line.starts_with('#')
        });
        headings.map(anchor).collect()
    };
    let mut found = Vec::new();
    for (path, text) in texts(".md") {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((file, anchor)) = target.split_once('#').filter(|_| !target.contains("://")) else {
                continue;
            };
            let other = if file.is_empty() {
                text.clone()
            } else {
                let file = Path::new(&path).parent().unwrap().join(file);
                fs::read_to_string(file).unwrap_or_default()
            };
            if !anchors(&other).contains(anchor) {
                found.push(format!("{path}: {target}"));
            }
        }
    }
    none(&found, "these links lead to a file that has no such heading");
}

#[test]
fn every_script_can_be_run() {
    let mut found = Vec::new();
    for (path, text) in texts("") {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        if text.starts_with("#!/") && mode & 0o111 == 0 {
            found.push(path);
        }
    }
    none(&found, "chmod +x these");
}

#[test]
fn every_make_target_that_a_text_names_is_there() {
    let makefile = fs::read_to_string("Makefile").unwrap();
    let target = |line: &str| {
        let (name, _) = line.split_once(':')?;
        name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-').then(|| name.to_owned())
    };
    let targets: BTreeSet<String> = makefile.lines().filter_map(target).collect();
    let mut found = Vec::new();
    for (path, text) in texts(".md") {
        let in_line = text.split("`make ").skip(1).filter_map(|rest| rest.split('`').next());
        let alone = text
            .lines()
            .filter_map(|line| line.trim_start().trim_start_matches("$ ").strip_prefix("make "))
            .filter(|_| text.contains("```"));
        // In prose a line may begin with the verb; a target is followed by nothing, a comment or `&&`.
        let alone = alone.filter(|rest| {
            let mut words = rest.split_whitespace().skip(1);
            words.next().is_none_or(|word| ["#", "&&"].contains(&word))
        });
        for name in in_line.chain(alone).filter_map(|rest| rest.split_whitespace().next()) {
            if !targets.contains(name) {
                found.push(format!("{path}: make {name}"));
            }
        }
    }
    none(&found, &format!("the Makefile has no such target, only {targets:?}"));
}

#[test]
fn the_version_in_the_manifest_is_in_the_changelog() {
    let heading = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    let changelog = fs::read_to_string("CHANGELOG.md").unwrap();
    assert!(
        changelog.lines().any(|line| line.starts_with(&heading)),
        "CHANGELOG.md needs a section \"{heading}\""
    );
}

#[test]
fn one_default_nats_server_is_run_everywhere() {
    let script = fs::read_to_string("scripts/nats-server").unwrap();
    let version = script.lines().find_map(|line| line.strip_prefix("default=")).unwrap();
    let compose = fs::read_to_string("docker-compose.yml").unwrap();
    assert!(
        compose.contains(&format!("image: nats:{version}\n")),
        "scripts/nats-server runs {version} by default; let docker-compose.yml run the same"
    );
    assert!(
        Path::new(&format!("scripts/nats-server.d/{version}.txt")).is_file(),
        "scripts/nats-server runs {version} by default; put its hashes into scripts/nats-server.d"
    );
    #[cfg(feature = "lab")]
    assert_eq!(
        version,
        gatewatch::lab::NATS_SERVER_VERSION,
        "scripts/nats-server and src/lab/mod.rs must name the same version"
    );
}

#[test]
fn the_pure_part_stays_pure_and_looks_to_its_left_only() {
    const EFFECTS: &[&str] = &[
        ".await",
        "async fn",
        "async_nats",
        "Instant::now",
        "SystemTime::now",
        "std::env",
        "std::fs",
        "std::net",
        "tokio::",
        "tracing::",
    ];
    // What is further to the right in `collect -> model -> checks -> findings -> publish -> agent -> cli`.
    let layers: [(&str, &[&str]); 4] = [
        ("src/collect/", &["checks", "findings", "publish", "agent", "cli", "config", "connect", "lab"]),
        ("src/model/", &["collect", "checks", "findings", "publish", "agent", "cli", "connect", "lab"]),
        ("src/checks/", &["collect", "findings", "publish", "agent", "cli", "connect", "lab"]),
        ("src/findings/", &["collect", "publish", "agent", "cli", "connect", "lab"]),
    ];
    let mut found = Vec::new();
    // Tests may do what they like, and so may the world they are played in.
    let plays = |path: &str| path.starts_with("src/checks/example") || path.ends_with("/tests.rs");
    for (path, text) in texts(".rs").into_iter().filter(|(path, _)| !plays(path)) {
        let Some((_, right)) = layers.iter().find(|(layer, _)| path.starts_with(layer)) else { continue };
        let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let effects = EFFECTS.iter().filter(|effect| code.contains(**effect)).map(|e| (*e).to_owned());
            let modules = right.iter().map(|module| format!("crate::{module}")).filter(|m| code.contains(m));
            found.extend(effects.chain(modules).map(|what| format!("{path}:{}: {what}", number + 1)));
        }
    }
    none(
        &found,
        "these modules are pure and use only what is before them on the way from NATS to NATS (src/lib.rs \
         draws it): give them time and data as arguments, and do the rest in the agent",
    );
}

#[path = "../src/publish/schema/compare.rs"]
mod compare;

#[test]
fn no_schema_takes_back_what_it_ever_said() {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(["-c", "safe.directory=*"]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut found = Vec::new();
    for schema in gatewatch::publish::schema::SCHEMAS {
        let now: serde_json::Value = serde_json::from_str(schema.text).unwrap();
        // All that this checkout knows of: where it is shallow, that is the last commit.
        for commit in git(&["log", "--format=%h", "--", schema.file]).lines() {
            // A commit may have removed it.
            if git(&["ls-tree", "--name-only", commit, schema.file]).is_empty() {
                continue;
            }
            let then = git(&["show", &format!("{commit}:{}", schema.file)]);
            let broken = compare::breaks(&serde_json::from_str(&then).unwrap(), &now);
            found.extend(broken.into_iter().map(|what| format!("{} since {commit}: {what}", schema.file)));
        }
    }
    none(&found, "within v1 fields are only ever added: leave what was there, and add beside it");
}

#[test]
fn no_test_is_ignored() {
    let word = concat!("#[", "ignore");
    let found: Vec<String> =
        texts(".rs").into_iter().filter(|(_, text)| text.contains(word)).map(|(path, _)| path).collect();
    none(&found, "let every test run, or move what is none out of the tests");
}

#[test]
fn no_source_file_is_too_long_to_read() {
    const LINES_MAX: usize = 1000;
    let mut found = Vec::new();
    for (path, text) in texts(".rs") {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            found.push(format!("{path}: {lines}"));
        }
    }
    none(
        &found,
        &format!("split these files where they change the subject; {LINES_MAX} lines are the limit"),
    );
}
