use std::path::Path;

use super::*;
use crate::checks::example::defaults;
use crate::model::Seat;

const SITUATIONS: [&str; 5] = ["healthy", "link-lost", "cluster-down", "mismatch", "blind"];

fn situation(name: &str) -> Snapshot {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/situations/{name}.json"));
    Snapshot::from_file(&std::fs::read(path).unwrap()).unwrap()
}

fn as_text(snapshot: &Snapshot, width: usize, colour: bool, servers: bool) -> String {
    let asked = Asked { format: Format::Text, servers, settings: defaults(), title: None };
    text(snapshot, text::Style { width, colour }, &asked)
}

/// A mesh of so many clusters with three servers each; the link of one pair is lost, another one waits, one cluster
/// answers in part.
fn mesh(clusters: usize, ill: bool) -> Matrix {
    let names: Vec<Name> = (0..clusters).map(|n| format!("region-{n:03}").into()).collect();
    let mut matrix = Matrix::default();
    for (a, from) in names.iter().enumerate() {
        let mut seat = Seat { servers: 3, answered: 3, ..Seat::default() };
        for (b, to) in names.iter().enumerate().filter(|(b, _)| *b != a) {
            let rtt_ms = Some(((a * b * 7 + a + b) % 180) as f64 + 0.2);
            let mut cell = Cell { expected: 3, connected: 3, rtt_ms, ..Cell::default() };
            if ill && (a, b) == (1, 0) {
                cell.connected = 2;
                cell.lost = vec!["region-001-2".into()];
            }
            if ill && (a, b) == (0, 1) {
                cell.pending_bytes = 17 << 20;
                cell.bytes_per_s = Some(12_300_000);
            }
            seat.links_expected += cell.expected;
            seat.links_connected += cell.connected;
            matrix.links.entry(from.clone()).or_default().insert(to.clone(), cell);
        }
        if ill && a == 1 {
            seat.answered = 2;
            seat.missing = vec!["region-001-0".into()];
        }
        matrix.clusters.insert(from.clone(), seat);
    }
    matrix
}

/// Escapes as something that can be seen, and without them.
fn escapes(text: &str) -> (String, String) {
    let mut plain = String::new();
    for (n, part) in text.split('\u{1b}').enumerate() {
        plain += if n == 0 { part } else { part.split_once('m').unwrap().1 };
    }
    (text.replace('\u{1b}', "␛"), plain)
}

#[test]
fn the_five_situations_in_a_terminal() {
    for name in SITUATIONS {
        let snapshot = situation(name);
        let (coloured, plain) = escapes(&as_text(&snapshot, 140, true, false));
        assert_eq!(plain, as_text(&snapshot, 140, false, false), "colour changes no letter");
        let narrow = as_text(&snapshot, 80, false, true);
        let (narrow_coloured, narrow_plain) = escapes(&as_text(&snapshot, 80, true, true));
        assert_eq!(narrow_plain, narrow, "colour changes no letter");
        insta::assert_snapshot!(
            format!("text_{name}"),
            format!(
                "80 columns, --servers\n{narrow}\n40 columns\n{}\n80 columns, --servers, colour\n{narrow_coloured}\n\
                 140 columns, colour\n{coloured}",
                as_text(&snapshot, 40, false, false)
            )
        );
    }
}

#[test]
fn the_five_situations_as_pictures() {
    for name in SITUATIONS {
        let snapshot = situation(name);
        let picture = Picture::of(&snapshot);
        insta::assert_snapshot!(format!("mermaid_{name}"), graph::mermaid(&picture));
        insta::assert_snapshot!(format!("dot_{name}"), graph::dot(&picture));
        insta::assert_snapshot!(format!("svg_{name}"), svg::svg(&picture));
    }
}

#[test]
fn the_picture_in_the_docs_is_what_is_drawn_now() {
    let shown = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/topology.svg"));
    assert!(
        shown.unwrap() == svg::svg(&Picture::of(&situation("link-lost"))),
        "write it anew, and look at it:\n  \
         gatewatch topology tests/situations/link-lost.json --format svg > docs/topology.svg"
    );
}

