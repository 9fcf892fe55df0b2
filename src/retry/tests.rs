use std::time::Duration;

use http::{HeaderMap, StatusCode};
use proptest::prelude::*;

use super::judge::Wait;
use super::*;
use crate::error::ErrorKind;
use crate::policy::{Fidelity, Retry};
use crate::verdict::Sent;

const PLAIN: Judgement = Judgement::Retry(Again {
    untouched: false,
    wait: Wait::Backoff,
});
const UNTOUCHED: Judgement = Judgement::Retry(Again {
    untouched: true,
    wait: Wait::Backoff,
});

fn rules(retry: &Retry, fidelity: Fidelity, repeatable: bool) -> Rules<'_> {
    Rules {
        retry,
        fidelity,
        repeatable,
        grpc: false,
    }
}

#[test]
fn the_table() {
    use ErrorKind as K;
    use Judgement::{Final, Unsafe};
    use Sent::*;
    let bad_gateway = Retry::on(502..=502).build().unwrap();
    let unavailable = Retry::on(503..=503).build().unwrap();
    let empty = HeaderMap::new();
    let head = |status| Attempted::Head(StatusCode::from_u16(status).unwrap(), &empty);
    let failed = |kind, sent| Attempted::Failed(kind, sent);
    let fail_fast = K::FailFast {
        backend: String::new(),
        why: String::new(),
    };
    let full = K::QueueFull {
        backend: String::new(),
        capacity: 1,
    };
    // What; with 502 retried: mesh, ours; with only 503 retried: mesh, ours. Of a request that must not be repeated; then
    // ours, with 503, of one that may be.
    let rows = [
        (head(502), [PLAIN, PLAIN, Final, Final], Final),
        (head(503), [Final, Final, PLAIN, PLAIN], PLAIN),
        (head(200), [Final; 4], Final),
        (
            failed(&K::HeadersTimeout, Unknown),
            [PLAIN, Unsafe, PLAIN, Unsafe],
            PLAIN,
        ),
        (failed(&K::Refused, Unprocessed), [UNTOUCHED; 4], UNTOUCHED),
        (failed(&fail_fast, Unknown), [PLAIN; 4], PLAIN),
        (failed(&full, Unknown), [Final; 4], Final),
        (
            failed(&K::Connect, NotSent),
            [PLAIN, UNTOUCHED, Final, UNTOUCHED],
            UNTOUCHED,
        ),
        (
            failed(&K::ConnectTimeout, NotSent),
            [Final, UNTOUCHED, Final, UNTOUCHED],
            UNTOUCHED,
        ),
        (
            failed(&K::Broken, NotSent),
            [PLAIN, UNTOUCHED, Final, UNTOUCHED],
            UNTOUCHED,
        ),
        (
            failed(&K::Broken, Unknown),
            [PLAIN, Unsafe, Final, Unsafe],
            PLAIN,
        ),
        (failed(&K::RequestTimeout, Unknown), [Final; 4], Final),
        (failed(&K::ResponseTimeout, Unknown), [Final; 4], Final),
        (failed(&K::RequestBody, Unknown), [Final; 4], Final),
        (failed(&K::InvalidRequest, NotSent), [Final; 4], Final),
    ];
    for (attempted, expected, repeatable) in rows {
        let judged = |retry, fidelity| judge(&rules(retry, fidelity, false), attempted);
        let ours = [
            judged(&bad_gateway, Fidelity::Mesh),
            judged(&bad_gateway, Fidelity::Extended),
            judged(&unavailable, Fidelity::Mesh),
            judged(&unavailable, Fidelity::Extended),
        ];
        assert_eq!(ours, expected, "{attempted:?}");
        let ours = judge(&rules(&unavailable, Fidelity::Extended, true), attempted);
        assert_eq!(ours, repeatable, "{attempted:?}");
    }
}

#[test]
fn methods_and_keys() {
    let mut keyed = HeaderMap::new();
    keyed.insert("idempotency-key", "8e03978e".parse().unwrap());
    for (method, idempotent) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("TRACE", true),
        ("PUT", true),
        ("DELETE", true),
        ("POST", false),
        ("PATCH", false),
        ("CONNECT", false),
        ("X", false),
    ] {
        let method = method.parse().unwrap();
        assert_eq!(is_idempotent(&method, &HeaderMap::new()), idempotent);
        assert!(is_idempotent(&method, &keyed));
    }
}

// What may come, in plain words, for the model.
#[derive(Clone, Debug)]
struct Case {
    mesh: bool,
    grpc: bool,
    repeatable: bool,
    on_502: bool,
    on_14: bool,
    on_2: bool,
    came: Came,
    pushback: Option<i64>,
    retry_after: Option<u64>,
}

