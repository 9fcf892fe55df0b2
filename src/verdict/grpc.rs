//! gRPC: the judge of its responses, its headers, its codes.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Classified, ClassifyEos, ClassifyResponse, Outcome, Verdict};
use crate::core::BoxError;
use crate::policy::{Codes, Fidelity};

/// Judges gRPC responses: by the status in the headers, or else by the one in the trailers.
///
/// | what came | code | mesh | extended |
/// |---|---|---|---|
/// | `grpc-status` in the headers (trailers-only) | as written | by code, at the head | by code, at the head |
/// | `grpc-status` in the trailers | as written | by code, at the end | by code, at the end |
/// | a status beyond 16 | UNKNOWN | failure | failure |
/// | a status that is no number | UNKNOWN | success | failure |
/// | HTTP 200 of another content type, no status | UNKNOWN | success | failure |
/// | HTTP 400 without a status | INTERNAL | success | failure |
/// | HTTP 401 without a status | UNAUTHENTICATED | success | by code |
/// | HTTP 403 without a status | PERMISSION_DENIED | success | by code |
/// | HTTP 404 without a status | UNIMPLEMENTED | success | by code |
/// | HTTP 429, 502, 503, 504 without a status | UNAVAILABLE | success | failure |
/// | any other HTTP status without a status | UNKNOWN | success | failure |
/// | the stream ends without a status | UNKNOWN | success | failure |
/// | the caller drops the stream before its end | | success | neutral |
/// | the stream breaks (RST_STREAM, connection lost) | by its reason | failure | failure |
///
/// *By code*: a failure if the code is in the policy's [set](crate::policy::Failures::codes), which by default is
/// [`Codes::MESH`] in the mesh and [`Codes::EXTENDED`] here. RESOURCE_EXHAUSTED is rate-limited in both. The mapping of
/// HTTP statuses is the gRPC specification's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcClassifier {
    codes: Codes,
    fidelity: Fidelity,
}

/// The rest of the judgement of a gRPC response whose head has no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcEos(GrpcClassifier);

/// `grpc-status`.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// `grpc-retry-pushback-ms`: how long to wait before another try; negative is never.
pub const GRPC_RETRY_PUSHBACK_MS: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// `grpc-previous-rpc-attempts`: how often the call was sent before.
pub const GRPC_PREVIOUS_RPC_ATTEMPTS: HeaderName =
    HeaderName::from_static("grpc-previous-rpc-attempts");
/// `grpc-timeout`: the time that a call has.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Whether a message with these headers is gRPC's, by its content type: `application/grpc`, with or without a format.
/// gRPC-Web is another protocol.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(http::header::CONTENT_TYPE) else {
        return false;
    };
    let value = value.as_bytes();
    const TYPE: &[u8] = b"application/grpc";
    value.len() >= TYPE.len()
        && value[..TYPE.len()].eq_ignore_ascii_case(TYPE)
        && matches!(value.get(TYPE.len()), None | Some(b'+' | b';' | b' '))
}

/// The code in headers or trailers. None if there is none; `Some(None)` if it cannot be read.
pub fn grpc_status(headers: &HeaderMap) -> Option<Option<u16>> {
    headers.get(GRPC_STATUS).map(parse)
}

fn parse(value: &HeaderValue) -> Option<u16> {
    let text = value.to_str().ok()?;
    // `parse` would take a sign, too.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// The code that an HTTP status without a `grpc-status` means.
pub fn code_of_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => Codes::INTERNAL,
        401 => Codes::UNAUTHENTICATED,
        403 => Codes::PERMISSION_DENIED,
        404 => Codes::UNIMPLEMENTED,
        429 | 502..=504 => Codes::UNAVAILABLE,
        _ => Codes::UNKNOWN,
    }
}

