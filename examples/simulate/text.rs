use std::io::{self, Write};
use std::time::Duration;

use tower_mesh::sim::Report;

use crate::against::Peer;

/// The most columns of a chart, and its rows.
const WIDTH: usize = 100;
const HEIGHT: usize = 8;
/// The most events that are told one by one.
const EVENTS: usize = 40;

pub fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "{report}\n")?;
    let rates: Vec<f64> = report.timeline.iter().map(|s| s.requests as f64).collect();
    chart(out, "requests a second", &rates)?;
    let errors: Vec<f64> = report.timeline.iter().map(|s| s.errors as f64).collect();
    chart(out, "errors a second", &errors)?;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let p99: Vec<f64> = report.timeline.iter().map(|s| millis(s.p99)).collect();
    chart(out, "p99 in ms", &p99)?;
    timeline(out, report)
}

/// A line chart, as wide as there are seconds, or as the terminal can be expected to be.
fn chart(out: &mut impl Write, title: &str, values: &[f64]) -> io::Result<()> {
    // In each row a cell is one of eight steps high.
    const STEPS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = values.len().clamp(1, WIDTH);
    // The highest of those that share a column, for peaks are what matters.
    let column = |n: usize| {
        let from = n * values.len() / columns;
        let to = ((n + 1) * values.len() / columns).max(from + 1);
        let part = values.get(from..to).unwrap_or_default();
        part.iter().copied().fold(0.0, f64::max)
    };
    let points: Vec<f64> = (0..columns).map(column).collect();
    let top = points.iter().copied().fold(0.0, f64::max);
    writeln!(out, "{title}")?;
    if top <= 0.0 {
        return writeln!(out, "{:>10} ┤{}\n", 0, "─".repeat(columns));
    }
    let heights: Vec<usize> = points
        .iter()
        .map(|value| (value / top * (HEIGHT * 8) as f64).ceil() as usize)
        .collect();
    for row in (0..HEIGHT).rev() {
        match row + 1 {
            HEIGHT => write!(out, "{top:>10.1} ┤")?,
            1 => write!(out, "{:>10} ┤", 0)?,
            _ => write!(out, "{:>10} │", "")?,
        }
        for height in &heights {
            let step = height.saturating_sub(row * 8).min(8);
            write!(out, "{}", STEPS.get(step).copied().unwrap_or(' '))?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "{:>11} {:<w$}{} s\n",
        "",
        0,
        values.len(),
        w = columns.saturating_sub(4).max(1)
    )
}

fn timeline(out: &mut impl Write, report: &Report) -> io::Result<()> {
    if report.events.is_empty() {
        return writeln!(out, "nothing was decided about endpoints");
    }
    writeln!(out, "decisions about endpoints")?;
    for event in report.events.iter().take(EVENTS) {
        let endpoint = event.endpoint.and_then(|n| report.endpoints.get(n));
        let endpoint = endpoint.map(|endpoint| endpoint.label(report));
        let who = match report.clients {
            1 => String::new(),
            _ => format!("client {:<4} ", event.client),
        };
        writeln!(
            out,
            "{:>9.3} s  {who}{:<10} {:<17} {}",
            event.at.as_secs_f64(),
            endpoint.unwrap_or_default(),
            event.what.replace('_', " "),
            event.why,
        )?;
    }
    let all = report.events.len() as u64 + report.events_left_out;
    match all.saturating_sub(EVENTS as u64) {
        0 => Ok(()),
        more => writeln!(out, "... and {more} more"),
    }
}

/// The figures of our client and of its peers, in columns.
pub fn side_by_side(
    out: &mut impl Write,
    report: &Report,
    peers: &[(Peer, Report)],
) -> io::Result<()> {
    let mut columns = vec![("tower-mesh".to_owned(), report)];
    columns.extend(
        peers
            .iter()
            .map(|(peer, report)| (peer.to_string(), report)),
    );
    write!(out, "{:<22}", "")?;
    for (name, _) in &columns {
        write!(out, "{name:>14}")?;
    }
    writeln!(out)?;
    for (figure, of) in figures() {
        write!(out, "{figure:<22}")?;
        for (_, report) in &columns {
            write!(out, "{:>14}", of(report))?;
        }
        writeln!(out)?;
    }
    for (n, endpoint) in report.endpoints.iter().enumerate() {
        write!(
            out,
            "{:<22}",
            format!("share of {}", endpoint.label(report))
        )?;
        for (_, report) in &columns {
            let attempts = report.endpoints.get(n).map_or(0, |e| e.attempts);
            let share = attempts as f64 / report.attempts.max(1) as f64;
            write!(out, "{:>14}", percent(share))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

pub type Figure = (&'static str, fn(&Report) -> String);

/// What is told of every run, in words.
pub fn figures() -> [Figure; 10] {
    fn millis(report: &Report, quantile: f64) -> String {
        format!("{:.1} ms", report.latency(quantile).as_secs_f64() * 1e3)
    }
    [
        ("requests", |r| r.requests.to_string()),
        ("errors", |r| r.failed().to_string()),
        ("error rate", |r| percent(r.error_rate())),
        ("success within 1 s", |r| percent(within(r, "1"))),
        ("attempts per request", |r| {
            format!("{:.4}", r.amplification())
        }),
        ("p50", |r| millis(r, 0.5)),
        ("p95", |r| millis(r, 0.95)),
        ("p99", |r| millis(r, 0.99)),
        ("p99.9", |r| millis(r, 0.999)),
        ("p99.99", |r| millis(r, 0.9999)),
    ]
}

pub fn within(report: &Report, seconds: &str) -> f64 {
    let found = report.within().find(|(name, _)| *name == seconds);
    found.map_or(0.0, |(_, share)| share)
}

pub fn percent(part: f64) -> String {
    format!("{:.3} %", part * 100.0)
}
