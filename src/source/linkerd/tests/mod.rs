//! Policies there and back; every rule of validity with its field; what a message does not say.

mod carried;
mod lost;
#[cfg(feature = "kubernetes")]
mod manifests;
mod rules;
mod strategy;

use super::{Effect, Problem, Read, api, write};
use crate::policy::ClientPolicy;

/// There and back, with nothing to say about it.
#[track_caller]
fn comes_back(policy: &ClientPolicy) {
    let written = write(policy);
    assert_eq!(written.problems, [], "{policy:?}");
    let bytes = written.to_bytes();
    let back = Read::from_bytes(&bytes).unwrap();
    assert_eq!(back.problems, [], "{policy:?}");
    assert_eq!(&back.policy, policy);
}

fn paths(problems: &[Problem]) -> Vec<(&str, Effect)> {
    problems
        .iter()
        .map(|problem| (problem.path.as_str(), problem.effect))
        .collect()
}
