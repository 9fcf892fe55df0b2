use http::StatusCode;

use super::*;

#[test]
fn unified() {
    let field = |name| Some(name);
    for (threshold, window, min_requests, invalid) in [
        (Ratio::percent(80), 10 * S, 5, None),
        // unified_accepts_threshold_of_one, _zero_min_requests, _window_at_floor
        (Ratio::ONE, 10 * S, 5, None),
        (Ratio::percent(80), 10 * S, 0, None),
        (Ratio::percent(80), 10 * MS, 5, None),
        (Ratio::percent(80), 10 * S, 1_000_000, None),
        // unified_skips_window_floor_when_success_rate_disabled
        (Ratio::ZERO, Duration::ZERO, 5, None),
        (
            ppm(1_000_001),
            10 * S,
            5,
            field("failure_accrual.threshold"),
        ),
        (Ratio::ONE, 9 * MS, 5, field("failure_accrual.window")),
        (ppm(1), Duration::ZERO, 5, field("failure_accrual.window")),
        (
            Ratio::ZERO,
            S,
            1_000_001,
            field("failure_accrual.min_requests"),
        ),
    ] {
        let made = Unified::try_new(
            threshold,
            window,
            min_requests,
            7,
            ExponentialBackoff::ACCRUAL,
        );
        check(made.clone(), invalid);
        if let Ok(made) = made {
            assert_eq!(
                (made.threshold(), made.window(), made.min_requests()),
                (threshold, window, min_requests)
            );
            assert_eq!(made.max_consecutive_failures(), 7);
            assert_eq!(made.backoff(), ExponentialBackoff::ACCRUAL);
            assert_eq!(made.extensions().ejection, None);
        }
    }
}

#[test]
fn failure_accrual() {
    let other = ExponentialBackoff::try_new(S, S, Ratio::ZERO).unwrap();
    for accrual in [
        FailureAccrual::consecutive(7),
        Unified::default().into(),
        FailureAccrual::from(ConsecutiveFailures {
            max_failures: 7,
            backoff: ExponentialBackoff::ACCRUAL,
            extensions: AccrualExtensions::default(),
        }),
    ] {
        assert_eq!(accrual.max_consecutive_failures(), 7);
        assert_eq!(accrual.probe_backoff(), ExponentialBackoff::ACCRUAL);
        assert_eq!(accrual.extensions().ejection, None);
        let accrual = accrual.backoff(other).min_ready_endpoints(2);
        assert_eq!(accrual.max_consecutive_failures(), 7);
        assert_eq!(accrual.probe_backoff(), other);
        let floor = Ejection {
            min_ready_endpoints: 2,
            ..Ejection::NONE
        };
        assert_eq!(accrual.extensions().ejection, Some(floor));
    }
    // A default that could not be written by hand would be no default.
    let default = Unified::default();
    let again = Unified::try_new(
        default.threshold(),
        default.window(),
        default.min_requests(),
        default.max_consecutive_failures(),
        default.backoff(),
    );
    assert_eq!(again, Ok(default));
}

#[test]
fn backoff() {
    for (min, max, jitter, invalid) in [
        (S, 60 * S, Ratio::percent(50), None),
        (S, S, Ratio::ZERO, None),
        (Duration::ZERO, MS, ppm(100_000_000), None),
        (Duration::ZERO, Duration::MAX, Ratio::ONE, None),
        (
            Duration::ZERO,
            Duration::ZERO,
            Ratio::ONE,
            Some("backoff.max"),
        ),
        (S, Duration::ZERO, Ratio::ONE, Some("backoff.max")),
        (S, S - MS, Ratio::ONE, Some("backoff.max")),
        (S, S, ppm(100_000_001), Some("backoff.jitter")),
    ] {
        let made = ExponentialBackoff::try_new(min, max, jitter);
        check(made.clone(), invalid);
        if let Ok(made) = made {
            assert_eq!((made.min(), made.max(), made.jitter()), (min, max, jitter));
        }
    }
    for constant in [ExponentialBackoff::ACCRUAL, ExponentialBackoff::RETRY] {
        let again = ExponentialBackoff::try_new(constant.min(), constant.max(), constant.jitter());
        assert_eq!(again, Ok(constant));
    }
}

