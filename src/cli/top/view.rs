//! The screen, as a function of the state.

use std::fmt::Write as _;
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::data::{Agent, Finding};
use super::links::{self, Table};
use super::state::{Api, Drawn, Pane, State, Wire};
use super::text::{age, fit, padded, width, wrap};
use crate::checks::Severity;
use crate::cli::watch::spoken;

/// From here on the links and the events stand beside each other.
const WIDE: u16 = 120;
/// A smaller screen shows nothing but what is wrong with it.
const COLUMNS_MIN: u16 = 20;
const ROWS_MIN: u16 = 5;
/// Where the words of a finding begin, behind what they are.
const LABEL: usize = 8;
/// How wide the name of a cluster may be.
const CLUSTER: usize = 16;
/// In so many epochs somebody must be missing before it is no lost reply.
const SHORT_EPOCHS: u32 = 2;

/// How it may look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colour: bool,
    /// Whether there are signs beyond ASCII.
    pub(super) unicode: bool,
}

impl Look {
    const fn cut(self) -> char {
        if self.unicode { '…' } else { '~' }
    }

    const fn rule(self) -> &'static str {
        if self.unicode { "─" } else { "-" }
    }

    fn ink(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Critical => self.bad(),
            Severity::Warning => self.ink(Color::Yellow),
            Severity::Info => self.ink(Color::Cyan),
        }
    }

    fn bad(self) -> Style {
        self.ink(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// A sign that is read first.
    fn badge(self, colour: Color) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colour { style.fg(Color::Black).bg(colour) } else { style.add_modifier(Modifier::REVERSED) }
    }
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// Draws all of it.
pub(super) fn draw(state: &State, look: Look, area: Rect, buf: &mut Buffer) -> Drawn {
    if area.is_empty() {
        return Drawn::default();
    }
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        buf.set_stringn(area.x, area.y, "too small", usize::from(area.width), Style::new());
        return Drawn::default();
    }
    let mut screen = Screen { state, look, area, buf, drawn: Drawn::default() };
    screen.draw();
    screen.drawn
}

type Text = Vec<(String, Style)>;

struct Screen<'a> {
    state: &'a State,
    look: Look,
    area: Rect,
    buf: &'a mut Buffer,
    drawn: Drawn,
}

