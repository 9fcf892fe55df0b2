//! The simulator as its users use it.
#![cfg(feature = "sim")]

use tower_mesh::policy::{ClientPolicy, Retry};
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
    assert!(report.share("c", s(12)..s(40)) < 0.02, "{report}");
}

/// Half of all pairs have one of the two in it, and one pair has both: where the one that fails is no choice, the slow one
/// is not taken for want of another.
#[test]
fn a_slow_pod_gains_nothing_by_one_that_fails() {
    let policy = ClientPolicy::http()
        .retry(Retry::on(500..=599).limit(2))
        .build()
        .unwrap();
    let report = World::seeded(5)
        .policy(policy)
        .endpoint("a", healthy(ms(30)))
        .endpoint("b", healthy(ms(30)).fails(0.5).between(s(8), s(16)))
        .endpoint("c", healthy(ms(30)).slow(10.0).between(s(8), s(16)))
        .endpoint("d", healthy(ms(30)))
        .load(per_second(200))
        .run_for(s(24));
    assert_eq!(report.error_rate(), 0.0, "{report}");
    assert!(report.share("c", s(9)..s(16)) < 0.03, "{report}");
    assert!(report.share("b", s(9)..s(16)) < 0.03, "{report}");
}
