//! The library of scenarios in `examples/scenarios/`.
#![cfg(feature = "sim")]

use tower_mesh::sim::Scenario;

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
