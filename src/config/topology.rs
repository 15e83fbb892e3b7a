//! The file of an expected topology: read for `--expect`, written by `gatewatch topology --format toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use super::ConfigError;
use super::mistake::Complaint;
use super::reader::{Document, Section, nearest};
use super::redact;
use crate::model::{Members, NAME_BYTES_MAX, Name, Remotes, SERVERS_MAX, Topology, is_name};

/// The largest file that is read: more than [`SERVERS_MAX`] servers need.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How many clusters a file may have.
const CLUSTERS_MAX: usize = 2_000;
/// Lists that do not fit in a line of this length have one name a line.
const WIDTH: usize = 100;

/// What heads a file that was written.
const HEAD: &str = "\
# The topology that this supercluster is expected to have. gatewatch compares it with what it sees, by name.
#   gatewatch run --expect FILE, or in its configuration: [expect] topology = \"FILE\"
# servers   the names of the servers of a cluster
# remotes   the clusters that each server's `gateways` list
# implicit  those that it is connected to by gossip only
# except    a server that has other remotes than its cluster
";

/// Reads a file.
///
/// # Errors
/// It cannot be read, or with everything that is wrong with it, each with its line.
pub fn read(path: &Path) -> Result<Topology, ConfigError> {
    let fail = |source| ConfigError::Read { what: "the expected topology", path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::Large {
            what: "an expected topology",
            path: path.to_owned(),
            bytes_max: FILE_BYTES_MAX,
        });
    }
    parse(path, &text)
}

/// As [`read`], of a text that came from `path`.
///
/// # Errors
/// Everything that is wrong with it, each with its line.
pub fn parse(path: &Path, text: &str) -> Result<Topology, ConfigError> {
    let document = Document::new(path, text);
    let parsed = document.parse();
    let topology = parsed.as_ref().map(|table| fill(document.root(table.get_ref())));
    if let Some(table) = parsed.as_ref()
        && topology.as_ref().is_some_and(|t| t.clusters.is_empty())
        && document.is_sound()
    {
        let message = Complaint::new("no cluster", "each is written [[cluster]], with a `name`");
        document.root(table.get_ref()).refuse("cluster", message);
    }
    match (document.mistakes(), topology) {
        (None, Some(topology)) => Ok(topology),
        (mistakes, _) => Err(ConfigError::File(mistakes.unwrap_or_default())),
    }
}

fn fill(root: Section<'_>) -> Topology {
    let mut out = Topology::default();
    let sections = root.sections("cluster");
    if sections.len() > CLUSTERS_MAX {
        root.refuse("cluster", too_many(sections.len(), "clusters", CLUSTERS_MAX));
        return out;
    }
    // Twice: a remote must be a cluster of the file, also one that comes later.
    let known: BTreeSet<&str> = sections.iter().filter_map(|s| s.peek("name")).collect();
    let mut servers = 0;
    for s in sections {
        let name = name(&s, "name");
        let own = name.as_deref().unwrap_or_default();
        let mut members = Members {
            servers: names(&s, "servers").unwrap_or_default(),
            remotes: Remotes {
                configured: remotes(&s, "remotes", own, &known).unwrap_or_default(),
                implicit: remotes(&s, "implicit", own, &known).unwrap_or_default(),
            },
            except: BTreeMap::new(),
        };
        apart(&s, &members.remotes);
        servers += members.servers.len();
        for e in s.sections("except") {
            if let Some((server, remotes)) = except(&e, own, &members, &known)
                && members.except.insert(server.clone(), remotes).is_some()
            {
                e.refuse("server", format!("server `{}` is excepted twice", redact::control(&server)));
            }
            e.finish();
        }
        if let Some(name) = name
            && out.clusters.insert(name.clone(), members).is_some()
        {
            s.refuse("name", format!("cluster `{}` is there twice", redact::control(&name)));
        }
        s.finish();
    }
    if servers > SERVERS_MAX {
        root.refuse("cluster", too_many(servers, "servers", SERVERS_MAX));
    }
    root.finish();
    out
}

fn too_many(there: usize, what: &str, most: usize) -> Complaint {
    Complaint::new(format!("{there} {what}"), format!("accepted: up to {most}"))
}

fn except(s: &Section<'_>, own: &str, members: &Members, known: &BTreeSet<&str>) -> Option<(Name, Remotes)> {
    let server = name(s, "server");
    let usual = &members.remotes;
    let remotes = Remotes {
        configured: remotes(s, "remotes", own, known).unwrap_or_else(|| usual.configured.clone()),
        implicit: remotes(s, "implicit", own, known).unwrap_or_default(),
    };
    apart(s, &remotes);
    let server = server?;
    if !members.servers.contains(&server) {
        let near = nearest(&server, members.servers.iter().map(|n| &**n));
        let help = near.map(|near| format!("did you mean `{}`?", redact::control(near)));
        let what = format!("`{}` is not among the `servers` of the cluster", redact::control(&server));
        s.refuse("server", Complaint { what, help });
    }
    Some((server, remotes))
}

/// A remote is in one of the two lists.
fn apart(s: &Section<'_>, remotes: &Remotes) {
    if let Some(both) = remotes.configured.intersection(&remotes.implicit).next() {
        s.refuse(
            "implicit",
            format!("`{}` is in `remotes` too: a remote is configured or implicit", redact::control(both)),
        );
    }
}

/// The name that `key` must hold.
fn name(s: &Section<'_>, key: &'static str) -> Option<Name> {
    let Some(text) = s.string(key) else {
        // One of a wrong type is complained of already.
        if !s.has(key) {
            s.refuse_all(format!("{} needs `{key}`", s.title()));
        }
        return None;
    };
    accepted(s, key, &text).then(|| Name::from(text))
}

