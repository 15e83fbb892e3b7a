//! `gatewatch checks`: the catalogue.

use super::Failure;
use super::output::{print, width, wrap};
use crate::checks::REGISTRY;

pub(super) fn run() -> Result<(), Failure> {
    let rows: Vec<[&str; 4]> = std::iter::once(["CHECK", "CODE", "SEVERITY", "DETECTS"])
        .chain(REGISTRY.iter().map(|c| {
            let m = c.manual();
            [m.slug, m.code, m.severity.as_str(), m.detects]
        }))
        .collect();
    let column = |get: fn(&[&str; 4]) -> usize| rows.iter().map(get).max().unwrap_or(0);
    let (slugs, codes, severities) = (column(|r| r[0].len()), column(|r| r[1].len()), column(|r| r[2].len()));
    let indent = slugs + codes + severities + 6;
    let mut out = String::new();
    for [slug, code, severity, detects] in rows {
        let head = format!("{slug:slugs$}  {code:codes$}  {severity:severities$}  ");
        // A narrow terminal leaves no room for a fourth column; then it stands below.
        if indent + 24 > width() {
            out.push_str(head.trim_end());
            out.push('\n');
            out.push_str(&wrap(detects, 4, width()));
        } else {
            out.push_str(&head);
            out.push_str(wrap(detects, indent, width()).trim_start());
        }
    }
    Ok(print(&out)?)
}
