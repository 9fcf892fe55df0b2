use super::*;

const GOOD: &str = "\
seed: 3
duration: 5s
warmup: 1s
policy: |
  apiVersion: v1
  kind: Service
  metadata: { name: web, namespace: shop }
  spec:
    ports: [{ port: 80 }]
clients: 2
load:
  rate: [[0s, 10], [2s, 20]]
  arrivals: uniform
  give_up: 1s
  request: { method: POST, path: /quote?a=b, grpc: true, body_bytes: 3, headers: { x-a: b } }
endpoints:
  - name: good
    count: 3
    backend: web:80
    latency: { uniform: [20ms, 50ms] }
    fail: 0.01
  - name: bad
    latency: { lognormal: { p50: 20ms, p99: 200ms } }
    workers: 4
    drop_abandoned: yes
    join: 1s
    leave: 4s
    faults:
      - { from: 1s, to: 2s, fail: 0.5, status: 503, latency: { constant: 1ms } }
      - { slow: 10, hang: false, down: true, reset: 0.1, truncate: 0.1, pause: true }
      - { grpc_status: 14, retry_after: 5s }
";

fn without(line: &str) -> String {
    assert!(GOOD.contains(line));
    GOOD.replace(line, "")
}

fn with(line: &str, instead: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    GOOD.replace(line, instead)
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let scenario = Scenario::parse(GOOD).unwrap();
    assert_eq!(scenario.seed(), 3);
    assert_eq!(scenario.endpoints.len(), 4);
    assert_eq!(scenario.endpoints[3].1.faults[2].fail, 1.0);
    let report = scenario.run().unwrap();
    // Two clients, ten a second for one counted second and twenty for three; the same for the same seed.
    assert_eq!(report.requests, 2 * (10 + 60));
    assert_eq!(report.digest, scenario.run().unwrap().digest);
    assert_ne!(report.digest, scenario.with_seed(4).run().unwrap().digest);
}

type Mistake = (
    String,
    ScenarioErrorKind,
    Option<u32>,
    &'static str,
    &'static str,
);

