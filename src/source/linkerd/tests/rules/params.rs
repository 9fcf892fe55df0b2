//! Retries, timeouts and breakers.

use super::*;

#[test]
fn retries_and_timeouts() {
    type Change = fn(&mut api::http_route::Retry);
    let retry = |path: &str, effect, change: Change| {
        let path = format!("retry{path}");
        let rules = rule(&path, effect, |rule| change(rule.retry.as_mut().unwrap()));
        rules[0].policy.params.retry.clone()
    };
    assert_eq!(
        retry("", Effect::LeftOut, |it| it.max_retries = 65_536),
        None
    );
    let left = retry(".conditions", Effect::LeftOut, |it| it.conditions = None);
    assert!(left.unwrap().status_ranges().is_empty());
    for (start, end) in [(0, 1), (500, 600), (504, 502), (66_036, 66_036)] {
        let path = "retry.conditions.status_ranges[1]";
        let range = api::http_route::retry::conditions::StatusRange { start, end };
        let rules = rule(path, Effect::LeftOut, |rule| {
            let retry = rule.retry.as_mut().unwrap();
            retry.conditions.as_mut().unwrap().status_ranges.push(range);
        });
        let retry = rules[0].policy.params.retry.as_ref().unwrap();
        assert_eq!(
            retry.status_ranges().iter().collect::<Vec<_>>(),
            [500..=599]
        );
    }
    let left = retry(".timeout", Effect::LeftOut, |it| it.timeout = time(-1));
    assert_eq!(left.unwrap().timeout(), None);
    let kept = retry(".backoff.respect_retry_after_hint", Effect::Ignored, |it| {
        it.backoff.as_mut().unwrap().respect_retry_after_hint = true;
    });
    assert_eq!(kept.unwrap().backoff(), Some(ExponentialBackoff::RETRY));
    let kept = retry(".backoff.max_backoff", Effect::Default, |it| {
        it.backoff.as_mut().unwrap().max_backoff = time(0);
    });
    assert_eq!(kept.unwrap().backoff(), Some(ExponentialBackoff::RETRY));
    // No waits are no waits.
    let read = changed(|http1| {
        http1.routes[0].rules[0].retry.as_mut().unwrap().backoff = None;
    });
    assert_eq!(read.problems, []);

    for field in ["request", "response", "idle"] {
        let rules = rule(&format!("timeouts.{field}"), Effect::LeftOut, |rule| {
            let mut timeouts = hr::Timeouts {
                request: time(1),
                response: time(2),
                idle: time(3),
            };
            match field {
                "request" => timeouts.request = time(i64::MIN),
                "response" => timeouts.response = time(-1),
                _ => timeouts.idle = time(-1),
            }
            rule.timeouts = Some(timeouts);
        });
        let timeouts = rules[0].policy.params.timeouts;
        let left = [timeouts.request, timeouts.response, timeouts.idle];
        assert_eq!(left.iter().flatten().count(), 2, "{field}");
    }
}

#[test]
#[allow(deprecated, reason = "it is what this is about")]
fn deprecated_timeouts() {
    let request = |read: &Read| http(read).routes[0].rules[0].policy.params.timeouts.request;
    let read = changed(|http1| http1.routes[0].rules[0].request_timeout = time(7));
    assert_eq!(read.problems, []);
    assert_eq!(request(&read), Some(Duration::from_secs(7)));
    let read = changed(|http1| {
        let rule = &mut http1.routes[0].rules[0];
        rule.request_timeout = time(7);
        rule.timeouts = Some(hr::Timeouts {
            request: time(1),
            ..Default::default()
        });
    });
    assert_eq!(request(&read), Some(Duration::from_secs(1)));
    rule("request_timeout", Effect::LeftOut, |rule| {
        rule.request_timeout = time(-7);
    });
    let path = "backends.random_available.backends[0].backend.request_timeout";
    rule(path, Effect::Ignored, |rule| {
        let Some(api::http_route::distribution::Kind::RandomAvailable(random)) =
            &mut rule.backends.as_mut().unwrap().kind
        else {
            panic!("not random");
        };
        random.backends[0].backend.as_mut().unwrap().request_timeout = time(1);
    });
}

