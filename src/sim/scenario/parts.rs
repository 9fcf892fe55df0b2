//! The parts of a scenario, each from its field.

use std::path::Path;

use http::{HeaderName, HeaderValue, Method};

use super::error::{ScenarioError, ScenarioErrorKind as Kind};
use super::field::Field;
use crate::core::time::nanos;
use crate::sim::chance::Latency;
use crate::sim::load::Pattern;
use crate::sim::load::{Load, Open, Shape, at_once, per_second};
use crate::sim::server::{Fault, Server, healthy};
use crate::source::kubernetes::{self, Manifests};

pub(super) fn manifests(field: &Field<'_>, folder: &Path) -> Result<Manifests, ScenarioError> {
    let text = field.text("a manifest's path, or its text")?;
    let read = if text.contains('\n') {
        Manifests::parse(text)
    } else {
        Manifests::from_path(folder.join(text))
    };
    read.map_err(|error| policy_error(field, &error))
}

/// An error in a manifest that is a file of its own names that file and its line; one in the scenario, the scenario's.
pub(super) fn policy_error(field: &Field<'_>, error: &kubernetes::Error) -> ScenarioError {
    let kind = match error.kind() {
        kubernetes::ErrorKind::Io => Kind::Io,
        _ => Kind::Policy,
    };
    let diagnostic = error.diagnostic();
    let (None, Some(line)) = (&diagnostic.file, diagnostic.line) else {
        return field.error(kind, error.to_string());
    };
    let about = [&diagnostic.resource, &diagnostic.key];
    let mut message: String = about
        .into_iter()
        .flatten()
        .map(|part| format!("{part}: "))
        .collect();
    message.push_str(&diagnostic.message);
    let mut found = field.error(kind, message);
    // A block's place is where its text begins, with its indentation.
    let within = |first: Option<u32>, n: u32| Some(first?.saturating_add(n.saturating_sub(1)));
    found.line = within(found.line, line);
    found.column = within(found.column, diagnostic.column.unwrap_or(1));
    found.remedy.clone_from(&diagnostic.remedy);
    found
}

/// The target that is named, or the only one.
pub(super) fn target(
    manifests: &Manifests,
    field: Option<&Field<'_>>,
    policy: &Field<'_>,
) -> Result<String, ScenarioError> {
    if let Some(field) = field {
        let target = field.text("a target, such as payments.shop:8080")?;
        return match manifests.resolve(target) {
            Ok(_) => Ok(target.to_owned()),
            Err(error) => Err(policy_error(field, &error)),
        };
    }
    let targets: Vec<_> = manifests.targets().map(|t| t.to_string()).collect();
    match <[String; 1]>::try_from(targets) {
        Ok([only]) => Ok(only),
        Err(targets) if targets.is_empty() => {
            Err(policy.error(Kind::Policy, "the manifests have no Service with a port"))
        }
        Err(targets) => {
            let targets = targets.join(", ");
            Err(policy
                .error(Kind::Policy, format!("it has several targets: {targets}"))
                .remedy("say which with target"))
        }
    }
}

pub(super) fn load(field: &Field<'_>) -> Result<Load, ScenarioError> {
    field.map(&["rate", "arrivals", "concurrency", "give_up", "request"])?;
    let mut load = match (field.get("rate"), field.get("concurrency")) {
        (Some(rate), None) => {
            let uniform = match field.get("arrivals") {
                None => false,
                Some(arrivals) => match arrivals.text("poisson or uniform")? {
                    "poisson" => false,
                    "uniform" => true,
                    _ => return Err(arrivals.expected("poisson or uniform")),
                },
            };
            let steps = rates(&rate)?;
            let mut load = per_second(0);
            load.pattern = Pattern::Open(Open { steps, uniform });
            if let Some(why) = load.invalid() {
                return Err(rate.error(Kind::Value, why));
            }
            load
        }
        (None, Some(concurrency)) => {
            if let Some(arrivals) = field.get("arrivals") {
                let message =
                    "a closed loop has no arrivals: each caller asks when it was answered";
                return Err(arrivals.error(Kind::Value, message));
            }
            at_once(u32::try_from(concurrency.whole(1, 1_000_000)?).unwrap_or(u32::MAX))
        }
        (Some(_), Some(concurrency)) => {
            let message = "either rate (an open loop) or concurrency (a closed one), not both";
            return Err(concurrency.error(Kind::Value, message));
        }
        (None, None) => {
            return Err(field
                .error(
                    Kind::Missing,
                    "missing; expected requests per second and client",
                )
                .key_is(field.child("rate")));
        }
    };
    if let Some(give_up) = field.get("give_up") {
        load = load.give_up(positive(&give_up)?);
    }
    if let Some(request) = field.get("request") {
        load.shape = shape(&request)?;
    }
    Ok(load)
}

