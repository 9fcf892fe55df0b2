use super::*;
use crate::body::Body;

fn fallback() -> Fallback {
    Fallback::new(&Endpoint::new(([127, 0, 0, 1], 80).into()).with_server_name("pay.shop"))
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<Outgoing> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Outgoing::new(Body::empty())).unwrap()
}

fn http1(method: &str, uri: &str, headers: &[(&str, &str)]) -> (String, String) {
    let mut request = request(method, uri, headers);
    for_http1(&mut request, &fallback()).unwrap();
    let host = request.headers()[HOST].to_str().unwrap().to_owned();
    (request.uri().to_string(), host)
}

fn http2(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<Outgoing> {
    let mut request = request(method, uri, headers);
    for_http2(&mut request, &fallback(), true).unwrap();
    assert_eq!(request.version(), Version::HTTP_2);
    request
}

#[test]
fn http1_is_origin_form_with_a_host() {
    for (method, uri, host, want) in [
        (
            "GET",
            "http://a.shop:8080/x?y=1",
            None,
            ("/x?y=1", "a.shop:8080"),
        ),
        ("GET", "https://me:secret@a.shop", None, ("/", "a.shop")),
        ("GET", "http://a.shop/x", Some("b.shop"), ("/x", "b.shop")),
        ("GET", "/x", None, ("/x", "pay.shop")),
        ("GET", "/x", Some("b.shop"), ("/x", "b.shop")),
        ("OPTIONS", "*", None, ("*", "pay.shop")),
        ("CONNECT", "a.shop:443", None, ("a.shop:443", "a.shop:443")),
        ("GET", "http://[::1]:80/", None, ("/", "[::1]:80")),
    ] {
        let headers: Vec<_> = host.map(|host| ("host", host)).into_iter().collect();
        let (uri, host) = http1(method, uri, &headers);
        assert_eq!((uri.as_str(), host.as_str()), want);
    }
}

#[test]
fn http1_has_a_version_that_hyper_does_not_panic_on() {
    for (version, want) in [
        (Version::HTTP_09, Version::HTTP_11),
        (Version::HTTP_10, Version::HTTP_10),
        (Version::HTTP_2, Version::HTTP_11),
        (Version::HTTP_3, Version::HTTP_11),
    ] {
        let mut request = request("GET", "/", &[]);
        *request.version_mut() = version;
        for_http1(&mut request, &fallback()).unwrap();
        assert_eq!(request.version(), want);
    }
}

#[test]
fn http2_is_absolute_form_without_a_host() {
    for (method, uri, host, want) in [
        (
            "GET",
            "http://a.shop:8080/x?y=1",
            None,
            "http://a.shop:8080/x?y=1",
        ),
        ("GET", "http://me@a.shop", None, "http://a.shop/"),
        ("GET", "http://a.shop/x", Some("b.shop"), "http://b.shop/x"),
        ("GET", "/x", None, "https://pay.shop/x"),
        ("GET", "/x", Some("b.shop:81"), "https://b.shop:81/x"),
        ("CONNECT", "a.shop:443", Some("b.shop"), "a.shop:443"),
    ] {
        let headers: Vec<_> = host.map(|host| ("host", host)).into_iter().collect();
        let request = http2(method, uri, &headers);
        assert_eq!(request.uri().to_string(), want);
        assert!(!request.headers().contains_key(HOST));
    }
}

#[test]
fn http2_drops_what_concerns_one_connection() {
    let request = http2(
        "GET",
        "/",
        &[
            ("connection", "keep-alive, X-Hop, te"),
            ("keep-alive", "5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-hop", "1"),
            ("x-end", "1"),
            ("te", "gzip, Trailers"),
        ],
    );
    let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["te", "x-end"]);
    assert_eq!(request.headers()[TE], "trailers");
    assert!(
        !http2("GET", "/", &[("te", "gzip")])
            .headers()
            .contains_key(TE)
    );
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let mut no_target = request("CONNECT", "/x", &[]);
    assert!(matches!(
        for_http1(&mut no_target, &fallback()),
        Err(Unsendable::NoTarget)
    ));
    let mut no_target = request("CONNECT", "/x", &[]);
    assert!(matches!(
        for_http2(&mut no_target, &fallback(), false),
        Err(Unsendable::NoTarget)
    ));
    let mut bad_host = request("GET", "/x", &[("host", "a b")]);
    assert!(matches!(
        for_http2(&mut bad_host, &fallback(), false),
        Err(Unsendable::Host(_))
    ));
    let mut body = request("CONNECT", "a:1", &[]).map(|_| Outgoing::new("x".into()));
    assert!(matches!(
        for_http2(&mut body, &fallback(), false),
        Err(Unsendable::ConnectBody)
    ));
}

#[test]
fn a_server_name_that_is_no_host_is_not_asked_for() {
    let endpoint = Endpoint::new(([127, 0, 0, 1], 80).into()).with_server_name("a b");
    let mut request = request("GET", "/x", &[]);
    for_http1(&mut request, &Fallback::new(&endpoint)).unwrap();
    assert_eq!(request.headers()[HOST], "127.0.0.1:80");
}

#[test]
fn http1_announces_a_body_of_unknown_length() {
    use bytes::Bytes;
    use http_body_util::StreamBody;
    let stream = || {
        Body::new(StreamBody::new(tokio_stream::pending::<
            Result<http_body::Frame<Bytes>, std::io::Error>,
        >()))
    };
    let chunked = |method: &str, headers: &[(&str, &str)], body: Body| {
        let request = request(method, "http://a.shop/", headers);
        let mut request = request.map(|_| Outgoing::new(body));
        for_http1(&mut request, &fallback()).unwrap();
        request.headers().contains_key(TRANSFER_ENCODING)
    };
    assert!(chunked("GET", &[], stream()));
    assert!(chunked("HEAD", &[], stream()));
    // hyper does it itself, or there is nothing to do.
    assert!(!chunked("POST", &[], stream()));
    assert!(!chunked("GET", &[("content-length", "7")], stream()));
    assert!(!chunked("GET", &[], Body::from("whole")));
    assert!(!chunked("GET", &[], Body::empty()));
}