#[derive(Clone, Debug)]
enum Came {
    Head(u16, Option<&'static str>),
    Trailers(Option<&'static str>),
    Timeout,
    Refused,
    Connect,
    Broken(Sent),
    Caller,
}

// The rules as one would tell them, case by case, without regard to how they are written.
fn model(case: &Case) -> &'static str {
    let may_repeat = |then| if case.repeatable { then } else { "unsafe" };
    let listed = match case.came {
        Came::Caller => return "final",
        Came::Timeout if case.mesh => return "again",
        Came::Timeout => return may_repeat("again"),
        Came::Refused => return "untouched",
        Came::Connect | Came::Broken(_) if case.mesh => {
            return if case.on_502 { "again" } else { "final" };
        }
        Came::Connect | Came::Broken(Sent::NotSent | Sent::Unprocessed) => return "untouched",
        Came::Broken(Sent::Unknown) => return may_repeat("again"),
        Came::Head(502, _) if case.on_502 => true,
        Came::Head(status, code) => {
            case.grpc
                && match (code, status) {
                    (Some("14"), _) => case.on_14,
                    (Some("2"), _) => case.on_2,
                    (Some("0"), _) => false,
                    (Some(_), _) => !case.mesh && case.on_2,
                    (None, 200 | 404) => false,
                    (None, 502) => !case.mesh && case.on_14,
                    (None, _) => !case.mesh && case.on_2,
                }
        }
        Came::Trailers(code) => match code {
            Some("14") => case.on_14,
            Some("2") => case.on_2,
            Some("0") => false,
            _ => !case.mesh && case.on_2,
        },
    };
    match (listed, case.pushback, case.retry_after) {
        (false, ..) => "final",
        _ if case.mesh => "again",
        (_, Some(millis), _) if case.grpc => match millis {
            0..=60_000 => "then",
            _ => "stop",
        },
        (_, _, Some(..=60)) => "later",
        (_, _, Some(_)) => "stop",
        _ => "again",
    }
}

fn told(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Final => "final",
        Judgement::Unsafe => "unsafe",
        Judgement::Stop => "stop",
        Judgement::Retry(again) => match (again.untouched, again.wait) {
            (true, Wait::Backoff) => "untouched",
            (true, _) => "a hint from nobody",
            (false, Wait::Backoff) => "again",
            (false, Wait::AtLeast(_)) => "later",
            (false, Wait::Exactly(_)) => "then",
        },
    }
}

fn came() -> impl Strategy<Value = Came> {
    let codes = prop::sample::select(vec![None, Some("0"), Some("2"), Some("14"), Some("x")]);
    prop_oneof![
        (
            prop::sample::select(vec![200u16, 404, 500, 502]),
            codes.clone()
        )
            .prop_map(|(status, code)| Came::Head(status, code)),
        codes.prop_map(Came::Trailers),
        Just(Came::Timeout),
        Just(Came::Refused),
        Just(Came::Connect),
        prop::sample::select(vec![Sent::NotSent, Sent::Unprocessed, Sent::Unknown])
            .prop_map(Came::Broken),
        Just(Came::Caller),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    let flags = (any::<[bool; 6]>(), came());
    let hints = (
        prop::option::of(prop::sample::select(vec![-1i64, 0, 25, 60_000, 60_001])),
        prop::option::of(prop::sample::select(vec![0u64, 3, 60, 61])),
    );
    (flags, hints).prop_map(|((flags, came), (pushback, retry_after))| Case {
        mesh: flags[0],
        grpc: flags[1] || matches!(came, Came::Trailers(_)),
        repeatable: flags[2],
        on_502: flags[3],
        on_14: flags[4],
        on_2: flags[5],
        came,
        pushback,
        retry_after,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn as_the_rules_are_told(case in cases()) {
        let mut retry = Retry::never_on_status();
        if case.on_502 {
            retry = retry.and_on(502..=502);
        }
        for (on, code) in [(case.on_14, 14), (case.on_2, 2)] {
            if on {
                retry = retry.and_on_codes([code]);
            }
        }
        let retry = retry.build().unwrap();
        let rules = Rules {
            retry: &retry,
            fidelity: if case.mesh { Fidelity::Mesh } else { Fidelity::Extended },
            repeatable: case.repeatable,
            grpc: case.grpc,
        };
        let mut headers = HeaderMap::new();
        if let Came::Head(_, Some(code)) | Came::Trailers(Some(code)) = case.came {
            headers.insert("grpc-status", code.parse().unwrap());
        }
        if let Some(millis) = case.pushback {
            headers.insert("grpc-retry-pushback-ms", millis.into());
        }
        if let Some(seconds) = case.retry_after {
            headers.insert("retry-after", seconds.into());
        }
        let attempted = match &case.came {
            Came::Head(status, _) => Attempted::Head(StatusCode::from_u16(*status).unwrap(), &headers),
            Came::Trailers(_) => Attempted::Trailers(Some(&headers)),
            Came::Timeout => Attempted::Failed(&ErrorKind::HeadersTimeout, Sent::Unknown),
            Came::Refused => Attempted::Failed(&ErrorKind::Refused, Sent::Unprocessed),
            Came::Connect => Attempted::Failed(&ErrorKind::Connect, Sent::NotSent),
            Came::Broken(sent) => Attempted::Failed(&ErrorKind::Broken, *sent),
            Came::Caller => Attempted::Failed(&ErrorKind::RequestBody, Sent::Unknown),
        };
        let judged = judge(&rules, attempted);
        prop_assert_eq!(told(judged), model(&case), "{:?}", case);
        if let Judgement::Retry(Again { wait: Wait::AtLeast(wait), .. }) = judged {
            prop_assert_eq!(Some(wait), case.retry_after.map(Duration::from_secs));
        }
    }
}