#[test]
fn accrual() {
    use api::failure_accrual::{ConsecutiveFailures, Kind};
    let check = |path: &str, effect, change: &dyn Fn(&mut api::FailureAccrual)| {
        let read = changed(|http1| change(http1.failure_accrual.as_mut().unwrap()));
        wrong(&read, &format!("http1.failure_accrual.{path}"), effect);
        http(&read).failure_accrual.clone()
    };
    assert_eq!(check("kind", Effect::LeftOut, &|it| it.kind = None), None);
    let none = ConsecutiveFailures {
        max_failures: 3,
        backoff: None,
    };
    let made = check("consecutive_failures.backoff", Effect::Default, &|it| {
        it.kind = Some(Kind::ConsecutiveFailures(none));
    });
    assert_eq!(made, Some(FailureAccrual::consecutive(3)));
    let unified = |path: &str, effect, change: fn(&mut api::failure_accrual::Unified)| {
        let made = check(
            &format!("unified.{path}"),
            effect,
            &|it| match &mut it.kind {
                Some(Kind::Unified(unified)) => change(unified),
                other => panic!("{other:?}"),
            },
        );
        match made {
            Some(FailureAccrual::Unified(unified)) => unified,
            other => panic!("{other:?}"),
        }
    };
    let default = Unified::default();
    assert_eq!(
        unified("backoff", Effect::Default, |it| it.backoff = None),
        default
    );
    for (field, change) in [
        (
            "success_rate_threshold",
            (|it| it.success_rate_threshold = f64::NAN) as fn(&mut api::failure_accrual::Unified),
        ),
        ("success_rate_threshold", |it| {
            it.success_rate_threshold = 1.001
        }),
        ("success_rate_threshold", |it| {
            it.success_rate_threshold = -0.1
        }),
        ("decay", |it| it.decay = time(0)),
        ("min_requests", |it| it.min_requests = 1_000_001),
    ] {
        // Without a success rate; failures in a row still eject.
        let made = unified(field, Effect::LeftOut, change);
        assert_eq!(made.threshold(), Ratio::ZERO, "{field}");
        assert_eq!(made.max_consecutive_failures(), 7, "{field}");
    }
    // The mesh's control plane sends this one, and its proxy does not accept it.
    let made = unified("min_requests", Effect::Default, |it| {
        it.success_rate_threshold = 0.0;
        it.min_requests = 2_000_000;
    });
    assert_eq!(made.max_consecutive_failures(), 7);
    // Absent is the default; a window of nothing is fine where there is no success rate.
    let read = changed(|http1| {
        let Some(Kind::Unified(it)) = &mut http1.failure_accrual.as_mut().unwrap().kind else {
            panic!("not unified");
        };
        it.decay = None;
    });
    assert_eq!(http(&read).failure_accrual, Some(default.into()));
    assert_eq!(read.problems, []);

    type Change = fn(&mut api::ExponentialBackoff);
    let rows: [(&str, Change); 8] = [
        ("min_backoff", |it| it.min_backoff = None),
        ("min_backoff", |it| it.min_backoff = time(-1)),
        ("max_backoff", |it| it.max_backoff = None),
        ("max_backoff", |it| it.min_backoff = time(61)),
        ("max_backoff", |it| {
            (it.min_backoff, it.max_backoff) = (time(0), time(0))
        }),
        ("jitter_ratio", |it| it.jitter_ratio = f32::NAN),
        ("jitter_ratio", |it| it.jitter_ratio = -0.5),
        ("jitter_ratio", |it| it.jitter_ratio = 100.5),
    ];
    for (field, change) in rows {
        let path = format!("unified.backoff.{field}");
        let made = check(&path, Effect::Default, &|it| match &mut it.kind {
            Some(Kind::Unified(unified)) => change(unified.backoff.as_mut().unwrap()),
            other => panic!("{other:?}"),
        });
        assert_eq!(made, Some(Unified::default().into()), "{path}");
    }
}
