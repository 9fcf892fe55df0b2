//! What will this policy do to my traffic? Runs a scenario in virtual time and says what happened.
//!
//! ```sh
//! cargo run --release --example simulate -- examples/scenarios/gray-failure.yaml
//! cargo run --release --example simulate -- examples/scenarios/gray-failure.yaml --html /tmp/gray.html
//! cargo run --release --example simulate -- examples/scenarios/slow.yaml --against round-robin,tower
//! ```

mod against;
mod args;
mod html;
mod seeds;
mod table;
mod text;

use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tower_mesh::sim::{Report, Scenario, World};

use self::against::Peer;
use self::args::{Args, USAGE};

/// Whatever ends the program.
pub type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) if why.is_empty() => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads along has seen enough.
        Err(error) if is_closed_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(args: &Args) -> Result<(), Failure> {
    if args.table {
        return table::print(&args.scenarios);
    }
    if args.digests {
        for path in &args.scenarios {
            println!(
                "{} {}",
                Scenario::from_path(path)?.run()?.digest,
                path.display()
            );
        }
        return Ok(());
    }
    for path in &args.scenarios {
        let mut scenario = Scenario::from_path(path)?;
        if let Some(seed) = args.seed {
            scenario = scenario.with_seed(seed);
        }
        one(args, path, &scenario)?;
    }
    Ok(())
}

fn one(args: &Args, path: &Path, scenario: &Scenario) -> Result<(), Failure> {
    let mut reports = Vec::new();
    for n in 0..args.seeds.unwrap_or(1) {
        let scenario = scenario.clone().with_seed(scenario.seed().wrapping_add(n));
        reports.push(with_progress(scenario.world(), scenario.duration())?);
    }
    let mut peers = Vec::new();
    for peer in &args.against {
        peers.push((
            *peer,
            with_progress(peer.world(scenario), scenario.duration())?,
        ));
    }
    let Some(report) = reports.first() else {
        return Ok(());
    };
    if let Some(file) = &args.html {
        let name = path
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned());
        let page = html::page(&name.unwrap_or_default(), scenario, report, &peers)?;
        std::fs::write(file, page)?;
        eprintln!("{} is written", file.display());
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        let json = match args.seeds {
            Some(_) => seeds::json(&reports, scenario.seed()),
            None => report.to_json(),
        };
        writeln!(out, "{}", with_peers(json, &peers))?;
        return Ok(());
    }
    writeln!(out, "{} (seed {})", path.display(), scenario.seed())?;
    match args.seeds {
        Some(_) => seeds::print(&mut out, &reports)?,
        None => text::print(&mut out, report)?,
    }
    if !peers.is_empty() {
        writeln!(out)?;
        text::side_by_side(&mut out, report, &peers)?;
    }
    Ok(())
}

/// Runs it, and says how far it is where somebody looks.
pub fn with_progress(world: World, duration: Duration) -> Result<Report, Failure> {
    if !std::io::stderr().is_terminal() {
        return Ok(world.try_run_for(duration)?);
    }
    let all = duration.as_secs();
    let world = world.progress(move |now, requests| {
        eprint!("\r{} of {all} s, {requests} requests\x1b[K", now.as_secs());
    });
    let report = world.try_run_for(duration);
    eprint!("\r\x1b[K");
    Ok(report?)
}

// The peers' reports in the same object.
fn with_peers(json: String, peers: &[(Peer, Report)]) -> String {
    let Some(open) = json.strip_suffix('}').filter(|_| !peers.is_empty()) else {
        return json;
    };
    let peers: Vec<_> = peers
        .iter()
        .map(|(peer, report)| format!("\"{peer}\":{}", report.to_json()))
        .collect();
    format!("{open},\"against\":{{{}}}}}", peers.join(","))
}