fn accepted(s: &Section<'_>, key: &str, text: &str) -> bool {
    if !is_name(text) {
        s.refuse(key, format!("`{key}`: a name has 1 to {NAME_BYTES_MAX} bytes"));
    }
    is_name(text)
}

/// The names that `key` lists; none where it is not there.
fn names(s: &Section<'_>, key: &'static str) -> Option<BTreeSet<Name>> {
    let list = s.strings(key)?;
    let mut out = BTreeSet::new();
    for text in list {
        if accepted(s, key, &text) && !out.insert(Name::from(text.as_str())) {
            s.refuse(key, format!("`{}` is in `{key}` twice", redact::control(&text)));
        }
    }
    Some(out)
}

fn remotes(s: &Section<'_>, key: &'static str, own: &str, known: &BTreeSet<&str>) -> Option<BTreeSet<Name>> {
    let list = names(s, key)?;
    for remote in &list {
        let shown = redact::control(remote);
        if **remote == *own {
            s.refuse(key, format!("`{shown}` in `{key}` is the cluster itself"));
        } else if !known.contains(&**remote) {
            let hint = match nearest(remote, known.iter().copied().filter(|n| *n != own)) {
                Some(near) => format!("did you mean `{}`?", redact::control(near)),
                None => "each remote has a [[cluster]] of its own".to_owned(),
            };
            let what = format!("`{shown}` in `{key}` is no cluster of this file");
            s.refuse(key, Complaint::new(what, hint));
        }
    }
    Some(list)
}

/// The file that [`read`] reads; the same bytes for the same topology.
pub fn write(topology: &Topology) -> String {
    let mut out = HEAD.to_owned();
    for (name, members) in &topology.clusters {
        let _ = write!(out, "\n[[cluster]]\nname = {}\n", quoted(name));
        write_list(&mut out, "servers", &members.servers);
        write_list(&mut out, "remotes", &members.remotes.configured);
        if !members.remotes.implicit.is_empty() {
            write_list(&mut out, "implicit", &members.remotes.implicit);
        }
        for (server, remotes) in &members.except {
            let _ = write!(out, "\n[[cluster.except]]\nserver = {}\n", quoted(server));
            write_list(&mut out, "remotes", &remotes.configured);
            if !remotes.implicit.is_empty() {
                write_list(&mut out, "implicit", &remotes.implicit);
            }
        }
    }
    out
}

fn write_list(out: &mut String, key: &str, names: &BTreeSet<Name>) {
    let names: Vec<String> = names.iter().map(|n| quoted(n)).collect();
    let line = format!("{key} = [{}]", names.join(", "));
    if line.chars().count() <= WIDTH {
        out.push_str(&line);
    } else {
        let _ = write!(out, "{key} = [\n  {},\n]", names.join(",\n  "));
    }
    out.push('\n');
}

/// A TOML string. What would move a cursor or turn a line in a review is escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if redact::hostile(c) => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<Name> {
        names.iter().map(|n| Name::from(*n)).collect()
    }

    fn sample() -> Topology {
        let members = |servers: &[&str], remotes: &[&str]| Members {
            servers: set(servers),
            remotes: Remotes { configured: set(remotes), implicit: set(&[]) },
            except: BTreeMap::new(),
        };
        let mut eu = members(&["eu-1", "eu-0"], &["us"]);
        eu.remotes.implicit = set(&["o\"d\u{202e}\\d\n"]);
        eu.except.insert("eu-1".into(), Remotes { configured: set(&[]), implicit: set(&["us"]) });
        let long: Vec<String> = (0..40).map(|n| format!("server-{n:02}")).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        let clusters = [
            ("us".into(), members(&long, &["eu"])),
            ("eu".into(), eu),
            ("o\"d\u{202e}\\d\n".into(), members(&[], &[])),
        ];
        Topology { clusters: clusters.into() }
    }

    #[test]
    fn what_is_written_reads_the_same_and_is_the_same_each_time() {
        let text = write(&sample());
        assert_eq!(parse(Path::new("t.toml"), &text).unwrap(), sample(), "{text}");
        assert_eq!(write(&parse(Path::new("t.toml"), &text).unwrap()), text);
        assert!(text.lines().all(|line| line.len() <= WIDTH + 10), "{text}");
        assert!(!text.contains('\u{202e}'), "nothing in it turns a line");
    }

    #[test]
    fn the_form_of_the_file_is_kept() {
        let mut small = sample();
        small.clusters.remove("o\"d\u{202e}\\d\n");
        small.clusters.get_mut("us").unwrap().servers = set(&["us-0"]);
        small.clusters.get_mut("eu").unwrap().remotes.implicit.clear();
        let text = write(&small);
        assert_eq!(
            text.strip_prefix(HEAD).unwrap(),
            r#"
[[cluster]]
name = "eu"
servers = ["eu-0", "eu-1"]
remotes = ["us"]

[[cluster.except]]
server = "eu-1"
remotes = []
implicit = ["us"]

[[cluster]]
name = "us"
servers = ["us-0"]
remotes = ["eu"]
"#,
            "who keeps it in git would see a change"
        );
    }

    #[test]
    fn an_exception_that_says_nothing_of_remotes_has_those_of_its_cluster() {
        let text = "[[cluster]]\nname = \"a\"\nservers = [\"a0\"]\nremotes = [\"b\"]\n\
                    [[cluster.except]]\nserver = \"a0\"\n[[cluster]]\nname = \"b\"\n";
        let read = parse(Path::new("t.toml"), text).unwrap();
        assert_eq!(read.clusters["a"].remotes_of("a0").configured, set(&["b"]));
        assert_eq!(read.clusters["b"], Members::default());
    }
}