fn rates(field: &Field<'_>) -> Result<Vec<(u64, f64)>, ScenarioError> {
    let expected = "requests per second, or steps such as [[0s, 100], [30s, 400]]";
    let rate = |field: &Field<'_>| field.number(0.0, 1e7, expected);
    let Ok(steps) = field.list(expected) else {
        return Ok(vec![(0, rate(field)?)]);
    };
    let step = |field: &Field<'_>| {
        let [from, to] = field.pair("a time and a rate, such as [30s, 400]")?;
        Ok((nanos(from.duration()?), rate(&to)?))
    };
    let steps: Vec<_> = steps.iter().map(step).collect::<Result<_, _>>()?;
    if steps.is_empty() {
        return Err(field.expected(expected));
    }
    Ok(steps)
}

fn positive(field: &Field<'_>) -> Result<std::time::Duration, ScenarioError> {
    let duration = field.duration()?;
    if duration.is_zero() {
        return Err(field.expected("more than nothing"));
    }
    Ok(duration)
}

fn shape(field: &Field<'_>) -> Result<Shape, ScenarioError> {
    const MAX_BODY: u64 = 64 * 1024 * 1024;
    field.map(&["method", "path", "grpc", "body_bytes", "headers"])?;
    let mut shape = Shape::default();
    if let Some(method) = field.get("method") {
        let text = method.text("a method, such as GET")?;
        shape.method = Method::from_bytes(text.as_bytes())
            .map_err(|_| method.expected("a method, such as GET"))?;
    }
    if let Some(grpc) = field.get("grpc") {
        shape.grpc = grpc.flag()?;
    }
    if let Some(bytes) = field.get("body_bytes") {
        shape.body_bytes = usize::try_from(bytes.whole(0, MAX_BODY)?).unwrap_or(usize::MAX);
    }
    if let Some(headers) = field.get("headers") {
        let expected = "a mapping of header names to texts";
        let crate::source::kubernetes::yaml::Value::Map(entries) = &headers.node.value else {
            return Err(headers.expected(expected));
        };
        for entry in entries {
            let value = Field {
                node: &entry.value,
                path: headers.child(&entry.key),
                file: headers.file,
            };
            let name = HeaderName::from_bytes(entry.key.as_bytes())
                .map_err(|_| value.error(Kind::Value, "this is no name of a header"))?;
            let text = HeaderValue::from_str(value.text("a header's text")?)
                .map_err(|_| value.expected("text that a header can have"))?;
            shape.headers.append(name, text);
        }
    }
    if let Some(path) = field.get("path") {
        let text = path.text("a path, such as /quote")?;
        text.clone_into(&mut shape.path);
        let checked = text.starts_with('/').then(|| shape.template("sim.local"));
        if !matches!(checked, Some(Ok(_))) {
            return Err(path.expected("a path, such as /quote"));
        }
    }
    Ok(shape)
}

pub(super) fn endpoints(
    field: &Field<'_>,
    grpc: bool,
) -> Result<Vec<(String, Server)>, ScenarioError> {
    let mut endpoints: Vec<(String, Server)> = Vec::new();
    for item in field.list("a list of endpoints")? {
        item.map(&[
            "name",
            "count",
            "backend",
            "zone",
            "latency",
            "fail",
            "status",
            "workers",
            "drop_abandoned",
            "faults",
            "join",
            "leave",
        ])?;
        let at = item.require("name", "a name for the report")?;
        let name = at.text("a name for the report")?;
        if endpoints.iter().any(|(other, _)| other == name) {
            return Err(at
                .error(Kind::Value, format!("{name:?} stands there already"))
                .remedy("count makes several of one kind"));
        }
        let server = server(&item, grpc)?;
        let count = item
            .get("count")
            .map_or(Ok(1), |count| count.whole(1, 10_000))?;
        for _ in 0..count {
            endpoints.push((name.to_owned(), server.clone()));
        }
    }
    if endpoints.is_empty() {
        return Err(field.error(Kind::Value, "there are none, and nobody could answer"));
    }
    Ok(endpoints)
}

fn server(item: &Field<'_>, grpc: bool) -> Result<Server, ScenarioError> {
    let at = item.require("latency", "how long it takes, such as 20ms")?;
    let mut server = healthy(latency(&at)?);
    if let Some(backend) = item.get("backend") {
        server = server.of(backend.text("a backend, such as web:80")?);
    }
    if let Some(zone) = item.get("zone") {
        server = server.in_zone(zone.text("a zone, such as eu-1a")?);
    }
    if let Some(workers) = item.get("workers") {
        let workers = workers.whole(1, u32::MAX.into())?;
        server = server.workers(u32::try_from(workers).unwrap_or(u32::MAX));
    }
    if let Some(flag) = item.get("drop_abandoned") {
        server.drop_abandoned = flag.flag()?;
    }
    if let Some(join) = item.get("join") {
        server = server.joins(join.duration()?);
    }
    if let Some(leave) = item.get("leave") {
        server = server.leaves(leave.duration()?);
        if server.leave <= server.join {
            return Err(leave.error(Kind::Value, "it leaves before it joins"));
        }
    }
    if let Some(faults) = item.get("faults") {
        for one in faults.list("a list of faults")? {
            server.faults.push(fault(&one, grpc)?);
        }
    }
    // After the faults, which come first.
    let mut ambient = Fault::default();
    if let Some(part) = item.get("fail") {
        ambient.fail = part.part()?;
    }
    if let Some(status) = item.get("status") {
        ambient.status = status_code(&status)?;
    }
    server.faults.push(ambient);
    Ok(server)
}

