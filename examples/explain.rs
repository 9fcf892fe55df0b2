//! What will these manifests do? At the prompt, and in CI.
//!
//! ```text
//! cargo run --example explain -- deploy/ --to payments.shop:8080 --request "GET /quote"
//! ```
//!
//! Prints the policy, the rule that a request meets, and every diagnostic with its line underlined. Exit status 1 where
//! something is not valid, 2 for wrong arguments.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use tower_mesh::policy::Fidelity;
use tower_mesh::source::kubernetes::{Explanation, Manifests};

const USAGE: &str = "\
usage: explain PATH... --to NAME.NAMESPACE:PORT [--from NAMESPACE] [--request \"GET /path\"] [--header name=value]...
               [--mesh] [--strict] [--json]

  PATH          files and folders of Kubernetes manifests
  --to TARGET   a Service's port, or an address outside the cluster (203.0.113.7:443)
  --from NS     the client's namespace; without it, the target's
  --request R   a method and a path: which rule does it meet?
  --header H    a header of that request
  --mesh        as the mesh decides, without what this crate honours beyond it
  --strict      warnings are errors
  --json        one object on standard output, and nothing else";

#[derive(Default)]
struct Args {
    paths: Vec<PathBuf>,
    to: String,
    from: Option<String>,
    request: Option<(Method, Uri)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    mesh: bool,
    strict: bool,
    json: bool,
}

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            if !error.is_empty() {
                eprintln!("{error}\n");
            }
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let explanation = explain(&args);
    if args.json {
        println!("{}", explanation.to_json());
    } else {
        let mut texts = BTreeMap::new();
        let text = explanation.to_text(|file| {
            let text = texts
                .entry(file.to_owned())
                .or_insert_with(|| fs::read_to_string(file).ok());
            text.clone()
        });
        print!("{text}");
    }
    ExitCode::from(u8::from(explanation.has_errors()))
}

fn explain(args: &Args) -> Explanation {
    let mut manifests = match Manifests::from_paths(&args.paths) {
        Ok(manifests) => manifests,
        Err(error) => return Explanation::of_error(&args.to, &error),
    };
    if args.mesh {
        manifests = manifests.fidelity(Fidelity::Mesh);
    }
    if args.strict {
        manifests = manifests.strict();
    }
    if let Some(from) = &args.from {
        manifests = manifests.client_namespace(from);
    }
    let explanation = manifests.explain(&args.to);
    let Some((method, uri)) = &args.request else {
        return explanation;
    };
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.clone();
    request.headers_mut().extend(args.headers.iter().cloned());
    explanation.request(&request)
}

// === impl Args ===

impl Args {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--to" => args.to = value()?,
                "--from" => args.from = Some(value()?),
                "--request" => args.request = Some(request(&value()?)?),
                "--header" => args.headers.push(header(&value()?)?),
                "--mesh" => args.mesh = true,
                "--strict" => args.strict = true,
                "--json" => args.json = true,
                "--help" | "-h" => return Err(String::new()),
                flag if flag.starts_with("--") => return Err(format!("there is no {flag}")),
                path => args.paths.push(path.into()),
            }
        }
        if args.paths.is_empty() {
            return Err("which files or folders?".to_owned());
        }
        if args.to.is_empty() {
            return Err("for which target? (--to payments.shop:8080)".to_owned());
        }
        Ok(args)
    }
}

fn request(text: &str) -> Result<(Method, Uri), String> {
    let refuse =
        || format!("found --request {text:?}, expected a method and a path: \"GET /quote\"");
    let (method, uri) = text.trim().split_once(' ').ok_or_else(refuse)?;
    let method = method.to_ascii_uppercase().parse().map_err(|_| refuse())?;
    let uri: Uri = uri.trim().parse().map_err(|_| refuse())?;
    if uri.path().is_empty() {
        return Err(refuse());
    }
    Ok((method, uri))
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let refuse = || format!("found --header {text:?}, expected name=value");
    let (name, value) = text.split_once('=').ok_or_else(refuse)?;
    Ok((
        name.trim().parse().map_err(|_| refuse())?,
        value.parse().map_err(|_| refuse())?,
    ))
}
