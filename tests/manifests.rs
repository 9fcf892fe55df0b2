//! The manifests of the examples, through the front door.
#![cfg(feature = "kubernetes")]

use std::time::Duration;

use tower_mesh::policy::{ClientPolicy, Fidelity};
use tower_mesh::source::kubernetes::{Error, ErrorKind, Manifests};

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