impl Screen<'_> {
    fn draw(&mut self) {
        let Rect { x, y, width, height } = self.area;
        let head = self.head();
        let mut row = y;
        for line in head {
            self.line(Rect { x, y: row, width, height: 1 }, line);
            row += 1;
        }
        let foot = Rect { x, y: y + height - 1, width, height: 1 };
        let body = Rect { x, y: row, width, height: foot.y.saturating_sub(row) };
        if self.state.help {
            self.help(body);
        } else if self.state.zoomed {
            self.pane(self.state.pane, body);
        } else {
            for (pane, area) in self.places(body) {
                self.pane(pane, area);
            }
        }
        self.foot(foot);
    }

    /// A line, cut at its end.
    fn line(&mut self, area: Rect, text: Text) {
        let mut left = usize::from(area.width);
        let mut spans = Vec::new();
        for (part, style) in text {
            if left == 0 {
                break;
            }
            let part = fit(&part, left, self.look.cut());
            left -= width(&part).min(left);
            spans.push(Span::styled(part, style));
        }
        self.buf.set_line(area.x, area.y, &Line::from(spans), area.width);
    }

    // The head: is it whole, and may one believe it.

    fn head(&self) -> Vec<Text> {
        let (state, now) = (self.state, self.state.now());
        let data = state.data();
        let leader = data.leader(now);
        let old = matches!(state.wire, Wire::Lost { .. }) || state.unwatched_since().is_some();
        let mut lines = vec![self.verdict(leader.map(|(_, a)| a), old)];
        let mut who = Text::new();
        if let Some((name, agent)) = leader {
            let at = &agent.epoch.vantage;
            let cluster = at.cluster.as_ref().map(|c| format!(" ({c})")).unwrap_or_default();
            let led = if old { "led" } else { "leads" };
            let mut text = format!(" {name} {led} from {}{cluster}, epoch {}", at.server, agent.epoch.epoch);
            match data.standing_by(now) {
                0 => {}
                1 => text += "; 1 stands by",
                n => {
                    let _ = write!(text, "; {n} stand by");
                }
            }
            match agent.epoch.silences {
                0 => {}
                1 => text += "; 1 silence",
                n => {
                    let _ = write!(text, "; {n} silences");
                }
            }
            who.push((text, Style::new()));
        } else {
            who.push((" no agent was heard yet".to_owned(), Style::new()));
        }
        who.push((format!("; we are at {}", state.at), dim()));
        lines.push(who);
        lines.extend(self.banner());
        lines
    }

    fn verdict(&self, leader: Option<&Agent>, old: bool) -> Text {
        let (state, look) = (self.state, self.look);
        let open = state.data().open(state.now());
        let short = leader.is_some_and(|a| a.short >= SHORT_EPOCHS);
        let settled = leader.is_some_and(|a| a.epoch.settled);
        let (word, colour) = match () {
            () if leader.is_none() || old => ("UNKNOWN", Color::Magenta),
            () if open.critical > 0 => ("CRITICAL", Color::Red),
            () if open.warning > 0 => ("WARNING", Color::Yellow),
            () if short || !settled => ("UNKNOWN", Color::Magenta),
            () => ("OK", Color::Green),
        };
        let mut line = vec![(format!(" {word} "), look.badge(colour))];
        let counts: Vec<String> =
            [(open.critical, "critical"), (open.warning, "warning"), (open.info, "info")]
                .iter()
                .filter(|(n, _)| *n > 0)
                .map(|(n, word)| format!("{n} {word}"))
                .collect();
        let counts = if counts.is_empty() { "nothing open".to_owned() } else { counts.join(", ") };
        line.push((format!(" {counts}"), Style::new().add_modifier(Modifier::BOLD)));
        let Some(agent) = leader else { return line };
        let (servers, links) = (&agent.epoch.servers, agent.epoch.links);
        let part = |line: &mut Text, what: &str, got: u64, of: u64, style: Style| {
            line.push((" | ".to_owned(), dim()));
            line.push((format!("{what} {got}/{of}"), if got < of { style } else { Style::new() }));
        };
        part(&mut line, "links", links.connected, links.expected, look.bad());
        part(&mut line, "answers", servers.answered, servers.expected, look.ink(Color::Yellow));
        let since = state.now().since(agent.heard_at);
        line.push((" | ".to_owned(), dim()));
        line.push((format!("{} old", age(since)), if old { look.bad() } else { Style::new() }));
        line
    }

    /// What one must know before one believes what is shown; the worst alone.
    fn banner(&self) -> Vec<Text> {
        let (state, look) = (self.state, self.look);
        let columns = usize::from(self.area.width);
        let mut lines = Vec::new();
        let mut say =
            |text: String, style: Style| lines.push(vec![(padded(&text, columns, look.cut()), style)]);
        let ago = |then| age(state.live_now().since(then));
        let bad = look.badge(Color::Red);
        let unsure = look.badge(Color::Yellow);
        if let Some(paused) = state.paused_for() {
            say(format!(" PAUSED for {}; p goes on", age(paused)), look.badge(Color::Cyan));
        }
        let leader = state.live().leader(state.live_now()).map(|(_, a)| a);
        let shown = leader.map(|a| format!("; what is shown is {} old", ago(a.heard_at))).unwrap_or_default();
        let missing = leader.filter(|a| a.short >= SHORT_EPOCHS);
        match (&state.wire, state.unwatched_since()) {
            (Wire::Lost { since, why }, _) => {
                say(format!(" NO CONNECTION to NATS for {}, trying again{shown}: {why}", ago(*since)), bad);
            }
            (_, Some((since, true))) => {
                let last = ago(since);
                say(format!(" NOBODY WATCHES: start `gatewatch run`; what is shown is {last} old"), bad);
            }
            (_, Some((since, false))) => {
                let waited = ago(since);
                say(format!(" NOBODY WATCHES: no heartbeat for {waited}; start `gatewatch run`"), bad);
            }
            _ if leader.is_none() => say(" waiting for the first heartbeat of an agent".to_owned(), unsure),
            _ if leader.is_some_and(|a| !a.epoch.settled) => {
                say(" the agent has just connected; what it sees is not judged yet".to_owned(), unsure);
            }
            _ => {
                if let Some(agent) = missing {
                    let servers = &agent.epoch.servers;
                    let names: Vec<String> =
                        servers.missing.iter().map(|name| fit(name, CLUSTER, look.cut())).collect();
                    let silent = servers.expected.saturating_sub(servers.answered);
                    let of = servers.expected;
                    let names = names.join(", ");
                    say(format!(" NOT ALL IS SEEN: {silent} of {of} servers are silent: {names}"), unsure);
                }
                let trouble = match &state.api {
                    Api::Unknown | Api::Answers => None,
                    Api::NobodyThere => Some("nobody answers requests here"),
                    Api::Silent => Some("the agent does not answer requests"),
                    Api::Refused(why) => Some(why.as_str()),
                };
                if let Some(trouble) = trouble {
                    say(format!(" {trouble}: links, and what opened before we came, may be missing"), unsure);
                }
            }
        }
        lines
    }

    // The panes.

    fn places(&self, body: Rect) -> Vec<(Pane, Rect)> {
        let findings = self.state.findings().len();
        let links = self.state.data().links.as_ref().map_or(1, |(m, _)| m.clusters.len() + 1);
        let cause = self.cause(usize::from(body.width)).len();
        let events = self.state.data().events.len();
        let all = usize::from(body.height);
        let beside = body.width >= WIDE;
        // What each wants and must have, its title with it; the first ones come first.
        let third = (all / 3).max(2);
        let mut parts = [
            (Pane::Findings, 1 + findings.clamp(1, third), 2),
            (Pane::Links, 1 + links.clamp(1, third), 1 + links.min(4)),
            (
                Pane::Cause,
                if cause == 0 { 0 } else { 1 + cause },
                if cause == 0 { 0 } else { 1 + cause.min(4) },
            ),
            (
                Pane::Events,
                if beside { 0 } else { 1 + events.clamp(1, all) },
                if beside { 0 } else { 1 + events.clamp(1, 2) },
            ),
        ];
        if beside {
            // As high as the events that stand there want, too.
            let band = 1 + links.max(events).clamp(1, third);
            (parts[1].1, parts[1].2) = (band, parts[1].2.min(band));
        }
        let mut left = all;
        let mut heights = [0; 4];
        for ((_, _, least), height) in parts.iter().zip(&mut heights) {
            *height = if left >= *least { *least } else { 0 };
            left -= *height;
        }
        for ((_, wanted, _), height) in parts.iter().zip(&mut heights) {
            let more = if *height == 0 { 0 } else { wanted.saturating_sub(*height).min(left) };
            *height += more;
            left -= more;
        }
        // What nobody wants: to the links where there are more of them, else to the end.
        let [findings_height, links_height, cause_height, events_height] = heights;
        let more = (links + 1).saturating_sub(links_height).min(left);
        let (links_height, left) = (links_height + more, left - more);
        let more = findings.saturating_sub(findings_height.saturating_sub(1)).min(left);
        let (findings_height, left) = (findings_height + more, left - more);
        let (cause_height, events_height) = match (beside, cause_height) {
            (true, 0) => (0, 0),
            (true, _) => (cause_height + left, 0),
            (false, _) => (cause_height, events_height + left),
        };
        let mut y = body.y;
        let mut places = Vec::new();
        for (pane, height) in [
            (Pane::Links, links_height),
            (Pane::Findings, findings_height),
            (Pane::Cause, cause_height),
            (Pane::Events, events_height),
        ] {
            let height = u16::try_from(height).unwrap_or(u16::MAX);
            let area = Rect { y, height, ..body };
            y += height;
            if height > 0 && pane == Pane::Links && beside {
                let wide = u16::try_from(self.links_width()).unwrap_or(u16::MAX).clamp(40, body.width / 2);
                places.push((pane, Rect { width: wide, ..area }));
                let rest = body.width - wide - 2;
                places.push((Pane::Events, Rect { x: area.x + wide + 2, width: rest, ..area }));
            } else if height > 0 {
                places.push((pane, area));
            }
        }
        places
    }

    fn pane(&mut self, pane: Pane, area: Rect) {
        if area.height == 0 {
            return;
        }
        let lines = Rect { y: area.y + 1, height: area.height - 1, ..area };
        if let Some(shown) = self.drawn.lines.get_mut(pane as usize) {
            *shown = usize::from(lines.height);
        }
        match pane {
            Pane::Links => self.links(area, lines),
            Pane::Findings => self.findings(area, lines),
            Pane::Cause => self.cause_pane(area, lines),
            Pane::Events => self.events(area, lines),
        }
    }

    fn title(&mut self, pane: Pane, area: Rect, name: &str, note: &str) {
        let focused = self.state.pane == pane;
        let style = Style::new().add_modifier(Modifier::BOLD);
        let style = if focused { style.add_modifier(Modifier::REVERSED) } else { style };
        let filter = self.state.filter(pane);
        let filter =
            if filter.is_empty() || pane == Pane::Cause { String::new() } else { format!(" /{filter}") };
        let columns = usize::from(area.width);
        let name = fit(&format!(" {name}{filter} "), columns, self.look.cut());
        let left = columns - width(&name);
        let note = if note.is_empty() { String::new() } else { format!(" {note} ") };
        let note = fit(&note, left, self.look.cut());
        let rule = self.look.rule().repeat(left.saturating_sub(width(&note)));
        let rule_style = if focused { Style::new() } else { dim() };
        self.line(area, vec![(name, style), (note, Style::new()), (rule, rule_style)]);
    }

    fn row(area: Rect, n: usize) -> Rect {
        Rect { y: area.y + u16::try_from(n).unwrap_or(u16::MAX), height: 1, ..area }
    }

    // The links.

    /// The names' column, and each of the others.
    fn links_columns(&self) -> (usize, usize) {
        let Some((matrix, _)) = &self.state.data().links else { return (0, 0) };
        let cut = self.look.cut();
        let named = |name: &str| width(&fit(&super::data::clean(name), CLUSTER, cut));
        let widest = matrix.clusters.keys().map(|n| named(n)).max().unwrap_or(0).max(4);
        let cell = matrix.cells().map(|(_, _, c)| width(&links::brief(c))).max().unwrap_or(0);
        let head = matrix.clusters.keys().map(|n| named(n) + 1).max().unwrap_or(0);
        let answers = matrix.clusters.values().map(|s| seat(s).len()).max().unwrap_or(0);
        (widest + 2 + answers, cell.max(head).max(6) + 2)
    }

    fn links_width(&self) -> usize {
        let (first, each) = self.links_columns();
        let clusters = self.state.data().links.as_ref().map_or(0, |(m, _)| m.clusters.len());
        1 + first + each * clusters
    }

    fn links(&mut self, area: Rect, lines: Rect) {
        let (state, look) = (self.state, self.look);
        let Some((matrix, at)) = &state.data().links else {
            self.title(Pane::Links, area, "links", "");
            let why = match state.api {
                Api::Answers => "the agent tells none; it is of an older version",
                _ => "not told yet",
            };
            return self.line(lines, vec![(format!(" {why}"), dim())]);
        };
        let (first, each) = self.links_columns();
        let across = (usize::from(lines.width).saturating_sub(1 + first) / each.max(1)).max(1);
        let down = usize::from(lines.height).saturating_sub(1);
        let fits = matrix.clusters.len() <= across.min(down);
        let by_name = state.order.by_name(fits);
        let table = Table::of(matrix, state.filter(Pane::Links), by_name);
        let focused = state.pane == Pane::Links;
        let (row, column) = if focused { state.cell } else { (0, 0) };
        let (row, column) =
            (row.min(table.rows.len().saturating_sub(1)), column.min(table.columns.len().saturating_sub(1)));
        let (top, left) = (window(row, table.rows.len(), down), window(column, table.columns.len(), across));
        let old = state.now().since(*at);
        let mut note = if focused && !table.rows.is_empty() {
            let (from, to) = (table.rows.get(row), table.columns.get(column));
            match (from, to) {
                (Some(from), Some(to)) if from == to => seat_words(from, matrix.clusters.get(*from)),
                (Some(from), Some(to)) => links::words(from, to, matrix.cell(from, to)),
                _ => String::new(),
            }
        } else {
            let (expected, up) = matrix.links_expected_and_connected();
            let many = if fits { String::new() } else { format!("; {} clusters", matrix.clusters.len()) };
            let order = if by_name { "" } else { ", trouble first" };
            format!("{up} of {expected} up{many}{order}")
        };
        if old > Duration::from_secs(15) {
            note = format!("{} old; {note}", age(old));
        }
        self.title(Pane::Links, area, "links, row to column", &note);
        let mut head = vec![(padded(" from", 1 + first, look.cut()), dim())];
        let shown: Vec<_> = table.columns.iter().enumerate().skip(left).take(across).collect();
        for (n, name) in &shown {
            let style = if focused && *n == column { Modifier::BOLD } else { Modifier::DIM };
            let name = format!(" {}", fit(&super::data::clean(name), CLUSTER, look.cut()));
            head.push((padded(&name, each, look.cut()), Style::new().add_modifier(style)));
        }
        self.line(lines, head);
        for (n, name) in table.rows.iter().enumerate().skip(top).take(down) {
            let seat_of = matrix.clusters.get(*name);
            let seat_text = seat_of.map(seat).unwrap_or_default();
            let names = first.saturating_sub(1 + width(&seat_text));
            let name_style = if focused && n == row { Modifier::BOLD } else { Modifier::empty() };
            let name_text = format!(" {}", super::data::clean(name));
            let dark = seat_of.is_some_and(|s| s.answered < s.servers);
            let mut line = vec![
                (padded(&name_text, names + 1, look.cut()), Style::new().add_modifier(name_style)),
                (seat_text + " ", if dark { look.ink(Color::Yellow) } else { dim() }),
            ];
            for (m, to) in &shown {
                let chosen = focused && (n, *m) == (row, column);
                let (text, style) = match matrix.cell(name, to) {
                    Some(cell) => (links::brief(cell), self.cell_style(cell)),
                    None if name == *to => (" .".to_owned(), dim()),
                    // Not told, for it is too much; those with trouble are told first.
                    None if matrix.left_out.troubled > 0 => (format!(" {}", look.cut()), dim()),
                    None if matrix.left_out.whole > 0 => (" up".to_owned(), dim()),
                    None => (String::new(), Style::new()),
                };
                let style = if chosen { style.add_modifier(Modifier::REVERSED) } else { style };
                line.push((padded(&text, each - 1, look.cut()), style));
                line.push((" ".to_owned(), Style::new()));
            }
            self.line(Self::row(lines, n - top + 1), line);
        }
        if table.rows.is_empty() && down > 0 {
            let text = " no cluster has this in its name";
            self.line(Self::row(lines, 1), vec![(text.to_owned(), dim())]);
        }
    }

    fn cell_style(&self, cell: &crate::model::Cell) -> Style {
        use crate::model::CellState as S;
        match cell.state() {
            S::Whole => self.look.ink(Color::Green),
            S::PartlySeen | S::Unseen => self.look.ink(Color::Magenta),
            S::Pressed => self.look.ink(Color::Yellow),
            S::Part | S::Down => self.look.bad(),
        }
    }

    // The findings.

    fn findings(&mut self, area: Rect, lines: Rect) {
        let (state, look) = (self.state, self.look);
        let findings = state.findings();
        let chosen = state.chosen(&findings);
        let open = state.data().open(state.now());
        let all = open.critical + open.warning + open.info;
        let mut note = match state.level {
            Severity::Info => String::new(),
            Severity::Warning => "warning and critical; ".to_owned(),
            Severity::Critical => "critical only; ".to_owned(),
        };
        if findings.len() as u64 != all || findings.len() > usize::from(lines.height) {
            let _ = write!(note, "{} of {all}, the worst first", findings.len());
        }
        self.title(Pane::Findings, area, "findings", note.trim_end_matches("; "));
        if findings.is_empty() {
            let hidden = !state.data().findings.is_empty();
            let text = if hidden { "none of this kind" } else { "none open" };
            return self.line(lines, vec![(format!(" {text}"), dim())]);
        }
        let shown = usize::from(lines.height);
        let top = window(chosen, findings.len(), shown);
        let told_now = state.data().told_now(state.now());
        let code = findings.iter().map(|f| width(&f.code)).max().unwrap_or(0).min(CLUSTER);
        for (n, finding) in findings.iter().enumerate().skip(top).take(shown) {
            let mark = if n == chosen { ">" } else { " " };
            let old = age(told_now.since(finding.opened_at));
            let silenced = if finding.silenced { "(silenced) " } else { "" };
            let style = if finding.silenced { dim() } else { look.severity(finding.severity) };
            let mut line = vec![
                (mark.to_owned(), Style::new().add_modifier(Modifier::BOLD)),
                (format!("{:<8} ", finding.severity.as_str()), style),
                (format!("{old:>7}  "), Style::new()),
                (padded(&finding.code, code, look.cut()) + " ", dim()),
                (format!("{silenced}{}", finding.summary), Style::new()),
            ];
            if n == chosen && state.pane == Pane::Findings {
                let used: usize = line.iter().map(|(text, _)| width(text)).sum();
                line.push((" ".repeat(usize::from(lines.width).saturating_sub(used)), Style::new()));
                for (_, style) in &mut line {
                    *style = style.remove_modifier(Modifier::DIM).add_modifier(Modifier::REVERSED);
                }
            }
            self.line(Self::row(lines, n - top), line);
        }
    }

    // Why, and what to do.

    fn chosen(&self) -> Option<&Finding> {
        let findings = self.state.findings();
        findings.get(self.state.chosen(&findings)).copied()
    }

    /// What there is to say of the chosen finding, in so many columns.
    fn cause(&self, columns: usize) -> Vec<Text> {
        let Some(finding) = self.chosen() else { return Vec::new() };
        let look = self.look;
        let mut lines = Vec::new();
        let mut say = |label: &str, text: &str, style: Style| {
            for (n, part) in wrap(text, columns.saturating_sub(LABEL + 1)).into_iter().enumerate() {
                let label = if n == 0 { label } else { "" };
                lines.push(vec![(format!(" {label:<LABEL$}"), dim()), (part, style)]);
            }
        };
        say("what", &finding.summary, Style::new().add_modifier(Modifier::BOLD));
        let mut evidence = false;
        let open_for = self.state.data().told_now(self.state.now()).since(finding.opened_at);
        let since = format!("{}, {} ago", finding.opened_at.to_the_second(), spoken(open_for));
        let silenced = if finding.silenced { "; silenced, and so not published" } else { "" };
        for told in &finding.told {
            if told.label == "seen" && !evidence {
                evidence = true;
                say("since", &format!("{since}{silenced}"), Style::new());
            }
            let style = match told.label {
                "do" => Style::new().add_modifier(Modifier::BOLD),
                "run" => look.ink(Color::Cyan),
                "" if told.whole => look.ink(Color::Cyan),
                _ => Style::new(),
            };
            say(told.label, &told.text, style);
        }
        if !evidence {
            say("since", &format!("{since}{silenced}"), Style::new());
        }
        say("id", &finding.fingerprint, dim());
        lines
    }

    fn cause_pane(&mut self, area: Rect, lines: Rect) {
        let text = self.cause(usize::from(lines.width));
        let shown = usize::from(lines.height);
        let last = text.len().saturating_sub(shown);
        let from = self.state.cause_scroll.min(last);
        self.drawn.cause_scroll_max = last;
        let more = text.len().saturating_sub(from + shown);
        let note = match (more, self.state.zoomed) {
            (0, _) => String::new(),
            (n, true) => format!("{n} more lines"),
            (n, false) => format!("{n} more lines: Enter"),
        };
        self.title(Pane::Cause, area, "why, and what to do", &note);
        if text.is_empty() {
            return self.line(lines, vec![(" no finding is chosen".to_owned(), dim())]);
        }
        for (n, line) in text.into_iter().skip(from).take(shown).enumerate() {
            self.line(Self::row(lines, n), line);
        }
    }

    // What happened.

    fn events(&mut self, area: Rect, lines: Rect) {
        let (state, look) = (self.state, self.look);
        let filter = state.filter(Pane::Events).to_lowercase();
        let wanted = |text: &str| filter.is_empty() || text.to_lowercase().contains(&filter);
        let events: Vec<_> =
            state.data().events.iter().filter(|e| wanted(&e.text) || wanted(&e.word)).collect();
        let shown = usize::from(lines.height);
        let last = events.len().saturating_sub(shown);
        let from = last - state.events_scroll.min(last);
        let below = last - from;
        let note = if below > 0 { format!("{below} newer below") } else { String::new() };
        self.title(Pane::Events, area, "events", &note);
        if events.is_empty() {
            let text = if filter.is_empty() { " none since we came" } else { " none of this kind" };
            return self.line(lines, vec![(text.to_owned(), dim())]);
        }
        for (n, event) in events.into_iter().skip(from).take(shown).enumerate() {
            let at = event.at.to_the_second();
            let style = match (event.word.as_str(), event.severity) {
                ("resolved", _) => look.ink(Color::Green),
                (_, Some(severity)) => look.severity(severity),
                (_, None) => dim(),
            };
            let severity = event.severity.map_or("", Severity::as_str);
            let line = vec![
                (format!(" {} ", at.get(11..).unwrap_or_default()), dim()),
                (format!("{:<8} ", event.word), Style::new()),
                (if severity.is_empty() { String::new() } else { format!("{severity:<8} ") }, style),
                (event.text.clone(), Style::new()),
            ];
            self.line(Self::row(lines, n), line);
        }
    }

    // The keys.

    fn foot(&mut self, area: Rect) {
        let state = self.state;
        let key = Style::new().add_modifier(Modifier::BOLD);
        if state.typing {
            let text = vec![
                (format!("/{}", state.filter(state.pane)), key),
                ("_".to_owned(), Style::new().add_modifier(Modifier::REVERSED)),
                ("  Enter keeps it, Esc shows all".to_owned(), dim()),
            ];
            return self.line(area, text);
        }
        let (back, sort) = (state.zoomed, if state.pane == Pane::Links { "order" } else { "severity" });
        let mut text = Text::new();
        for (name, does) in [
            ("q", "quit"),
            ("?", "help"),
            if back { ("Esc", "back") } else { ("Tab", "pane") },
            ("jk", "move"),
            if back { ("", "") } else { ("Enter", "whole") },
            ("/", "filter"),
            ("s", sort),
            ("p", if state.paused_for().is_some() { "go on" } else { "pause" }),
        ] {
            if !name.is_empty() {
                text.push((format!(" {name}"), key));
                text.push((format!(" {does} "), dim()));
            }
        }
        self.line(area, text);
    }

    fn help(&mut self, area: Rect) {
        const KEYS: &[(&str, &str)] = &[
            ("q, Ctrl-C", "quit"),
            ("Tab, Shift-Tab", "the next pane, the one before"),
            ("j k, arrows", "down and up; h l, left and right among the links"),
            ("PgDn PgUp, space b", "a page down, a page up; Ctrl-D Ctrl-U half of one"),
            ("g G, Home End", "to the first, to the last"),
            ("Enter", "this pane on the whole screen; of a finding, all of it"),
            ("Esc", "back; else show all that was filtered away"),
            ("/", "show only what has this in it; Enter keeps it, Esc drops it"),
            ("s", "findings: of what severity; links: by name or trouble first"),
            ("p", "hold what is shown, and go on"),
            ("Ctrl-L, Ctrl-Z", "draw anew, suspend"),
            ("", ""),
            ("3/3 0.4ms", "links: up of expected, the longest round trip"),
            ("! X", "some are down, none is up"),
            ("? -", "some, or all, cannot be seen"),
            ("^ 1.2MB", "so much waits to be written on one of them"),
            ("2/3 after a name", "servers of the cluster that answer, of those expected"),
        ];
        self.title(Pane::Cause, area, "keys and signs", "any key goes back");
        for (n, (key, does)) in KEYS.iter().enumerate().take(usize::from(area.height.saturating_sub(1))) {
            let line = vec![
                (format!(" {key:<19}"), Style::new().add_modifier(Modifier::BOLD)),
                ((*does).to_owned(), Style::new()),
            ];
            self.line(Self::row(area, n + 1), line);
        }
    }
}

/// How many servers answered; nothing where all do, for it is read when it is there.
fn seat(seat: &crate::model::Seat) -> String {
    if seat.is_a_name() {
        " ?".to_owned()
    } else if seat.answered < seat.servers {
        format!(" {}/{}", seat.answered, seat.servers)
    } else {
        String::new()
    }
}

fn seat_words(name: &str, seat: Option<&crate::model::Seat>) -> String {
    let name = super::data::clean(name);
    match seat {
        None => name,
        Some(seat) if seat.is_a_name() => format!("{name}: only a name in a configuration"),
        Some(seat) => {
            let missing: Vec<String> = seat.missing.iter().map(|n| super::data::clean(n)).collect();
            let missing =
                if missing.is_empty() { String::new() } else { format!("; silent: {}", missing.join(", ")) };
            format!("{name}: {} of {} servers answer{missing}", seat.answered, seat.servers)
        }
    }
}

/// The first of `all` that is shown so that `chosen` is among `shown`.
fn window(chosen: usize, all: usize, shown: usize) -> usize {
    chosen.saturating_sub(shown / 2).min(all.saturating_sub(shown))
}
