//! The manifests of the examples, through the front door.
#![cfg(feature = "kubernetes")]

use std::time::Duration;

use tower_mesh::policy::{ClientPolicy, Fidelity};
use tower_mesh::source::kubernetes::{Error, ErrorKind, Explanation, Manifests, Severity};

fn folder() -> Result<Manifests, Error> {
    Manifests::from_path(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/manifests"))
}

#[test]
fn the_folder_of_examples() -> Result<(), Error> {
    let policy: ClientPolicy = folder()?.resolve("payments.shop:8080")?;
    assert_eq!(policy.fidelity, Fidelity::Extended);
    let http = policy.for_version(http::Version::HTTP_11);
    let accrual = http.failure_accrual.as_ref();
    assert_eq!(accrual.map(|a| a.max_consecutive_failures()), Some(4));
    let params = &http.routes[0].rules[0].policy.params;
    assert_eq!(params.timeouts.request, Some(Duration::from_secs(2)));
    assert_eq!(params.retry.as_ref().map(|r| r.max_retries()), Some(2));
    assert_eq!(folder()?.diagnostics(), []);
    Ok(())
}

#[test]
fn an_error_has_all_of_them() {
    let text = "apiVersion: v1
kind: Service
metadata: {name: a, annotations: {retry.linkerd.io/limit: 3, timeout.linkerd.io/request: 5}}
spec: {ports: [{port: '80'}]}
";
    let error = Manifests::parse_named("a.yaml", text).unwrap_err();
    let columns = error
        .diagnostics()
        .iter()
        .filter(|one| one.severity == Severity::Error);
    let columns: Vec<_> = columns.map(|one| (one.line, one.column)).collect();
    assert_eq!(
        columns,
        [
            (Some(3), Some(59)),
            (Some(3), Some(90)),
            (Some(4), Some(23))
        ]
    );
    assert!(
        error
            .to_string()
            .ends_with("; quote it: \"3\" (and 2 more errors)")
    );
    assert_eq!((error.line(), error.column()), columns[0]);
    let explanation = Explanation::of_error("a.default:80", &error);
    assert_eq!(explanation.diagnostics(), error.diagnostics());
}

#[test]
fn an_error_says_where() {
    let error = Manifests::parse_named("a.yaml", "kind: [\n").unwrap_err();
    assert_eq!(
        (error.kind(), error.file()),
        (ErrorKind::Syntax, Some("a.yaml"))
    );
    assert!(error.line().is_some() && error.column().is_some() && error.key().is_none());
    fn is_send_and_static<T: Send + Sync + Clone + 'static>(_: &T) {}
    is_send_and_static(&error);
    is_send_and_static(&folder().expect("the examples"));
}