/// A text, and what its error says: kind, line, key, and a part of the message.
#[rustfmt::skip]
fn mistakes() -> Vec<Mistake> {
    use ScenarioErrorKind::{Io, Key, Missing, Policy, Syntax, Value};
    const FAULTS: &str = "faults:\n      - { from: 1s, to: 2s, fail: 0.5, status: 503, latency: { constant: 1ms } }";
    const REQUEST: &str = "{ method: POST, path: /quote?a=b, grpc: true, body_bytes: 3, headers: { x-a: b } }";
    let fault = |text: &str| with(FAULTS, &format!("faults:\n      - {text}"));
    let latency = |text: &str| with("{ uniform: [20ms, 50ms] }", text);
    let rate = |text: &str| with("[[0s, 10], [2s, 20]]", text);
    let request = |text: &str| with(REQUEST, text);
    vec![
        // Not a scenario at all.
        ("a: [".into(), Syntax, Some(1), "", "not YAML"),
        (String::new(), Syntax, None, "", "expected one"),
        (format!("{GOOD}---\na: b\n"), Syntax, Some(33), "", "2 documents"),
        ("- a".into(), Value, Some(1), "", "expected a mapping with seed"),
        (format!("{GOOD}seed: 4\n"), Key, Some(32), "seed", "twice"),
        // Keys.
        (format!("{GOOD}sed: 4\n"), Key, Some(32), "sed", "did you mean seed?"),
        (with("  give_up", "  giveup"), Key, Some(14), "load.giveup", "did you mean give_up?"),
        (with("body_bytes", "bytes"), Key, Some(15), "load.request.bytes", "there are method"),
        (with("    count", "    number"), Key, Some(18), "endpoints[0].number", "there are name"),
        (with("slow: 10", "sloow: 10"), Key, Some(30), "endpoints[1].faults[1].sloow", "slow?"),
        (with("p50", "p51"), Key, Some(23), "endpoints[1].latency.lognormal.p51", "p50?"),
        // What is missing.
        (without("duration: 5s\n"), Missing, Some(1), "duration", "60s"),
        (without("    latency: { uniform: [20ms, 50ms] }\n"), Missing, Some(17), "endpoints[0].latency", "20ms"),
        (without("  rate: [[0s, 10], [2s, 20]]\n"), Missing, Some(12), "load.rate", "per second"),
        (without("p50: 20ms, "), Missing, Some(23), "endpoints[1].latency.lognormal.p50", "median"),
        (with("  - name: good\n    count", "  - count"), Missing, Some(17), "endpoints[0].name", "name"),
        (fault("{ from: 1s }"), Missing, Some(29), "endpoints[1].faults[0]", "nothing goes wrong"),
        // Values.
        (with("seed: 3", "seed: -3"), Value, Some(1), "seed", "whole number"),
        (with("seed: 3", "seed: x"), Value, Some(1), "seed", "whole number"),
        (with("duration: 5s", "duration: 5"), Value, Some(2), "duration", "write 5s"),
        (with("duration: 5s", "duration: 1h30m"), Value, Some(2), "duration", "unit"),
        (with("duration: 5s", "duration: 0s"), Value, Some(2), "duration", "a week"),
        (with("warmup: 1s", "warmup: 5s"), Value, Some(3), "warmup", "nothing is left"),
        (with("clients: 2", "clients: 0"), Value, Some(10), "clients", "from 1"),
        (with("clients: 2", "clients:"), Value, Some(10), "clients", "found nothing"),
        (rate("-1"), Value, Some(12), "load.rate", "per second"),
        (rate("[]"), Value, Some(12), "load.rate", "per second"),
        (rate("[[0s]]"), Value, Some(12), "load.rate[0]", "a time and a rate"),
        (rate("[[2s, 1], [1s, 1]]"), Value, Some(12), "load.rate", "must rise"),
        (rate(".nan"), Value, Some(12), "load.rate", "per second"),
        (with("uniform\n", "random\n"), Value, Some(13), "load.arrivals", "poisson or uniform"),
        (with("give_up: 1s", "give_up: 0s"), Value, Some(14), "load.give_up", "more than nothing"),
        (with("  give_up: 1s", "  concurrency: 3"), Value, Some(14), "load.concurrency", "not both"),
        (with("rate: [[0s, 10], [2s, 20]]", "concurrency: 1"), Value, Some(13), "load.arrivals", "closed loop"),
        (request("{ method: 'A B' }"), Value, Some(15), "load.request.method", "a method"),
        (request("{ path: quote }"), Value, Some(15), "load.request.path", "a path"),
        (request("{ grpc: 1 }"), Value, Some(15), "load.request.grpc", "true or false"),
        (request("{ body_bytes: 1e9 }"), Value, Some(15), "load.request.body_bytes", "whole"),
        (request("{ headers: { 'a b': c } }"), Value, Some(15), "load.request.headers.a b", "no name"),
        (request("{ headers: { a: 1 } }"), Value, Some(15), "load.request.headers.a", "quote it"),
        (request("{ grpc: false }"), Value, Some(31), "endpoints[1].faults[2].grpc_status", "grpc: true"),
        (latency("20"), Value, Some(20), "endpoints[0].latency", "write 20s"),
        (latency("{ uniform: [50ms, 20ms] }"), Value, Some(20), "endpoints[0].latency.uniform", "least"),
        (latency("{ uniform: 20ms }"), Value, Some(20), "endpoints[0].latency.uniform", "the most"),
        (latency("{ constant: 1ms, exponential: 1ms }"), Value, Some(20), "endpoints[0].latency", "one of"),
        (latency("{ quantiles: [[0.5, 1ms]] }"), Value, Some(20), "endpoints[0].latency.quantiles", "begin with 0"),
        (latency("{ quantiles: [[2, 1ms]] }"), Value, Some(20), "endpoints[0].latency.quantiles[0][0]", "0 to 1"),
        (latency("{ lognormal: { p50: 20ms, p99: 2ms } }"), Value, Some(20), "endpoints[0].latency.lognormal", "below"),
        (with("fail: 0.01", "fail: 1.5"), Value, Some(21), "endpoints[0].fail", "0 to 1"),
        (with("count: 3", "count: 0"), Value, Some(18), "endpoints[0].count", "from 1"),
        (with("name: bad", "name: good"), Value, Some(22), "endpoints[1].name", "already"),
        (with("name: bad", "name: 7"), Value, Some(22), "endpoints[1].name", "quote it"),
        (with("workers: 4", "workers: 0"), Value, Some(24), "endpoints[1].workers", "from 1"),
        (with("leave: 4s", "leave: 1s"), Value, Some(27), "endpoints[1].leave", "before it joins"),
        (fault("{ from: 2s, to: 1s, hang: true }"), Value, Some(29), "endpoints[1].faults[0].to", "before"),
        (fault("{ fail: -0.1 }"), Value, Some(29), "endpoints[1].faults[0].fail", "0 to 1"),
        (fault("{ status: 42 }"), Value, Some(29), "endpoints[1].faults[0].status", "200"),
        (fault("{ slow: 0 }"), Value, Some(29), "endpoints[1].faults[0].slow", "times"),
        (fault("{ hang: maybe }"), Value, Some(29), "endpoints[1].faults[0].hang", "true or false"),
        (fault("{ grpc_status: 17 }"), Value, Some(29), "endpoints[1].faults[0].grpc_status", "16"),
        (fault("{ retry_after: soon }"), Value, Some(29), "endpoints[1].faults[0].retry_after", "unit"),
        // Files and policy; a block's place is where its text begins.
        (with("policy: |", "policy: nowhere.yaml\ntarget: |"), Io, Some(4), "policy", "nowhere.yaml"),
        (with("kind: Service", "kind: Deployment"), Policy, Some(5), "policy", "no Service"),
        (with("[{ port: 80 }]", "[{ port: 80, name: a }, { port: 81, name: b }]"), Policy, Some(5), "policy", "target"),
        (with("name: web,", "name: [],"), Policy, Some(7), "policy", "metadata.name"),
        (format!("{GOOD}target: nobody.shop:80\n"), Policy, Some(32), "target", "nobody"),
        (with("backend: web:80", "backend: api:80"), Policy, Some(19), "endpoints[0].backend", "web:80"),
    ]
}

