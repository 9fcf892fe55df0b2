//! Requests stay in their caller's zone, as far as it can carry them: simulated.

use tower_mesh::policy::{FailureAccrual, Ratio};
use tower_mesh::sim::{Report, Scenario, World, healthy, ms, per_second, s};

// Three zones with as many clients each, and as many endpoints as these.
fn scenario(own: &str, counts: [u32; 3], faults: &str) -> Scenario {
    let endpoints: String = ["a", "b", "c"]
        .iter()
        .zip(counts)
        .flat_map(|(zone, count)| (0..count).map(move |n| (*zone, n)))
        .map(|(zone, n)| {
            let faults = if zone == "a" && n >= 5 { faults } else { "" };
            format!("  - {{ name: {zone}{n}, zone: {zone}, latency: {{ uniform: [20ms, 50ms] }}{faults} }}\n")
        })
        .collect();
    let text = format!(
        "duration: 60s
policy: |
  kind: Service
  apiVersion: v1
  metadata:
    name: web
    namespace: shop
    annotations:
      {own}
      balancer.linkerd.io/failure-accrual: consecutive
      balancer.linkerd.io/failure-accrual-consecutive-max-failures: '3'
  spec:
    ports: [{{ port: 80 }}]
clients: 3
zones: [a, b, c]
load: {{ rate: 200 }}
endpoints:
{endpoints}"
    );
    Scenario::parse(&text).unwrap()
}

const PREFER: &str = "tower-mesh/prefer-zone: 'true'";

// What part of all requests each zone's endpoints got, from that second on.
fn shares(report: &Report, counts: [u32; 3], from: u64) -> [f64; 3] {
    let mut zones = ["a", "b", "c"].iter().zip(counts);
    [(); 3].map(|()| {
        let (zone, count) = zones.next().unwrap();
        (0..count)
            .map(|n| report.share(&format!("{zone}{n}"), s(from)..s(60)))
            .sum()
    })
}

// What the clients of zone `a` alone send there.
fn stay_in_a(faults: &str) -> f64 {
    let counts = [10, 10, 10];
    let mut world = scenario(PREFER, counts, faults).world();
    world = world.clients(1);
    let report = world.run_for(s(60));
    shares(&report, counts, 30)[0]
}

#[test]
fn all_stay_while_all_can_serve_and_the_surplus_goes_elsewhere() {
    assert!(stay_in_a("") >= 0.99);
    // Half of them fail for good, and are ejected: 5 of 25, times three zones, times 1.4.
    let part = stay_in_a(", faults: [{ from: 5s, fail: 1 }]");
    assert!((part - 0.84).abs() < 0.03, "{part}");
    // Nobody asked for it.
    let counts = [10, 10, 10];
    let report = scenario("a: b", counts, "")
        .world()
        .clients(1)
        .run_for(s(60));
    let part = shares(&report, counts, 30)[0];
    assert!((part - 1.0 / 3.0).abs() < 0.05, "{part}");
}

#[test]
fn a_small_zone_is_not_overloaded_by_its_own() {
    let counts = [1, 9, 10];
    let report = scenario(PREFER, counts, "").run().unwrap();
    let shares = shares(&report, counts, 1);
    // Its clients are a third of all, and its endpoint gets 1.4 times a twentieth, beside what comes from elsewhere.
    assert!(shares[0] <= 1.4 / 20.0 * 1.15, "{shares:?}");
    assert!(shares[0] >= 1.0 / 20.0, "{shares:?}");
}

#[test]
fn a_zone_that_is_gone_is_replaced_by_the_others() {
    use tower_mesh::policy::{ClientPolicy, Load, PreferZone};
    let policy = ClientPolicy::http()
        .load(Load::default().prefer_zone(PreferZone::DEFAULT.overprovision(Ratio::percent(120))))
        .failure_accrual(FailureAccrual::consecutive(3))
        .build()
        .unwrap();
    let mut world = World::seeded(3)
        .policy(policy)
        .zones(["a"])
        .load(per_second(200));
    for n in 0..6 {
        let zone = if n < 3 { "a" } else { "b" };
        let mut server = healthy(ms(20)).in_zone(zone);
        if zone == "a" {
            server = server.fails(1.0).between(s(10), s(60)).leaves(s(40));
        }
        world = world.endpoint(format!("{zone}{n}"), server);
    }
    let report = world.run_for(s(60));
    let of = |zone: &str, from: u64, to: u64| {
        let first = if zone == "a" { 0 } else { 3 };
        let one = |n| report.share(&format!("{zone}{n}"), s(from)..s(to));
        (first..first + 3).map(one).sum::<f64>()
    };
    assert!(of("a", 1, 10) >= 0.99, "{}", of("a", 1, 10));
    // Probes.
    assert!(of("a", 12, 40) <= 0.02, "{}", of("a", 12, 40));
    assert!(of("b", 12, 40) >= 0.98, "{}", of("b", 12, 40));
    assert_eq!(of("a", 41, 60), 0.0);
    assert!(of("b", 41, 60) >= 0.999, "{}", of("b", 41, 60));
    // It serves them: what still fails are the probes.
    assert!(report.error_rate_in(s(1)..s(10)) == 0.0 && report.error_rate_in(s(41)..s(60)) == 0.0);
    let errors = report.error_rate_in(s(12)..s(40));
    assert!(errors <= 0.02, "{errors}");
}
