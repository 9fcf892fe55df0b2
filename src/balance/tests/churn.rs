//! Joins, leaves, ejections and picks in any order, beside a model that is too simple to be wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::*;
use crate::breaker::Gate;

#[derive(Clone, Debug)]
enum Step {
    Reset(Vec<u32>),
    Add(Vec<u32>),
    Remove(Vec<u32>),
    // An endpoint is answered for: well or not.
    Fail(u32),
    Pick,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || proptest::collection::vec(0u32..200, 0..80);
    let step = prop_oneof![
        1 => some().prop_map(Step::Reset),
        3 => some().prop_map(Step::Add),
        3 => some().prop_map(Step::Remove),
        6 => (0u32..200).prop_map(Step::Fail),
        8 => Just(Step::Pick),
        1 => (0u64..3000).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..60)
}

fn address(n: u32) -> SocketAddr {
    endpoint(n).address()
}

// Members with whether they are ejected, as far as a model needs to know.
fn check(set: &Set<()>, model: &BTreeMap<SocketAddr, ()>) {
    let members = set.members();
    assert_eq!(members.count(), model.len());
    assert_eq!(members.iter().count(), model.len());
    let mut found: Vec<_> = members.iter().map(|m| m.cell.address()).collect();
    found.sort();
    assert!(found.iter().eq(model.keys()));
    for (place, member) in members.iter().enumerate() {
        let by_place = members.get(place).map(|m| m.cell.address());
        assert_eq!(by_place, Some(member.cell.address()));
        assert!(set.has(member.cell.address()));
        assert_eq!(member.site.endpoint().address(), member.cell.address());
    }
    assert!(members.get(members.count()).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_set_is_what_it_was_told(steps in steps()) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(async {
            let set = set(Some(FailureAccrual::consecutive(1)), Load::default());
            let mut model = BTreeMap::new();
            let mut number = 0;
            for step in steps {
                number += 1;
                let of = |all: &[u32]| all.iter().copied().map(endpoint).collect::<Vec<_>>();
                match step {
                    Step::Reset(all) => {
                        set.update(Update::Reset(of(&all)), Instant::now());
                        model = all.iter().map(|n| (address(*n), ())).collect();
                    }
                    Step::Add(all) => {
                        set.update(Update::Add(of(&all)), Instant::now());
                        model.extend(all.iter().map(|n| (address(*n), ())));
                    }
                    Step::Remove(all) => {
                        let all: Vec<_> = all.iter().map(|n| address(*n)).collect();
                        model.retain(|address, ()| !all.contains(address));
                        set.update(Update::Remove(all), Instant::now());
                    }
                    Step::Fail(n) => {
                        let only = Want { only: Some(address(n)), ..want(number) };
                        if let Some(ticket) = set.pick(&only, |_, ticket| ticket) {
                            assert!(model.contains_key(&address(n)));
                            ticket.settle(&Outcome::FAILURE);
                        }
                    }
                    Step::Pick => {
                        let able = set.members().iter().any(|m| m.cell.gate() == Gate::Closed);
                        match pick(&set, number) {
                            Some((chosen, ticket)) => {
                                assert!(model.contains_key(&chosen.address()));
                                ticket.give_back();
                            }
                            None => assert!(!able, "one could have served"),
                        }
                    }
                    Step::Wait(millis) => tokio::time::advance(Duration::from_millis(millis)).await,
                }
                check(&set, &model);
                let closed = |m: &Member<()>| m.cell.gate() == Gate::Closed;
                let in_service = set.members().iter().filter(|m| closed(m)).count();
                assert_eq!(set.pool.guard.in_service(), in_service);
                assert!(set.members().iter().all(|m| m.cell.pending() == 0));
            }
        });
    }
}
