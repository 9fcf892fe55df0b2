//! A shared breaker, which counts most successes without its lock, beside one that hears of everything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use crate::breaker::settings::Settings;
use crate::breaker::shared::Shared;
use crate::breaker::{Breaker, Forced, Gate, Transition};
use crate::core::draw::{Purpose, draw};
use crate::policy::{FailureAccrual, Unified};
use crate::verdict::{Outcome, Verdict};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Admit(usize),
    // The oldest in flight end so, after so many hundredths of a second.
    End(usize, Outcome, u64),
    Force(Option<Forced>),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    (0u8..20).prop_map(|kind| {
        let mut outcome = Outcome::new(match kind {
            0..3 => Verdict::Failure,
            3 => Verdict::Neutral,
            _ => Verdict::Success,
        });
        outcome.rate_limited = kind == 4;
        outcome
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u64..4000).prop_map(|wait| Step::Wait(wait * wait / 4000)),
        8 => (1usize..4).prop_map(Step::Admit),
        12 => (1usize..4, outcome(), 0u64..150).prop_map(|(n, outcome, took)| Step::End(n, outcome, took)),
        1 => prop_oneof![
            2 => Just(None),
            1 => Just(Some(Forced::Open)),
            1 => Just(Some(Forced::Closed)),
        ].prop_map(Step::Force),
    ]
}

proptest! {
    #[test]
    fn it_does_as_one_that_hears_of_everything(
        steps in proptest::collection::vec(step(), 1..300),
        kind in 0usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let rate = || FailureAccrual::from(Unified::default());
            let accrual = match kind {
                0 => FailureAccrual::consecutive(3),
                1 => FailureAccrual::consecutive(2).slow_call(ms(1000)),
                2 => rate(),
                _ => rate().slow_call(ms(1000)),
            };
            let mut settings = Settings::new(&accrual);
            settings.seed = 1;
            let rules = Arc::clone(&settings.rules);
            let shared = Shared::new(settings, Instant::now());
            let mut model = Breaker::with_rules(Some(rules), Instant::now());
            let (mut forced, mut opened) = (None, 0);
            let mut flying = VecDeque::new();
            for step in steps {
                match step {
                    Step::Wait(wait) => tokio::time::advance(ms(wait)).await,
                    Step::Admit(count) => for _ in 0..count {
                        let theirs = match forced {
                            Some(Forced::Open) => None,
                            _ => model.admit(Instant::now()),
                        };
                        let untimed = shared.admit_untimed();
                        let ours = shared.admit().ok().map(|(admitted, _)| admitted);
                        assert_eq!(ours, theirs);
                        // Without the time if nobody has to know it.
                        let closed = model.gate() == Gate::Closed && forced != Some(Forced::Open);
                        assert_eq!(untimed, ours.filter(|_| closed && !shared.is_timed()));
                        flying.extend(ours);
                    },
                    Step::End(count, mut outcome, took) => {
                        outcome.took = Some(ms(10 * took));
                        for admitted in flying.drain(..count.min(flying.len())) {
                            if !shared.ignores(admitted, &outcome) {
                                shared.record(admitted, &outcome);
                            }
                            if forced.is_none() {
                                let word = || draw(1, opened, Purpose::ProbeBackoff, 0);
                                let now = Instant::now();
                                let transition = model.record(now, admitted, &outcome, word, || true);
                                let opens = matches!(transition, Some(Transition::Opened { .. }));
                                opened += u64::from(opens);
                            }
                        }
                    }
                    Step::Force(to) => {
                        forced = to;
                        shared.force(to, Instant::now());
                        model.reset();
                    }
                }
                let snapshot = shared.snapshot(Instant::now());
                assert_eq!((snapshot.gate, snapshot.forced), (model.gate(), forced));
                assert_eq!(snapshot.failures, model.failures());
            }
            assert_eq!(shared.window_sums(), model.window_sums());
        });
    }
}