#[test]
fn many_clusters_fold_and_the_table_never_breaks() {
    let snapshot = situation("healthy");
    for clusters in [1, 2, 3, 5, 8, 13, 40, 200] {
        for ill in [false, true] {
            let matrix = mesh(clusters, ill);
            for width in [40, 60, 80, 100, 140, 250] {
                let text = text::text(&snapshot, &matrix, text::Style { width, colour: false });
                let wide = text.lines().find(|line| line.chars().count() > width);
                assert_eq!(wide, None, "{clusters} clusters in {width} columns:\n{text}");
                assert!(text.lines().count() < 45, "{clusters} clusters in {width} columns:\n{text}");
                if ill && clusters > 1 {
                    for told in ["region-001 → region-000", "17MiB", "region-001-2"] {
                        assert!(text.contains(told), "{told} in\n{text}");
                    }
                }
            }
        }
    }
    for (clusters, width) in [(8, 80), (8, 140), (13, 80), (40, 80), (40, 140)] {
        let text = text::text(&snapshot, &mesh(clusters, true), text::Style { width, colour: false });
        insta::assert_snapshot!(format!("fold_{clusters}_clusters_{width}_columns"), text);
    }
}

/// Whether every tag is closed, in order, and nothing stands where no text may.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("every < begins a tag");
        assert!(!text.contains('>'), "{text}");
        let name = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn a_picture_is_whole_for_any_number_of_clusters_and_bounded() {
    let snapshot = situation("healthy");
    for clusters in [0, 1, 2, 4, 12, 13, 40, 200] {
        let picture = Picture { snapshot: &snapshot, matrix: mesh(clusters, clusters > 1) };
        let svg = svg::svg(&picture);
        assert_well_formed(&svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{clusters} clusters");
        assert_eq!(svg.contains("2 of 3 up"), clusters > 1, "{clusters} clusters");
        assert!(svg.len() < 600_000, "{clusters} clusters: {} bytes", svg.len());
        let (mermaid, dot) = (graph::mermaid(&picture), graph::dot(&picture));
        assert!(mermaid.matches("-->|").count() <= 500, "{clusters} clusters: mermaid draws no more");
        assert!(dot.len() < 600_000, "{clusters} clusters: {} bytes", dot.len());
    }
    for name in SITUATIONS {
        assert_well_formed(&svg::svg(&Picture::of(&situation(name))));
    }
}

#[test]
fn a_name_is_no_markup_and_no_command() {
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/situations/link-lost.json"),
    );
    let hostile = r#"\u001b[2J</text><script>a()</script>&\"];x[label=\"|click c0 call f()"#;
    let text = text.unwrap().replace("\"us\"", &format!("\"{hostile}\"")).replace("us-1", hostile);
    let snapshot = Snapshot::from_file(text.as_bytes()).unwrap();
    let picture = Picture::of(&snapshot);
    let svg = svg::svg(&picture);
    assert_well_formed(&svg);
    assert!(!svg.contains("<script"), "{svg}");
    let (mermaid, dot) = (graph::mermaid(&picture), graph::dot(&picture));
    assert!(
        !mermaid.contains("<script") && !mermaid.contains("\"]x") && !mermaid.contains("call f()"),
        "{mermaid}"
    );
    assert!(!dot.replace("\\\"", "").contains("\"];x["), "{dot}");
    let screen = as_text(&snapshot, 80, false, true);
    for (what, text) in [("svg", &svg), ("mermaid", &mermaid), ("dot", &dot), ("text", &screen)] {
        assert!(!text.contains('\u{1b}'), "{what} holds an escape");
    }
}

#[test]
fn figures_are_short() {
    let rtts = [0.04, 0.31, 9.94, 9.96, 123.4, 14_373.8].map(rtt);
    assert_eq!(rtts, ["<0.1ms", "0.3ms", "9.9ms", "10ms", "123ms", "14s"]);
    let sizes = [0, 1023, 1536, 17 << 20, u64::MAX].map(size);
    assert_eq!(sizes, ["0B", "1023B", "1.5KiB", "17MiB", "16777216TiB"]);
    assert_eq!([999, 1_000, 999_999, 1_234_567].map(rate), ["999B/s", "1.0kB/s", "1.0MB/s", "1.2MB/s"]);
}
