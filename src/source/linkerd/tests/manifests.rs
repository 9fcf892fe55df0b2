//! What manifests resolve to in [`Fidelity::Mesh`] is what the mesh's control plane would send: a message can carry it.

use std::fs;
use std::path::Path;

use super::super::{Problem, read, write};
use crate::policy::Fidelity;
use crate::source::kubernetes::Manifests;

#[test]
fn what_the_mesh_reads_can_be_written() {
    // In a published package there is no corpus.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/manifests");
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let (mut policies, mut profiles) = (0, 0);
    for entry in entries {
        let text = fs::read(entry.unwrap().path()).unwrap();
        let Ok(manifests) = Manifests::parse(&String::from_utf8_lossy(&text)) else {
            continue;
        };
        let manifests = manifests.fidelity(Fidelity::Mesh).client_namespace("shop");
        let mut targets: Vec<String> = manifests
            .targets()
            .take(8)
            .map(|it| it.to_string())
            .collect();
        targets.push("203.0.113.7:443".to_owned());
        for target in targets {
            let Ok(policy) = manifests.resolve(&target) else {
                continue;
            };
            policies += 1;
            let written = write(&policy);
            let lost: Vec<_> = written
                .problems
                .iter()
                .filter(|it| it.path != "fidelity")
                .collect();
            if !lost.is_empty() {
                // A ServiceProfile comes in another message, with profiles and a name for each route.
                let profile = |it: &&Problem| {
                    it.path.ends_with(".retry.budget")
                        || it.path.ends_with(".path.condition")
                        || it.path.ends_with(".classes")
                        || it.message.starts_with("serviceprofile.")
                };
                assert!(lost.iter().all(profile), "{lost:?}");
                profiles += 1;
                continue;
            }
            let back = read(written.message);
            assert_eq!(
                back.problems,
                [],
                "{target} of\n{}",
                String::from_utf8_lossy(&text)
            );
            assert_eq!(back.policy.with_fidelity(Fidelity::Mesh), policy);
        }
    }
    assert!(
        policies > 100 && profiles < policies / 4,
        "{policies} policies, {profiles} of profiles"
    );
}