/// The HTTP status that says what a code says, to those who do not speak gRPC.
pub fn status_of_code(code: u16) -> StatusCode {
    match code {
        Codes::OK => StatusCode::OK,
        // CLIENT CLOSED REQUEST: by custom, not by a standard.
        Codes::CANCELLED => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Codes::INVALID_ARGUMENT | Codes::FAILED_PRECONDITION | Codes::OUT_OF_RANGE => {
            StatusCode::BAD_REQUEST
        }
        Codes::DEADLINE_EXCEEDED => StatusCode::GATEWAY_TIMEOUT,
        Codes::NOT_FOUND => StatusCode::NOT_FOUND,
        Codes::ALREADY_EXISTS | Codes::ABORTED => StatusCode::CONFLICT,
        Codes::PERMISSION_DENIED => StatusCode::FORBIDDEN,
        Codes::RESOURCE_EXHAUSTED => StatusCode::TOO_MANY_REQUESTS,
        Codes::UNIMPLEMENTED => StatusCode::NOT_IMPLEMENTED,
        Codes::UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
        Codes::UNAUTHENTICATED => StatusCode::UNAUTHORIZED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The code that an HTTP/2 RST_STREAM with this error code means.
pub fn code_of_reset(reason: u32) -> u16 {
    match reason {
        // REFUSED_STREAM
        7 => Codes::UNAVAILABLE,
        // CANCEL
        8 => Codes::CANCELLED,
        // ENHANCE_YOUR_CALM
        11 => Codes::RESOURCE_EXHAUSTED,
        // INADEQUATE_SECURITY
        12 => Codes::PERMISSION_DENIED,
        _ => Codes::INTERNAL,
    }
}

// How long `grpc-retry-pushback-ms` asks to leave the endpoint alone. Negative or unreadable is no hint how long to wait;
// what it means for retries is theirs.
fn pushback(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(GRPC_RETRY_PUSHBACK_MS)?.to_str().ok()?.trim();
    let millis: i32 = value.parse().ok()?;
    u64::try_from(millis).ok().map(Duration::from_millis)
}

/// `grpc-status` and `grpc-message`, for trailers or for the headers of a trailers-only response.
pub(crate) fn status_headers(code: u16, message: &str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    if let Ok(message) = HeaderValue::try_from(percent_encode(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    headers
}

// Printable ASCII but for the percent sign stays as it is; every other byte is %XX (the gRPC specification's rule).
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let hex = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
            encoded.push('%');
            encoded.push(hex(byte >> 4).to_ascii_uppercase());
            encoded.push(hex(byte & 15).to_ascii_uppercase());
        }
    }
    encoded
}

// === impl GrpcClassifier ===

impl GrpcClassifier {
    /// Failures are these codes.
    pub fn new(codes: Codes, fidelity: Fidelity) -> Self {
        Self { codes, fidelity }
    }

    fn is_mesh(&self) -> bool {
        self.fidelity == Fidelity::Mesh
    }

    fn by_code(&self, code: u16, headers: &HeaderMap) -> Outcome {
        let rate_limited = code == Codes::RESOURCE_EXHAUSTED;
        let mut outcome = Outcome::new(if self.codes.contains(code) {
            Verdict::Failure
        } else {
            Verdict::Success
        });
        outcome.rate_limited = rate_limited;
        outcome.retry_after = pushback(headers);
        outcome
    }

    // No status that can be read. Difference::GrpcMissingStatus.
    fn unreadable(&self, code: u16, headers: &HeaderMap) -> Outcome {
        if self.is_mesh() {
            return Outcome::SUCCESS;
        }
        self.by_code(code, headers)
    }
}

impl ClassifyResponse for GrpcClassifier {
    type Eos = GrpcEos;

    fn classify_response(self, status: StatusCode, headers: &HeaderMap) -> Classified<GrpcEos> {
        match grpc_status(headers) {
            Some(Some(code)) => Classified::Ready(self.by_code(code, headers)),
            Some(None) => Classified::Ready(self.unreadable(Codes::UNKNOWN, headers)),
            None if status != StatusCode::OK => {
                Classified::Ready(self.unreadable(code_of_status(status), headers))
            }
            // Some page. What has no content type at all may still end with a status.
            None if !is_grpc(headers) && headers.contains_key(http::header::CONTENT_TYPE) => {
                Classified::Ready(self.unreadable(Codes::UNKNOWN, headers))
            }
            None => Classified::AtEnd(GrpcEos(self)),
        }
    }

    fn classify_error(self, _: &BoxError) -> Outcome {
        Outcome::FAILURE
    }
}

// === impl GrpcEos ===

impl ClassifyEos for GrpcEos {
    fn classify_eos(self, trailers: Option<&HeaderMap>) -> Outcome {
        let empty = HeaderMap::new();
        let trailers = trailers.unwrap_or(&empty);
        match grpc_status(trailers) {
            Some(Some(code)) => self.0.by_code(code, trailers),
            Some(None) | None => self.0.unreadable(Codes::UNKNOWN, trailers),
        }
    }

    fn classify_error(self, _: &BoxError) -> Outcome {
        Outcome::FAILURE
    }

    fn classify_drop(self) -> Outcome {
        if self.0.is_mesh() {
            Outcome::SUCCESS
        } else {
            Outcome::NEUTRAL
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_static(value);
                (HeaderName::from_static(name), value)
            })
            .collect()
    }

    // What the head and the end say in this fidelity.
    fn judge(
        fidelity: Fidelity,
        status: u16,
        head: &[(&'static str, &'static str)],
        end: End,
    ) -> (Verdict, bool) {
        let classifier = GrpcClassifier::new(crate::policy::Failures::by(fidelity).codes, fidelity);
        let status = StatusCode::from_u16(status).unwrap();
        let outcome = match classifier.classify_response(status, &headers(head)) {
            Classified::Ready(outcome) => outcome,
            Classified::AtEnd(eos) => match end {
                End::Unread => panic!("the head should have been enough"),
                End::Trailers(list) => eos.classify_eos(Some(&headers(list))),
                End::Bare => eos.classify_eos(None),
                End::Dropped => eos.classify_drop(),
                End::Broken => eos.classify_error(&"reset".into()),
            },
        };
        (outcome.verdict, outcome.rate_limited)
    }

    #[derive(Clone, Copy, Debug)]
    enum End {
        Unread,
        Trailers(&'static [(&'static str, &'static str)]),
        Bare,
        Dropped,
        Broken,
    }

    #[test]
    fn the_documented_table_row_by_row() {
        use End::{Bare, Broken, Dropped, Trailers, Unread};
        use Verdict::{Failure, Neutral, Success};
        const GRPC: (&str, &str) = ("content-type", "application/grpc");
        const HTML: (&str, &str) = ("content-type", "text/html");
        let status = |code| ("grpc-status", code);
        type Row = (
            u16,
            Vec<(&'static str, &'static str)>,
            End,
            Verdict,
            Verdict,
        );
        let mut rows: Vec<Row> = vec![
            // A status that cannot be read.
            (200, vec![GRPC, status("99")], Unread, Failure, Failure),
            (200, vec![GRPC, status("70000")], Unread, Success, Failure),
            (200, vec![GRPC, status("x")], Unread, Success, Failure),
            (200, vec![GRPC, status("-1")], Unread, Success, Failure),
            (200, vec![GRPC, status("+2")], Unread, Success, Failure),
            (
                200,
                vec![GRPC],
                Trailers(&[("grpc-status", "99")]),
                Failure,
                Failure,
            ),
            (
                200,
                vec![GRPC],
                Trailers(&[("grpc-status", "x")]),
                Success,
                Failure,
            ),
            (
                200,
                vec![GRPC],
                Trailers(&[("x-other", "1")]),
                Success,
                Failure,
            ),
            // No status.
            (200, vec![HTML], Unread, Success, Failure),
            (400, vec![HTML], Unread, Success, Failure),
            (401, vec![HTML], Unread, Success, Success),
            (403, vec![HTML], Unread, Success, Success),
            (404, vec![HTML], Unread, Success, Success),
            (429, vec![], Unread, Success, Failure),
            (502, vec![GRPC], Unread, Success, Failure),
            (503, vec![HTML], Unread, Success, Failure),
            (504, vec![], Unread, Success, Failure),
            (418, vec![], Unread, Success, Failure),
            (500, vec![], Unread, Success, Failure),
            (204, vec![], Unread, Success, Failure),
            (200, vec![GRPC], Bare, Success, Failure),
            (200, vec![], Bare, Success, Failure),
            (200, vec![GRPC], Dropped, Success, Neutral),
            (200, vec![GRPC], Broken, Failure, Failure),
            // A status beats the HTTP status.
            (503, vec![status("0")], Unread, Success, Success),
        ];
        let names = [
            "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
            "16",
        ];
        for (code, name) in names.into_iter().enumerate() {
            let fails = |codes: Codes| {
                if codes.contains(code as u16) {
                    Failure
                } else {
                    Success
                }
            };
            let (mesh, ours) = (fails(Codes::MESH), fails(Codes::EXTENDED));
            rows.push((200, vec![GRPC, status(name)], Unread, mesh, ours));
            let trailers: &'static [_] = Box::leak(vec![("grpc-status", name)].into_boxed_slice());
            rows.push((200, vec![GRPC], Trailers(trailers), mesh, ours));
        }
        for (http, head, end, mesh, ours) in rows {
            let row = format!("{http} {head:?} {end:?}");
            assert_eq!(
                judge(Fidelity::Mesh, http, &head, end).0,
                mesh,
                "mesh: {row}"
            );
            assert_eq!(
                judge(Fidelity::Extended, http, &head, end).0,
                ours,
                "ours: {row}"
            );
            let limited = judge(Fidelity::Extended, http, &head, end).1;
            assert_eq!(limited, row.contains("\"8\""), "{row}");
        }
    }

    #[test]
    fn resets_by_their_reason() {
        let codes: Vec<_> = (0..14).map(code_of_reset).collect();
        assert_eq!(codes, [13, 13, 13, 13, 13, 13, 13, 14, 1, 13, 13, 8, 7, 13]);
    }

    #[test]
    fn content_types() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("application/grp", false),
            ("", false),
        ] {
            assert_eq!(
                is_grpc(&headers(&[("content-type", value)])),
                grpc,
                "{value}"
            );
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn hints() {
        let hint = |value| pushback(&headers(&[("grpc-retry-pushback-ms", value)]));
        let ms = Duration::from_millis;
        assert_eq!(hint("250"), Some(ms(250)));
        assert_eq!(hint(" 0 "), Some(ms(0)));
        for bad in ["-1", "x", "99999999999", "1.5", ""] {
            assert_eq!(hint(bad), None, "{bad}");
        }
    }
}
