//! The same scenario with many seeds.

use std::fmt::Write as _;
use std::io::{self, Write};

use tower_mesh::sim::Report;

const PERCENTILES: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// Every figure of a report, by name.
fn figures(report: &Report) -> Vec<(String, f64)> {
    let mut figures = vec![
        ("requests".to_owned(), report.requests as f64),
        ("attempts".to_owned(), report.attempts as f64),
        (
            "success".to_owned(),
            (report.requests - report.failed()) as f64,
        ),
        ("errors".to_owned(), report.failed() as f64),
        ("error_rate".to_owned(), report.error_rate()),
        ("amplification".to_owned(), report.amplification()),
    ];
    for (name, quantile) in PERCENTILES {
        let millis = report.latency(quantile).as_secs_f64() * 1e3;
        figures.push((format!("latency_ms.{name}"), millis));
    }
    let slowest = report.slowest().as_secs_f64() * 1e3;
    figures.push(("latency_ms.max".to_owned(), slowest));
    for (name, share) in report.within() {
        figures.push((format!("within_s.{name}"), share));
    }
    for endpoint in &report.endpoints {
        let label = endpoint.label(report);
        let share = endpoint.attempts as f64 / report.attempts.max(1) as f64;
        figures.push((format!("{label}.attempts"), endpoint.attempts as f64));
        figures.push((format!("{label}.share"), share));
        figures.push((format!("{label}.errors"), endpoint.errors as f64));
        figures.push((format!("{label}.opened"), endpoint.opened as f64));
        if let Some(first) = endpoint.first_opened {
            figures.push((format!("{label}.first_opened_s"), first.as_secs_f64()));
        }
    }
    figures
}

/// Minimum, median and maximum of every figure. One that not every run has is told of those that have it.
fn spread(reports: &[Report]) -> Vec<(String, [f64; 3])> {
    let all: Vec<_> = reports.iter().map(figures).collect();
    let mut names: Vec<String> = Vec::new();
    for (name, _) in all.iter().flatten() {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let spread = names.into_iter().filter_map(|name| {
        let of_name = all.iter().flatten().filter(|(other, _)| *other == name);
        let mut values: Vec<f64> = of_name.map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        let (first, last) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.get(middle.wrapping_sub(1)..=middle) {
            Some([a, b]) if values.len().is_multiple_of(2) => (a + b) / 2.0,
            _ => *values.get(middle)?,
        };
        Some((name, [first, median, last]))
    });
    spread.collect()
}

pub fn print(out: &mut impl Write, reports: &[Report]) -> io::Result<()> {
    writeln!(out, "{} runs", reports.len())?;
    writeln!(
        out,
        "{:<26}{:>14}{:>14}{:>14}",
        "", "minimum", "median", "maximum"
    )?;
    for (name, values) in spread(reports) {
        write!(out, "{name:<26}")?;
        for value in values {
            let text = if value.fract() == 0.0 {
                format!("{value}")
            } else {
                format!("{value:.5}")
            };
            write!(out, "{text:>14}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

pub fn json(reports: &[Report], seed: u64) -> String {
    let mut out = format!(
        "{{\"runs\":{},\"seed\":{seed},\"figures\":{{",
        reports.len()
    );
    for (n, (name, [minimum, median, maximum])) in spread(reports).into_iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let name = name.replace(['"', '\\'], "_");
        let _ = write!(
            out,
            "{comma}\"{name}\":{{\"min\":{minimum},\"median\":{median},\"max\":{maximum}}}"
        );
    }
    let digests: Vec<_> = reports
        .iter()
        .map(|r| format!("\"{}\"", r.digest))
        .collect();
    let _ = write!(out, "}},\"digests\":[{}]}}", digests.join(","));
    out
}
