//! The simulator as its users use it.
#![cfg(feature = "sim")]

use tower_mesh::sim::{World, healthy, ms, per_second, s};

#[test]
fn one_bad_pod_costs_less_than_one_percent() {
    let report = World::seeded(7)
        .policy(include_str!(
            "../examples/scenarios/policy/success-rate.yaml"
        ))
        .endpoint("a", healthy(ms(20)))
        .endpoint("b", healthy(ms(20)))
        .endpoint("c", healthy(ms(20)).fails(0.5).between(s(10), s(40)))
        .load(per_second(200))
        .run_for(s(60));
    assert!(report.error_rate() < 0.01, "{report}");
    assert!(report.share("c", s(12)..s(40)) < 0.03, "{report}");
}
