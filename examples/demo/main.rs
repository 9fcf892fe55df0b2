//! What a manifest is worth, on real sockets: a plain hyper client and a tower-mesh client through the same bad day.
//!
//! ```sh
//! cargo run --example demo
//! ```
//!
//! Each client has four hyper servers of its own on loopback ports. In the middle third of the run one of them fails
//! half of its requests and another is ten times slower. Nothing is scripted in the clients: the plain one goes round
//! its endpoints, the other does what `examples/manifests/payments.yaml` says.

mod args;
mod clients;
mod load;
mod progress;
mod report;
mod script;
mod servers;
mod table;
mod timeline;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;
use tower_mesh::BoxError;

use crate::args::{Args, Asked};
use crate::clients::{Mesh, Plain};
use crate::load::Tally;
use crate::report::{Measured, Report};
use crate::script::Script;
use crate::servers::Servers;
use crate::table::Table;
use crate::timeline::Recorder;

#[tokio::main]
async fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(Asked::Run(args)) => args,
        Ok(Asked::Help) => {
            print!("{}", args::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    if let Err(error) = run(&args).await {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run(args: &Args) -> Result<(), BoxError> {
    let report = measure(args).await?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", report.to_json())?;
    } else {
        write!(out, "{}", Table(&report))?;
    }
    Ok(())
}

async fn measure(args: &Args) -> Result<Report, BoxError> {
    let script = Script {
        start: Instant::now() + Duration::from_millis(100),
        length: args.length,
        seed: args.seed,
    };

    let plain_servers = Servers::start(script).await?;
    let mesh_servers = Servers::start(script).await?;
    let recorder = Recorder::default();
    let plain = Plain::new(&plain_servers);
    let mesh = Mesh::new(&mesh_servers, args.seed, recorder.observer())?;

    let arrivals = script.arrivals();
    let (plain_tally, mesh_tally) = (Tally::default(), Tally::default());
    let both = async {
        tokio::try_join!(
            load::run(script, &arrivals, &plain_tally, plain),
            load::run(script, &arrivals, &mesh_tally, mesh),
        )
    };
    let bar = progress::bar(script, &plain_tally, &mesh_tally);
    let (plain_samples, mesh_samples) = tokio::select! {
        samples = both => samples?,
        never = bar => match never {},
    };

    Ok(Report {
        script,
        plain: Measured::new(script, &plain_samples, plain_servers.served()),
        mesh: Measured::new(script, &mesh_samples, mesh_servers.served()),
        ejections: recorder.timeline(script.start, |address| mesh_servers.name_of(address)),
    })
}
