//! The library of scenarios as one Markdown table: our client, its peers in the same world, and what others reach.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tower_mesh::sim::{Report, Scenario, s};

use crate::Failure;
use crate::against::Peer;
use crate::text::{percent, within};
use crate::with_progress;

/// How many seeds each figure is the median of.
const SEEDS: u64 = 5;

const HEAD: &str = "\
# Scenarios, ours beside theirs

Written by this command, which anyone can run again (it takes about a minute):

```sh
cargo run --release --example simulate -- --table examples/scenarios/*.yaml > docs/scenarios.md
```

Each figure is the median of five seeds. *tower-mesh*, *round robin* and *tower* ran in the same simulated world: the
same arrivals, and for each client's nth request at an endpoint the same fate. *round robin* has nothing else: no
retries, no breaker, no timeouts. *tower* is its `Balance` by `PeakEwma` and one `Retry` of every failure within a
`TpsBudget` of 20 % and ten a second, no breaker, no timeouts; it retries where the scenario's own policy may not. The
policy of *tower-mesh* is the scenario's, which each file names and explains.

*Others* are published figures, or those of small seeded models of the algorithm that is named, not of the product
itself; their \"lost\" figures assume callers that never leave. Where a worse figure stands on our side, that is how
it is now.
";

/// A figure that says how a scenario went.
struct Figure {
    name: &'static str,
    of: fn(&Report) -> Option<f64>,
    show: fn(f64) -> String,
    /// What others reach, from published figures or from small models of their algorithms.
    others: &'static str,
}