fn status_code(field: &Field<'_>) -> Result<u16, ScenarioError> {
    Ok(u16::try_from(field.whole(200, 599)?).unwrap_or(503))
}

fn fault(field: &Field<'_>, grpc: bool) -> Result<Fault, ScenarioError> {
    const WHAT: [&str; 11] = [
        "fail",
        "status",
        "grpc_status",
        "retry_after",
        "latency",
        "slow",
        "hang",
        "down",
        "reset",
        "truncate",
        "pause",
    ];
    let mut known = vec!["from", "to"];
    known.extend(WHAT);
    field.map(&known)?;
    if WHAT.iter().all(|key| field.get(key).is_none()) {
        let message = format!("nothing goes wrong; expected one of {}", WHAT.join(", "));
        return Err(field.error(Kind::Missing, message));
    }
    let mut fault = Fault::default();
    let part = |key| field.get(key).map_or(Ok(0.0), |field| field.part());
    let flag = |key| field.get(key).map_or(Ok(false), |field| field.flag());
    (fault.fail, fault.reset, fault.truncate) = (part("fail")?, part("reset")?, part("truncate")?);
    (fault.hang, fault.down, fault.pause) = (flag("hang")?, flag("down")?, flag("pause")?);
    if let Some(from) = field.get("from") {
        fault.from = nanos(from.duration()?);
    }
    if let Some(to) = field.get("to") {
        fault.to = nanos(to.duration()?);
        if fault.to <= fault.from {
            return Err(to.error(Kind::Value, "it ends before it begins"));
        }
    }
    if let Some(slow) = field.get("slow") {
        fault.slow = slow.number(1e-6, 1e9, "how many times as slow, such as 10")?;
    }
    if let Some(at) = field.get("latency") {
        fault.latency = Some(latency(&at)?);
    }
    if let Some(wait) = field.get("retry_after") {
        fault.retry_after = Some(wait.duration()?);
    }
    if let Some(status) = field.get("status") {
        fault.status = status_code(&status)?;
    }
    if let Some(status) = field.get("grpc_status") {
        fault.grpc_status = u16::try_from(status.whole(1, 16)?).unwrap_or(14);
        if !grpc {
            return Err(status
                .error(Kind::Value, "requests are not gRPC")
                .remedy("add grpc: true to load.request"));
        }
    }
    let failures = ["status", "grpc_status", "retry_after"];
    if field.get("fail").is_none() && failures.iter().any(|key| field.get(key).is_some()) {
        fault.fail = 1.0;
    }
    Ok(fault)
}

fn latency(field: &Field<'_>) -> Result<Latency, ScenarioError> {
    use crate::source::kubernetes::yaml::Value;
    if !matches!(field.node.value, Value::Map(_)) {
        return Ok(field.duration()?.into());
    }
    let kinds = [
        "constant",
        "uniform",
        "exponential",
        "lognormal",
        "quantiles",
    ];
    let entries = field.map(&kinds)?;
    let ([entry], Some(value)) = (entries, entries.first().and_then(|e| field.get(&e.key))) else {
        let message = format!("expected one of {}", kinds.join(", "));
        return Err(field.error(Kind::Value, message));
    };
    let latency = match entry.key.as_str() {
        "constant" => value.duration()?.into(),
        "exponential" => Latency::exponential(value.duration()?),
        "uniform" => {
            let [least, most] = value.pair("the least and the most, such as [20ms, 50ms]")?;
            Latency::uniform(least.duration()?, most.duration()?)
        }
        "lognormal" => {
            value.map(&["p50", "p99"])?;
            let p50 = value.require("p50", "the median")?.duration()?;
            let p99 = value.require("p99", "the 99th percentile")?.duration()?;
            Latency::lognormal(p50, p99)
        }
        _ => {
            let mut points = Vec::new();
            for point in value.list("pairs such as [0.5, 20ms]")? {
                let [quantile, time] = point.pair("a quantile and its time, as [0.5, 20ms]")?;
                points.push((quantile.part()?, time.duration()?));
            }
            Latency::quantiles(points)
        }
    };
    match latency.invalid() {
        Some(why) => Err(value.error(Kind::Value, why)),
        None => Ok(latency),
    }
}

/// The zones of the clients.
pub(super) fn zones(at: &Field<'_>) -> Result<Vec<String>, ScenarioError> {
    let zones = at.list("a list of zones")?;
    let text = |zone: &Field<'_>| Ok(zone.text("a zone, such as eu-1a")?.to_owned());
    zones.iter().map(text).collect()
}
