use std::path::PathBuf;

use crate::against::Peer;

pub const USAGE: &str = "\
usage: simulate SCENARIO.yaml [--seed N] [--seeds K] [--against round-robin,tower] [--json] [--html FILE]
       simulate --table SCENARIO.yaml...      all of them as a Markdown table, beside their peers
       simulate --digests SCENARIO.yaml...    one line for each: digest and file

  --seed N      another seed than the scenario's
  --seeds K     K runs, the first with the scenario's seed: minimum, median and maximum of every figure
  --against P   the same over plain round robin, and over tower's Balance, PeakEwma, Retry and TpsBudget
  --json        one object on standard output, and nothing else
  --html FILE   one self-contained page with plots";

#[derive(Debug, Default)]
pub struct Args {
    pub scenarios: Vec<PathBuf>,
    pub seed: Option<u64>,
    pub seeds: Option<u64>,
    pub against: Vec<Peer>,
    pub json: bool,
    pub html: Option<PathBuf>,
    pub table: bool,
    pub digests: bool,
}

impl Args {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--seed" => args.seed = Some(number(&word, &value()?)?),
                "--seeds" => {
                    let seeds = number(&word, &value()?)?;
                    if !(1..=10_000).contains(&seeds) {
                        return Err("--seeds is from 1 to 10000".into());
                    }
                    args.seeds = Some(seeds);
                }
                "--against" => {
                    for name in value()?.split(',') {
                        args.against.push(name.parse()?);
                    }
                }
                "--json" => args.json = true,
                "--html" => args.html = Some(value()?.into()),
                "--table" => args.table = true,
                "--digests" => args.digests = true,
                "--help" | "-h" => return Err(String::new()),
                flag if flag.starts_with('-') => return Err(format!("there is no {flag}")),
                path => args.scenarios.push(path.into()),
            }
        }
        match args.scenarios.len() {
            0 => Err("which scenario?".into()),
            1 => Ok(args),
            _ if args.table || args.digests => Ok(args),
            _ => Err("one scenario at a time".into()),
        }
    }
}

fn number(flag: &str, text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{flag} needs a whole number, not {text:?}"))
}
