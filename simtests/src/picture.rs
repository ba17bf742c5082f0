//! A message-sequence picture of a trace: one line of life for each node and client, an arrow for each frame, as one SVG file that
//! needs nothing else. Pointing at a mark shows the line of the trace behind it.
//!
//! Invariant: the picture is a function of the trace's text; what it does not understand it shows as words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Lines of a trace that fit one picture.
pub const ROWS_MAX: usize = 3_000;

const ROW_PX: usize = 16;
const LANE_PX: usize = 260;
const LEFT_PX: usize = 110;
const TOP_PX: usize = 50;
/// Characters of an event's words that fit beside its lane.
const WORDS_MAX: usize = 38;

/// Which part of a trace to draw.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Milliseconds of simulated time, from.
    pub from_ms: u64,
    /// And until.
    pub to_ms: u64,
    /// Heartbeats and disk operations, too.
    pub everything: bool,
}

/// Draws the part of `trace` that the window shows.
pub fn draw(trace: &str, window: Window) -> Result<String, String> {
    let events: Vec<Event> = trace.lines().filter_map(Event::parse).collect();
    let shown: Vec<&Event> = events.iter().filter(|event| window.shows(event)).collect();
    if shown.is_empty() {
        return Err("nothing happens in this window".into());
    }
    if shown.len() > ROWS_MAX {
        let count = shown.len();
        return Err(format!(
            "{count} events are too many for one picture ({ROWS_MAX}): choose a shorter window"
        ));
    }
    Ok(Picture::new(&shown).render(&shown))
}

/// One line of a trace.
#[derive(Debug, PartialEq, Eq)]
struct Event<'a> {
    line: &'a str,
    at: &'a str,
    at_us: u64,
    who: &'a str,
    what: &'a str,
    details: &'a str,
}

impl<'a> Event<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (at, rest) = line.trim_start().split_once(' ')?;
        let (seconds, micros) = at.split_once('.')?;
        let at_us = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
        let (who, rest) = rest.trim_start().split_once(' ')?;
        let (what, details) = rest.trim_start().split_once(' ').unwrap_or((rest.trim(), ""));
        Some(Event { line, at, at_us, who, what, details: details.trim() })
    }

    /// The frame that was sent or arrived here: its number.
    fn frame(&self) -> Option<&'a str> {
        let is_frame = self.what == "send" || self.what == "recv";
        self.details.split(' ').find(|word| is_frame && word.starts_with('#'))
    }

    /// Whom this is for: the first word of what is sent, asked or answered.
    fn target(&self) -> Option<&'a str> {
        matches!(self.what, "send" | "ask" | "reply").then(|| self.details.split(' ').next())?
    }

    /// What is said of it beside its lane or on its arrow.
    fn words(&self) -> String {
        let skipped = match self.what {
            "send" => 2,
            "ask" | "reply" => 1,
            _ => 0,
        };
        let details: Vec<&str> = self.details.split(' ').skip(skipped).collect();
        let details = details.join(" ");
        let words = if skipped > 0 { details } else { format!("{} {details}", self.what) };
        words.chars().take(WORDS_MAX).collect()
    }
}

impl Window {
    fn shows(&self, event: &Event) -> bool {
        let in_time =
            (self.from_ms * 1_000..=self.to_ms.saturating_mul(1_000)).contains(&event.at_us);
        let is_noise = event.what == "disk" || event.details.contains("Heartbeat");
        in_time && (self.everything || !is_noise)
    }
}

struct Picture<'a> {
    lanes: BTreeMap<&'a str, usize>,
    /// The row at which a frame arrives first, by number.
    arrivals: BTreeMap<&'a str, (usize, &'a str)>,
    svg: String,
}

