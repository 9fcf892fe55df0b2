//! The command line.

use std::time::Duration;

use lexopt::prelude::*;

pub const USAGE: &str = "\
Usage: cargo run --example demo -- [--seconds N] [--seed N] [--json]

  --seconds N   how long it runs, 3 to 3600; a third of it is bad (default 24)
  --seed N      what all chance is drawn from (default 1)
  --json        one JSON object instead of the table
  --help        this
";

pub enum Asked {
    Run(Args),
    Help,
}

pub struct Args {
    pub length: Duration,
    pub seed: u64,
    pub json: bool,
}

pub fn parse() -> Result<Asked, lexopt::Error> {
    parse_from(lexopt::Parser::from_env())
}

fn parse_from(mut parser: lexopt::Parser) -> Result<Asked, lexopt::Error> {
    let mut args = Args {
        length: Duration::from_secs(24),
        seed: 1,
        json: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("seconds") => {
                let seconds: u64 = parser.value()?.parse()?;
                if !(3..=3600).contains(&seconds) {
                    return Err(format!("--seconds {seconds}: expected 3 to 3600").into());
                }
                args.length = Duration::from_secs(seconds);
            }
            Long("seed") => args.seed = parser.value()?.parse()?,
            Long("json") => args.json = true,
            Short('h') | Long("help") => return Ok(Asked::Help),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Asked::Run(args))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Asked, String> {
        parse_from(lexopt::Parser::from_args(arguments)).map_err(|error| error.to_string())
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |arguments: &[&str]| parsed(arguments).err().unwrap_or_default();
        assert_eq!(error(&["--sed", "1"]), "invalid option '--sed'");
        assert!(error(&["--seed"]).contains("--seed"));
        assert!(error(&["--seed", "x"]).contains("x"));
        assert!(error(&["--seconds", "2"]).contains("3 to 3600"));
        assert!(error(&["twice"]).contains("twice"));
        assert!(matches!(parsed(&["--help"]), Ok(Asked::Help)));
        assert!(
            matches!(parsed(&["--seed=7", "--json"]), Ok(Asked::Run(a)) if a.seed == 7 && a.json)
        );
    }
}
