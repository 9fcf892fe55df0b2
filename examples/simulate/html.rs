use tower_mesh::sim::{Report, Scenario};

use crate::Failure;
use crate::against::Peer;

pub fn page(_: &str, _: &Scenario, _: &Report, _: &[(Peer, Report)]) -> Result<String, Failure> {
    Err("not yet".into())
}