#[test]
fn peak_ewma() {
    check(PeakEwma::try_new(Duration::ZERO, S), Some("load.decay"));
    for (given, kept) in [(Duration::ZERO, MS), (MS, MS), (S, S)] {
        let made = PeakEwma::try_new(Duration::from_nanos(1), given).unwrap();
        assert_eq!(made.decay(), Duration::from_nanos(1));
        assert_eq!(made.default_rtt(), kept, "floored at a millisecond");
    }
    // peak_ewma_rtt_reads_both_variants
    let ewma = PeakEwma::try_new(S, 2 * MS).unwrap();
    for load in [
        Load::PeakEwma(ewma),
        Load::PenaltyPeakEwma(PenaltyPeakEwma::new(ewma)),
    ] {
        assert_eq!(load.ewma(), ewma);
    }
    assert_eq!(Load::default().ewma(), PeakEwma::default());
}

#[test]
fn statuses() {
    let whole = 1..=599;
    for (ranges, invalid) in [
        (vec![], None),
        (vec![whole.clone()], None),
        (vec![500..=500, 502..=504, 500..=599], None),
        (vec![0..=500], Some("status_ranges")),
        (vec![500..=600], Some("status_ranges")),
        (vec![0..=u16::MAX], Some("status_ranges")),
        (
            vec![500..=599, std::ops::RangeInclusive::new(504, 502)],
            Some("status_ranges"),
        ),
    ] {
        let made = StatusRanges::try_new(ranges.clone());
        check(made.clone(), invalid);
        let mut retry = Retry::never_on_status();
        for range in ranges.clone() {
            retry = retry.and_on(range);
        }
        check(retry.build(), invalid);
        if let Ok(made) = made {
            assert_eq!(made.iter().collect::<Vec<_>>(), ranges);
            assert_eq!(made.is_empty(), ranges.is_empty());
        }
    }
    let some = StatusRanges::try_new([502..=504, 429..=429]).unwrap();
    for status in 100..=999 {
        let expected = status == 429 || (502..=504).contains(&status);
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(some.contains(status), expected);
        let server = StatusRanges::server_errors().contains(status);
        assert_eq!(server, status.is_server_error());
        assert!(!StatusRanges::default().contains(status));
    }
}

#[test]
fn retry() {
    let default = Retry::on(500..=599).build().unwrap();
    assert_eq!(default.max_retries(), 1);
    assert_eq!(default.max_request_bytes(), 64 * 1024);
    assert_eq!(default.status_ranges(), &StatusRanges::server_errors());
    assert_eq!(default.timeout(), None);
    assert_eq!(default.backoff(), Some(ExponentialBackoff::RETRY));
    assert_eq!(default.budget(), None);

    let written = Retry::on(502..=504)
        .and_on(429..=429)
        .limit(u16::MAX)
        .max_request_bytes(0)
        .timeout(S)
        .backoff(ExponentialBackoff::ACCRUAL)
        .budget(Budget::percent(20).min_per_sec(3))
        .build()
        .unwrap();
    assert_eq!(written.max_retries(), u16::MAX);
    assert_eq!(written.max_request_bytes(), 0);
    assert_eq!(written.status_ranges().iter().count(), 2);
    assert_eq!(written.timeout(), Some(S));
    assert_eq!(written.backoff(), Some(ExponentialBackoff::ACCRUAL));
    let budget = written.budget().unwrap();
    assert_eq!((budget.ratio, budget.min_per_sec), (Ratio::percent(20), 3));

    for retry in [default, written] {
        let again = RetryBuilder::from(retry.clone());
        assert_eq!(again.clone().build(), Ok(retry));
        assert_eq!(again.no_backoff().build().unwrap().backoff(), None);
    }
    let default = Budget::default();
    assert_eq!(
        (default.ratio, default.min_per_sec),
        (Ratio::percent(20), 10)
    );
}

#[test]
fn injected_failures() {
    for (ratio, invalid) in [
        (Ratio::ZERO, None),
        (Ratio::ONE, None),
        (ppm(1_000_001), Some("filter.inject_failure.ratio")),
    ] {
        let made = InjectFailure::new(StatusCode::BAD_GATEWAY, "no", ratio);
        check(made.clone(), invalid);
        if let Ok(made) = made {
            assert_eq!(made.status(), StatusCode::BAD_GATEWAY);
            assert_eq!((made.message(), made.ratio()), ("no", ratio));
        }
    }
}