pub fn print(paths: &[PathBuf]) -> Result<(), Failure> {
    println!("{HEAD}");
    println!("| scenario | figure | tower-mesh | round robin | tower | others |");
    println!("|---|---|---:|---:|---:|---|");
    for path in paths {
        let scenario = Scenario::from_path(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut columns = Vec::new();
        for peer in [None, Some(Peer::RoundRobin), Some(Peer::Tower)] {
            columns.push(runs(&scenario, peer)?);
        }
        let link = format!("[{name}](../{})", path.display());
        for (n, figure) in figures(path).iter().enumerate() {
            let first = if n == 0 { link.as_str() } else { "" };
            print!("| {first} | {} ", figure.name);
            for reports in &columns {
                let text = median(reports, figure).map_or("–".to_owned(), figure.show);
                print!("| {text} ");
            }
            println!("| {} |", figure.others);
        }
    }
    Ok(())
}

fn runs(scenario: &Scenario, peer: Option<Peer>) -> Result<Vec<Report>, Failure> {
    let seeds = (0..SEEDS).map(|n| scenario.seed().wrapping_add(n));
    let run = |seed| {
        let scenario = scenario.clone().with_seed(seed);
        let world = peer.map_or_else(|| scenario.world(), |peer| peer.world(&scenario));
        with_progress(world, scenario.duration())
    };
    seeds.map(run).collect()
}

fn median(reports: &[Report], figure: &Figure) -> Option<f64> {
    let mut values: Vec<f64> = reports.iter().filter_map(figure.of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn figures(path: &Path) -> Vec<Figure> {
    let figure = |name, of, show, others| Figure {
        name,
        of,
        show,
        others,
    };
    let error_rate = |others| figure("error rate", |r| Some(r.error_rate()), percent, others);
    let second = |others| {
        figure(
            "success within 1 s",
            |r| Some(within(r, "1")),
            percent,
            others,
        )
    };
    let tail = |others| {
        figure(
            "p99.99",
            |r| Some(millis(r.latency(0.9999))),
            show_millis,
            others,
        )
    };
    let lost = |others| figure("requests lost", |r| Some(r.failed() as f64), whole, others);
    let amplification = |others| {
        figure(
            "attempts per request",
            |r| Some(r.amplification()),
            |v| format!("{v:.3}"),
            others,
        )
    };
    match path
        .file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
    {
        "slow" => vec![
            second(
                "95.455 % round robin, 99.41 % P2C least loaded, 99.907 % Finagle and tower, 99.909 % Linkerd; 100 % \
                 with a hedge after 200 ms",
            ),
            tail("1976 ms round robin, 1752 ms Finagle, 1755 ms Linkerd; 376 ms with a hedge"),
            figure(
                "attempts at the slow one, 16–45 s",
                |r| Some(attempts(r, "bad", 16..45)),
                whole,
                "56–60 over the whole fault: Peak EWMA",
            ),
        ],
        "hung-patient" => vec![
            second("99.650 % Peak EWMA; 99.968 % with the age of the oldest request in flight"),
            lost("210 Peak EWMA; 19 with the age of the oldest request in flight; 0 with a hedge"),
        ],
        "hung-impatient" => vec![lost(
            "some 600 with the age of those in flight alone; 34 with “unanswered since” and exploration",
        )],
        "black-hole" => vec![
            figure(
                "error rate while it lasts",
                |r| Some(r.error_rate_in(s(10)..s(40))),
                percent,
                "20.06 % Peak EWMA, 0.010 % Linkerd's biaser (no breakers)",
            ),
            figure(
                "its share, from 1 s on",
                |r| Some(r.share("bad", s(11)..s(40))),
                percent,
                "20 % by P2C; goal 0.05 %",
            ),
        ],
        "gray-failure" => vec![error_rate(
            "4.99 % round robin, 8.02 % Peak EWMA, 3.08 % Finagle's hybrid, 1.35 % Linkerd unified, 0.07 % the same \
             with its 5 s biaser",
        )],
        "gray-failure-consecutive" => {
            vec![error_rate(
                "6.96 % Linkerd with 7 consecutive failures; the load is plain Peak EWMA",
            )]
        }
        "gray-failure-ambient-consecutive" => {
            vec![error_rate("8.95 % Peak EWMA alone; the load is that")]
        }
        "gray-failure-probes" => vec![error_rate(
            "1.35 % Linkerd unified, one probe; the load is plain Peak EWMA",
        )],
        "gray-failure-ambient-probes" => vec![error_rate(
            "2.24 % Linkerd unified, one probe; the load is plain Peak EWMA",
        )],
        "gray-failure-everything" => vec![error_rate("goal 0.5 %; the load is plain Peak EWMA")],
        "gray-failure-ambient-everything" => {
            vec![error_rate("goal 1.45 %; the load is plain Peak EWMA")]
        }
        "gray-failure-ambient" => vec![error_rate(
            "8.95 % Peak EWMA, 2.24 % Linkerd unified, 1.64 % the same with its biaser; goal 1.28 %",
        )],
        "flapping" | "flapping-forgetful" => vec![
            figure(
                "errors",
                |r| Some(r.failed() as f64),
                whole,
                "goal: at most a third of flapping-forgetful",
            ),
            figure(
                "errors in the first cycle",
                |r| Some(cycle_errors(r, 0)),
                whole,
                "",
            ),
            figure(
                "errors in a cycle, over the last ten",
                |r| Some((20..30).map(|n| cycle_errors(r, n)).sum::<f64>() / 10.0),
                |v| format!("{v:.1}"),
                "Linkerd and Finagle forget with one success: as in the first; goal: at most half",
            ),
        ],
        "rolling-restart" => vec![lost("goal 0"), tail("")],
        "outage" => vec![
            figure(
                "the last pod is back after",
                |r| {
                    let closed = r.events.iter().filter(|event| event.what == "closed");
                    closed
                        .map(|event| event.at.as_secs_f64() - 40.0)
                        .next_back()
                },
                seconds,
                "goal: its next probe, at most 60 s",
            ),
            figure(
                "error rate from 40 s on",
                |r| Some(r.error_rate_in(s(40)..s(120))),
                percent,
                "",
            ),
            amplification(""),
        ],
        "retry-storm" => vec![
            figure(
                "back to 99 % after",
                |r| {
                    let bad = |second: &&tower_mesh::sim::SecondReport| {
                        second.errors * 100 > second.requests && second.requests > 0
                    };
                    let last = r.timeline.iter().rfind(bad)?;
                    (last.second + 1 < r.duration.as_secs())
                        .then(|| last.second.saturating_sub(29) as f64)
                },
                seconds,
                "123 s without retries and with gRPC's throttle, 150 s with 20 % of successes, 331 s with 20 % and 10 a \
                 second (Finagle); never with Linkerd's routes, Envoy's 20 % in flight, 20 % of requests",
            ),
            amplification(""),
        ],
        "herd" => vec![
            figure(
                "most probes in 100 ms",
                |r| most_probes(r).map(|count| count as f64),
                whole,
                "200 for each endpoint: Linkerd's first probes, by its jitter",
            ),
            figure(
                "error rate from 25 s on",
                |r| Some(r.error_rate_in(s(25)..s(60))),
                percent,
                "",
            ),
        ],
        "cold-start" => vec![
            figure(
                "its share, 20–30 s",
                |r| Some(r.share("cold", s(20)..s(30))),
                percent,
                "a tenth for round robin; Envoy ramps from 10 % of that",
            ),
            tail(""),
        ],
        "thawed" => vec![
            figure("errors, 50–60 s", |r| Some(errors(r, 50..60)), whole, ""),
            amplification(""),
        ],
        _ => vec![error_rate(""), second(""), tail(""), amplification("")],
    }
}

fn attempts(report: &Report, name: &str, range: std::ops::Range<u64>) -> f64 {
    let index = report.endpoints.iter().position(|e| e.name == name);
    let seconds = report.timeline.iter().filter(|t| range.contains(&t.second));
    let of = |counts: &Vec<u64>| counts.get(index?).copied();
    seconds.filter_map(|t| of(&t.attempts)).sum::<u64>() as f64
}

fn errors(report: &Report, range: std::ops::Range<u64>) -> f64 {
    let seconds = report.timeline.iter().filter(|t| range.contains(&t.second));
    seconds.map(|t| t.errors).sum::<u64>() as f64
}

fn cycle_errors(report: &Report, cycle: u64) -> f64 {
    errors(report, cycle * 20 + 10..cycle * 20 + 30)
}

// The most in any window of that length; none for those who do not probe.
fn most_probes(report: &Report) -> Option<usize> {
    let probes = report.events.iter().filter(|event| event.what == "probing");
    let times: Vec<Duration> = probes.map(|event| event.at).collect();
    let mut from = 0;
    let mut most = None;
    for (to, at) in times.iter().enumerate() {
        while times
            .get(from)
            .is_some_and(|first| *at - *first > Duration::from_millis(100))
        {
            from += 1;
        }
        most = most.max(Some(to + 1 - from));
    }
    most
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn show_millis(millis: f64) -> String {
    format!("{millis:.0} ms")
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn seconds(value: f64) -> String {
    format!("{value:.0} s")
}