#[test]
fn every_mistake_names_line_and_key() {
    for (text, kind, line, key, part) in mistakes() {
        let error = Scenario::parse(&text).expect_err(part);
        let message = error.to_string();
        assert_eq!(error.kind(), kind, "{message}\n{text}");
        assert_eq!(error.key().unwrap_or_default(), key, "{message}");
        assert_eq!(error.line(), line, "{message}\n{text}");
        assert!(message.contains(part), "{message} does not say {part}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn an_inline_policy_names_the_line_of_the_scenario() {
    let text = with(
        "metadata: { name: web, namespace: shop }",
        "metadata: { name: web, namespace: shop, annotations: { timeout.linkerd.io/request: 1h30m } }",
    );
    let error = Scenario::parse(&text).unwrap_err();
    let message = error.to_string();
    assert_eq!(error.line(), Some(7), "{message}");
    assert!(
        message.contains("timeout.linkerd.io/request") && message.contains("90m"),
        "{message}"
    );
}

#[test]
fn no_text_makes_it_panic() {
    for end in 0..GOOD.len() {
        let _ = Scenario::parse(&GOOD[..end]);
        let (before, after) = GOOD.split_at(end);
        for put in [
            "-",
            "1e400",
            "~",
            "[",
            "}",
            "9999999999999999999s",
            "\u{0}",
            "&a *a",
            ": ",
        ] {
            let _ = Scenario::parse(&format!("{before}{put}{after}"));
        }
    }
}

#[test]
fn a_file_names_itself_and_finds_its_policy_beside_it() {
    let error = Scenario::from_path("nowhere/scenario.yaml").unwrap_err();
    assert_eq!(error.kind(), ScenarioErrorKind::Io);
    assert_eq!(error.file(), Some("nowhere/scenario.yaml"));
    assert!(std::error::Error::source(&error).is_some());
}
