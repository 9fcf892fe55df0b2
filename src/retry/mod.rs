//! Whether an answer is worth another try.

use http::{Method, StatusCode};

use crate::error::ErrorKind;
use crate::policy::{Fidelity, Retry};
use crate::verdict::Sent;

/// What an attempt came to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attempted<'a> {
    Response(StatusCode),
    Failed(&'a ErrorKind, Sent),
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It stands.
    Final,
    /// Try again, if something pays for it.
    Retry,
    /// It would be tried again, were it safe.
    Unsafe,
}

/// Judges by the policy.
///
/// `repeatable` says that the request may be processed twice: its method is idempotent, or its caller said so.
pub(crate) fn judge(
    retry: &Retry,
    fidelity: Fidelity,
    repeatable: bool,
    attempted: Attempted<'_>,
) -> Judgement {
    let on = |status| retry.status_ranges().contains(status);
    let (kind, sent) = match attempted {
        Attempted::Response(status) if on(status) => return Judgement::Retry,
        Attempted::Response(_) => return Judgement::Final,
        Attempted::Failed(kind, sent) => (kind, sent),
    };
    match (kind, sent) {
        (ErrorKind::HeadersTimeout | ErrorKind::Refused, _) => Judgement::Retry,
        // In the mesh a failed connection becomes a 502 or 504, and is retried as that.
        (ErrorKind::Connect, _) if fidelity == Fidelity::Mesh => by(on(StatusCode::BAD_GATEWAY)),
        (ErrorKind::ConnectTimeout, _) if fidelity == Fidelity::Mesh => {
            by(on(StatusCode::GATEWAY_TIMEOUT))
        }
        (ErrorKind::Connect | ErrorKind::ConnectTimeout, _) => Judgement::Retry,
        (ErrorKind::Broken, Sent::NotSent | Sent::Unprocessed) if fidelity != Fidelity::Mesh => {
            Judgement::Retry
        }
        (ErrorKind::Broken, _) if !on(StatusCode::BAD_GATEWAY) => Judgement::Final,
        (ErrorKind::Broken, _) if repeatable || fidelity == Fidelity::Mesh => Judgement::Retry,
        (ErrorKind::Broken, _) => Judgement::Unsafe,
        _ => Judgement::Final,
    }
}

/// Whether doing it twice is as good as once, by the method's definition (RFC 9110, section 9.2.2).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

fn by(retryable: bool) -> Judgement {
    if retryable {
        Judgement::Retry
    } else {
        Judgement::Final
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Judgement::{Final, Retry as Again, Unsafe};

    #[test]
    fn the_table() {
        let bad_gateway = Retry::on(502..=502).build().unwrap();
        let unavailable = Retry::on(503..=503).build().unwrap();
        let response = |status| Attempted::Response(StatusCode::from_u16(status).unwrap());
        let failed = |kind, sent| Attempted::Failed(kind, sent);
        use ErrorKind as K;
        use Sent::*;
        // What; with 502 retried: mesh, ours; with only 503 retried: mesh, ours. Of a request that must not be repeated.
        let rows = [
            (response(502), [Again, Again, Final, Final]),
            (response(503), [Final, Final, Again, Again]),
            (response(200), [Final, Final, Final, Final]),
            (failed(&K::HeadersTimeout, Unknown), [Again; 4]),
            (failed(&K::Refused, Unprocessed), [Again; 4]),
            (failed(&K::Connect, NotSent), [Again, Again, Final, Again]),
            (
                failed(&K::ConnectTimeout, NotSent),
                [Final, Again, Final, Again],
            ),
            (failed(&K::Broken, NotSent), [Again, Again, Final, Again]),
            (failed(&K::Broken, Unknown), [Again, Unsafe, Final, Final]),
            (failed(&K::RequestTimeout, Unknown), [Final; 4]),
            (failed(&K::ResponseTimeout, Unknown), [Final; 4]),
            (failed(&K::RequestBody, Unknown), [Final; 4]),
            (failed(&K::InvalidRequest, NotSent), [Final; 4]),
        ];
        for (attempted, expected) in rows {
            let ours = [
                judge(&bad_gateway, Fidelity::Mesh, false, attempted),
                judge(&bad_gateway, Fidelity::Extended, false, attempted),
                judge(&unavailable, Fidelity::Mesh, false, attempted),
                judge(&unavailable, Fidelity::Extended, false, attempted),
            ];
            assert_eq!(ours, expected, "{attempted:?}");
        }
        let broken = failed(&K::Broken, Unknown);
        assert_eq!(judge(&bad_gateway, Fidelity::Extended, true, broken), Again);
    }

    #[test]
    fn methods() {
        for (method, idempotent) in [
            ("GET", true),
            ("PUT", true),
            ("DELETE", true),
            ("POST", false),
            ("PATCH", false),
            ("CONNECT", false),
            ("X", false),
        ] {
            assert_eq!(
                is_idempotent(&method.parse().unwrap()),
                idempotent,
                "{method}"
            );
        }
    }
}