#[test]
fn redirects() {
    assert_eq!(RedirectRequest::default(), RedirectRequest::new());
    assert_eq!(
        RedirectRequest::new().status(),
        StatusCode::MOVED_PERMANENTLY
    );
    for status in 100..=999 {
        let status = StatusCode::from_u16(status).unwrap();
        let made = RedirectRequest::new().with_status(status);
        let valid = (300..=399).contains(&status.as_u16());
        check(made.clone(), (!valid).then_some("filter.redirect.status"));
        if let Ok(made) = made {
            assert_eq!(made.status(), status);
        }
    }
    for (host, valid) in [
        ("example.com", true),
        ("example.com.", true),
        ("10.0.0.1", true),
        ("[::1]", true),
        ("", false),
        ("example.com:80", false),
        ("example.com:", false),
        ("[::1]:80", false),
        ("::1", false),
        ("user@example.com", false),
        ("@", false),
        ("a b", false),
        ("a/b", false),
        ("http://a", false),
        ("\u{e9}", false),
    ] {
        let made = RedirectRequest::new().with_host(host);
        check(made.clone(), (!valid).then_some("filter.redirect.host"));
        if let Ok(made) = made {
            assert_eq!(made.host.as_deref(), Some(host));
        }
    }
}

#[test]
fn distributions() {
    let used = |name| <RouteBackend>::from(backend(name));
    assert_eq!(<RouteDistribution>::empty().backends().count(), 0);

    check(
        <RouteDistribution>::first_available([]),
        Some("distribution.first_available"),
    );
    let first = RouteDistribution::first_available([used("a"), used("b"), used("a")]).unwrap();
    let (a, b) = (used("a"), used("b"));
    let backends: Vec<_> = first.backends().collect();
    assert_eq!(backends, [(&a, 1), (&b, 1), (&a, 1)]);

    for (weights, valid) in [
        (vec![], false),
        (vec![0], false),
        (vec![0, 0], false),
        (vec![1], true),
        (vec![0, 1], true),
        (vec![u32::MAX, u32::MAX], true),
    ] {
        let weighed = weights.iter().map(|weight| (used("a"), *weight));
        let made = RouteDistribution::random_available(weighed);
        check(
            made.clone(),
            (!valid).then_some("distribution.random_available"),
        );
        if let Ok(made) = made {
            let kept: Vec<u32> = made.backends().map(|(_, weight)| weight).collect();
            assert_eq!(kept, weights);
        }
    }
}

#[test]
fn meta() {
    for (group, kind, namespace, name, invalid) in [
        ("core", "Service", "shop", "payments", None),
        ("", "Service", "shop", "payments", Some("meta.group")),
        ("core", "", "shop", "payments", Some("meta.kind")),
        ("core", "Service", "", "payments", Some("meta.namespace")),
        ("core", "Service", "shop", "", Some("meta.name")),
    ] {
        check(Resource::new(group, kind, namespace, name), invalid);
    }
    check(Meta::service("", "a", None), Some("meta.namespace"));
    check(Meta::service("a", "", None), Some("meta.name"));

    let port = std::num::NonZeroU16::new(8080);
    let service = Meta::service("shop", "payments", port).unwrap();
    assert_eq!(service.to_string(), "service.shop.payments:8080");
    assert_eq!(service.name(), "payments");
    let plain = Meta::service("shop", "payments", None).unwrap();
    assert_eq!(plain.to_string(), "service.shop.payments");
    let default = Meta::default_named("http");
    assert_eq!(default.to_string(), "default.http");
    assert_eq!(default.name(), "http");

    let resource = Resource::new("core", "Service", "shop", "payments").unwrap();
    assert_eq!(resource.clone().with_section("").section(), None);
    let section = resource.clone().with_section("grpc");
    assert_eq!(section.section(), Some("grpc"));
    assert_eq!(
        (section.group(), section.kind(), section.namespace()),
        ("core", "Service", "shop")
    );
    assert_eq!((section.name(), section.port()), ("payments", None));
    // Unlike in the mesh, where group, kind and name alone tell resources apart.
    let elsewhere = Resource::new("core", "Service", "other", "payments").unwrap();
    let with_port = resource.clone().with_port(port.unwrap());
    all_differ([resource, section, elsewhere, with_port]);
    all_differ([service, plain, default]);
}
