//! The report for people, on eighty columns.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::report::{Measured, Part, Report, Share};
use crate::script::RATE;
use crate::servers::{FAILING, LATENCY, NAMES, SLOW};
use crate::timeline::{Event, What};

/// How many entries of the timeline are shown.
const ENTRIES: usize = 24;
/// How wide a third of the run is drawn.
const THIRD: usize = 20;
/// How wide all attempts are drawn.
const ATTEMPTS: f64 = 20.0;

pub struct Table<'a>(pub &'a Report);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.introduction(f)?;
        self.numbers(f)?;
        self.shares(f, "attempts by endpoint", |share| share.all)?;
        self.shares(f, "attempts in the bad third", |share| share.bad)?;
        self.ejections(f)?;
        self.conclusion(f)
    }
}

// === impl Table ===

impl Table<'_> {
    fn introduction(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let script = &self.0.script;
        let length = script.length.as_secs_f64();
        let (from, to) = (length / 3.0, length / 3.0 * 2.0);
        let (least, more) = LATENCY;
        let (least, most) = (least.as_millis(), (least + more).as_millis());
        let seed = script.seed;
        writeln!(
            f,
            "
 Two clients, side by side, with the same arrivals: {RATE} requests a second for
 {length} s, seed {seed}. Each has four hyper servers of its own on loopback, and both
 sets behave alike: an answer takes {least} to {most} ms. In the bad third, from {from:.1} s
 to {to:.1} s, {FAILING} fails half of its requests and {SLOW} takes ten times as long.
"
        )
    }

    fn numbers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let cell = |text: &str| format!("{text:>11}");
        line(f, "", cell("plain hyper"), cell("tower-mesh"))?;
        let mut row = |label, value: fn(&Measured) -> String| {
            let cell = |measured| cell(&value(measured));
            line(f, label, cell(&self.0.plain), cell(&self.0.mesh))
        };
        row("requests", |m| m.all.requests.to_string())?;
        row("  lost", |m| m.all.failed.to_string())?;
        row("success rate", |m| success(&m.all))?;
        row("  in the bad third", |m| success(&m.bad))?;
        row("latency p50", |m| millis(m.all.p50))?;
        row("latency p99", |m| millis(m.all.p99))?;
        row("  while all was well", |m| millis(m.healthy.p99))?;
        row("latency max", |m| millis(m.all.max))?;
        row("attempts per request", |m| {
            format!("{:.3}", m.attempts_per_request)
        })
    }

    fn shares(&self, f: &mut Formatter<'_>, title: &str, of: fn(&Share) -> f64) -> fmt::Result {
        writeln!(f, "\n {title}")?;
        for name in NAMES {
            let cell = |measured: &Measured| {
                let share = measured.shares.iter().find(|share| share.name == name);
                let share = share.map_or(0.0, of);
                let bar = "█".repeat((share * ATTEMPTS).round() as usize);
                format!("{:>9.1} % {bar}", share * 100.0)
            };
            let label = match name {
                FAILING => format!("    {name}  fails half"),
                SLOW => format!("    {name}  ten times slower"),
                _ => format!("    {name}"),
            };
            line(f, &label, cell(&self.0.plain), cell(&self.0.mesh))?;
        }
        Ok(())
    }

    fn ejections(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let events = &self.0.ejections;
        writeln!(f, "\n ejections by tower-mesh")?;
        if events.is_empty() {
            return writeln!(f, "    none");
        }
        let column = |text| format!("{text:<THIRD$}");
        let [first, bad, last] = ["all is well", "the bad third", "all is well again"].map(column);
        writeln!(f, "       {first}┊{bad}┊{last}")?;
        for name in NAMES {
            if events.iter().any(|event| event.endpoint == name) {
                writeln!(f, "    {name}  {}", self.strip(name))?;
            }
        }
        writeln!(f, "       ─ in service   █ ejected\n")?;
        for event in events.iter().take(ENTRIES) {
            let (at, what) = (event.at.as_secs_f64(), event.what.name());
            writeln!(
                f,
                "{at:>7.2} s  {}  {what:<12}  {}",
                event.endpoint, event.why
            )?;
        }
        match events.len().saturating_sub(ENTRIES) {
            0 => Ok(()),
            more => writeln!(f, "           and {more} more: --json has them all"),
        }
    }

    /// When an endpoint was ejected, in columns of time.
    fn strip(&self, name: &str) -> String {
        let columns = 3 * THIRD;
        let column = |at: Duration| {
            let share = at.as_secs_f64() / self.0.script.length.as_secs_f64();
            ((share * columns as f64) as usize).min(columns - 1)
        };
        let mut out = vec![false; columns];
        let mut since = None;
        let mut fill = |from: usize, to: usize| out[from..=to].fill(true);
        for Event { at, what, .. } in self.0.ejections.iter().filter(|e| e.endpoint == name) {
            match what {
                What::Ejected => since = Some(column(*at)),
                What::ReAdmitted => {
                    if let Some(since) = since.take() {
                        fill(since, column(*at));
                    }
                }
                What::ProbeFailed | What::Kept => {}
            }
        }
        if let Some(since) = since {
            fill(since, columns - 1);
        }
        let third = |third: &[bool]| -> String {
            let marks = third.iter().map(|out| if *out { '█' } else { '─' });
            marks.collect()
        };
        out.chunks(THIRD).map(third).collect::<Vec<_>>().join("┊")
    }

    fn conclusion(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { plain, mesh, .. } = self.0;
        writeln!(
            f,
            "
 In the bad third the plain client lost {} of {} requests, and tower-mesh {}.
 Latency runs from the scheduled arrival to the last byte, failures included.
 Attempts are what the servers counted.",
            plain.bad.failed, plain.bad.requests, mesh.bad.failed,
        )
    }
}

fn line(f: &mut Formatter<'_>, label: &str, plain: String, mesh: String) -> fmt::Result {
    let text = format!(" {label:<28}{plain:<24}{mesh}");
    writeln!(f, "{}", text.trim_end())
}

/// In percent, and no hundred unless nothing was lost.
fn success(part: &Part) -> String {
    let percent = part.success_rate() * 100.0;
    let most = if part.failed == 0 { 100.0 } else { 99.99 };
    format!("{:.2} %", percent.min(most))
}

fn millis(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1000.0)
}
