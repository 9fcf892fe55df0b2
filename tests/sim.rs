//! The simulator as its users use it.
#![cfg(feature = "sim")]

use tower_mesh::sim::{Scenario, World, healthy, ms, per_second, s};

#[test]
fn one_bad_pod_costs_less_than_one_percent() {
    let report = World::seeded(7)
        .policy(include_str!("../examples/manifests/payments.yaml"))
        .endpoint("a", healthy(ms(20)))
        .endpoint("b", healthy(ms(20)))
        .endpoint("c", healthy(ms(20)).fails(0.5).between(s(10), s(40)))
        .load(per_second(200))
        .run_for(s(60));
    assert!(report.error_rate() < 0.01, "{report}");
    assert!(report.share("c", s(12)..s(40)) < 0.02, "{report}");
}

/// `.ci/run` does the same in a release build.
#[test]
fn scenarios_have_the_digests_that_are_committed() {
    let file = include_str!("../examples/scenarios/digests.txt");
    assert!(file.lines().count() >= 3);
    for line in file.lines() {
        let (committed, path) = line.split_once(' ').unwrap();
        let report = Scenario::from_path(path).unwrap().run().unwrap();
        assert_eq!(
            report.digest, committed,
            "{path}: the client decides otherwise than before. If it is meant to: `.ci/digests`"
        );
    }
}

/// Every file of the library is one, and says what is asked.
#[test]
fn every_scenario_of_the_library_can_be_read() {
    let mut count = 0;
    for entry in std::fs::read_dir("examples/scenarios").unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            Scenario::from_path(&path).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(
                text.contains("# Asked: ") && text.contains("Good: "),
                "{path:?}"
            );
            count += 1;
        }
    }
    assert!(count >= 14, "{count}");
}