impl<'a> Picture<'a> {
    fn new(shown: &[&Event<'a>]) -> Self {
        let named = |name: &&str| is_node(name) || name.starts_with('c');
        let who = shown.iter().map(|event| event.who);
        let targets = shown.iter().filter_map(|event| event.target());
        let mut names: Vec<&str> =
            who.chain(targets).filter(named).collect::<BTreeSet<_>>().into_iter().collect();
        names.sort_by_key(|name| (name.starts_with('c'), *name));
        let lanes = names.into_iter().enumerate().map(|(at, name)| (name, at)).collect();
        let mut arrivals = BTreeMap::new();
        for (row, event) in shown.iter().enumerate().filter(|(_, event)| event.what == "recv") {
            if let Some(frame) = event.frame() {
                arrivals.entry(frame).or_insert((row, event.who));
            }
        }
        Picture { lanes, arrivals, svg: String::new() }
    }

    fn render(mut self, shown: &[&Event]) -> String {
        let width = LEFT_PX + self.lanes.len().max(1) * LANE_PX;
        let height = TOP_PX + (shown.len() + 2) * ROW_PX;
        self.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"monospace\" font-size=\"11\">"
        ));
        self.put(format_args!("<style>line{{stroke:#888}} .frame{{stroke:#36c}} .lost{{stroke:#c33;stroke-dasharray:4}} .talk{{stroke:#284}} .bad{{fill:#c00}}</style>"));
        self.put(format_args!("<defs><marker id=\"tip\" markerWidth=\"7\" markerHeight=\"6\" refX=\"7\" refY=\"3\" orient=\"auto\"><path d=\"M0,0 L7,3 L0,6 z\"/></marker></defs>"));
        self.put(format_args!("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"));
        for (name, lane) in self.lanes.clone() {
            let (x, bottom) = (x_of(lane), height - ROW_PX);
            self.put(format_args!(
                "<text x=\"{x}\" y=\"20\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>",
                escape(name)
            ));
            self.put(format_args!("<line x1=\"{x}\" y1=\"28\" x2=\"{x}\" y2=\"{bottom}\"/>"));
        }
        for (row, event) in shown.iter().enumerate() {
            self.event(row, event);
        }
        self.put(format_args!("</svg>"));
        self.svg
    }

    fn event(&mut self, row: usize, event: &Event) {
        let y = y_of(row);
        self.put(format_args!("<g><title>{}</title>", escape(event.line.trim())));
        self.put(format_args!("<text x=\"4\" y=\"{}\" fill=\"#888\">{}</text>", y + 4, event.at));
        let lane = self.lanes.get(event.who).copied();
        let target = event.target().and_then(|target| self.lane_of(target));
        match (lane, event.what) {
            (Some(lane), "send") => self.sent(row, lane, target, event),
            (Some(lane), "recv") => {
                self.put(format_args!(
                    "<circle cx=\"{}\" cy=\"{y}\" r=\"3\" fill=\"#36c\"/>",
                    x_of(lane)
                ));
            }
            (Some(lane), "ask" | "reply") if target.is_some() => {
                let to = x_of(target.unwrap_or(lane));
                self.arrow("talk", (x_of(lane), y), (to, y), &event.words());
            }
            (lane, what) => {
                let x = lane.map_or(LEFT_PX, |lane| x_of(lane) + 6);
                let bad =
                    ["crash", "halt", "refused", "violation", "rot", "vacant"].contains(&what);
                let class = if bad { "bad" } else { "" };
                let words = if lane.is_some() {
                    event.words()
                } else {
                    format!("{} {}", event.who, event.words())
                };
                self.put(format_args!(
                    "<text class=\"{class}\" x=\"{x}\" y=\"{}\">{}</text>",
                    y + 4,
                    escape(&words)
                ));
            }
        }
        self.put(format_args!("</g>"));
    }

    fn sent(&mut self, row: usize, lane: usize, target: Option<usize>, event: &Event) {
        let from = (x_of(lane), y_of(row));
        let arrival = event.frame().and_then(|frame| self.arrivals.get(frame)).copied();
        if let Some((arrival, who)) = arrival.filter(|(arrival, _)| *arrival >= row)
            && let Some(lane) = self.lane_of(who)
        {
            return self.arrow("frame", from, (x_of(lane), y_of(arrival)), &event.words());
        }
        // It does not arrive within the window: half an arrow.
        let to = target.map_or(from.0 + 40, x_of);
        self.arrow("lost", from, (from.0.midpoint(to), from.1 + ROW_PX / 2), &event.words());
    }

    fn arrow(&mut self, class: &str, from: (usize, usize), to: (usize, usize), words: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let (x, anchor) = if x2 >= x1 { (x1 + 6, "start") } else { (x1.saturating_sub(6), "end") };
        self.put(format_args!(
            "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" marker-end=\"url(#tip)\"/>"
        ));
        self.put(format_args!(
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\" font-size=\"9\">{}</text>",
            y1.saturating_sub(2),
            escape(words)
        ));
    }

    /// The lane of a node or client; a client names a node by its member only: `n2`, whatever its incarnation.
    fn lane_of(&self, name: &str) -> Option<usize> {
        let member = name.strip_prefix('n');
        let of_member = |lane: &&&str| {
            is_node(lane) && lane.split('.').next().is_some_and(|number| Some(number) == member)
        };
        let by_member =
            || self.lanes.keys().rev().find(of_member).and_then(|lane| self.lanes.get(lane));
        self.lanes.get(name).or_else(by_member).copied()
    }

    fn put(&mut self, words: std::fmt::Arguments) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.svg, "{words}");
    }
}

/// Nodes are named by numbers, with their incarnation behind a dot.
fn is_node(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_digit())
}

fn x_of(lane: usize) -> usize {
    LEFT_PX + lane * LANE_PX + LANE_PX / 4
}

fn y_of(row: usize) -> usize {
    TOP_PX + row * ROW_PX
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "   0.100000 1      send       2 #7 Append term 1\n   0.150000 1      send       2 #8 Append term 1\n   \
                         0.200000 2      recv       #7\n   0.300000 c100   ask        n2 1 Put <k>\n   0.400000 2      crash      Process\n";

    #[test]
    fn frames_are_arrows_and_lost_ones_half_arrows() {
        let window = Window { from_ms: 0, to_ms: 1_000, everything: false };
        let svg = draw(TRACE, window).expect("it can be drawn");
        assert_eq!(svg.matches("class=\"frame\"").count(), 1, "{svg}");
        assert_eq!(svg.matches("class=\"lost\"").count(), 1, "{svg}");
        assert_eq!(svg.matches("class=\"talk\"").count(), 1, "{svg}");
        assert!(svg.contains("class=\"bad\"") && svg.contains("&lt;k&gt;"), "{svg}");
    }

    #[test]
    fn an_empty_window_is_refused() {
        assert!(draw(TRACE, Window { from_ms: 500, to_ms: 900, everything: true }).is_err());
    }
}
