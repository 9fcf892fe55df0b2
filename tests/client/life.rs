//! A client's own life: how it is built, where it runs, how it is closed.

use tokio::sync::watch;
use tower_mesh::client::BuildError;
use tower_mesh::discover::{Endpoints, Update};
use tower_mesh::policy::{ClientPolicy, RouteDistribution};
use tower_mesh::{Client, Endpoint, ErrorKind};

use crate::backend;
use crate::support::routes::policy_to;
use crate::support::{Mesh, address, addresses, get, ms, ok, plain, s, served};

#[tokio::test(start_paused = true)]
async fn close_waits_for_the_last_body_and_refuses_the_rest() {
    let client = Mesh::new(|_, _| ok()).client(plain(), addresses(1));
    let response = client.request(get()).await.unwrap();
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    tokio::time::sleep(s(1)).await;
    assert!(!closing.is_finished());
    assert_eq!(
        client.request(get()).await.unwrap_err().kind(),
        &ErrorKind::Closed
    );
    drop(response);
    closing.await.unwrap();
}

#[test]
fn a_client_outlives_the_runtimes_it_is_called_in() {
    let mesh = Mesh::new(|_, _| ok());
    let (sender, receiver) = watch::channel(vec![Endpoint::new(address(1))]);
    // Built outside any runtime.
    let client = mesh.client(plain(), receiver);
    for n in 1..=3 {
        sender.send_replace(vec![Endpoint::new(address(n))]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            client.ready(s(1)).await.unwrap();
            tokio::time::sleep(ms(1)).await;
            assert_eq!(
                served(&client.request(get()).await.unwrap()).endpoint,
                address(n)
            );
        });
    }
    drop(client);
    assert!(sender.is_closed(), "the last clone ends its driver");
}

#[test]
fn builders_say_what_is_wrong() {
    let mesh = Mesh::new(|_, _| ok());
    let policy = || ClientPolicy::http().named("web").build().unwrap();
    let error = Client::builder(policy())
        .endpoints(["10.0.0.1"])
        .build(mesh.connect())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"10.0.0.1\" is no endpoint: expected a port, too, such as 10.0.0.7:8080 or [fd00::7]:8080"
    );
    let error = Client::builder(policy()).build(mesh.connect()).unwrap_err();
    assert!(
        matches!(error, BuildError::NoEndpoints { .. })
            && error.to_string().contains(".endpoints_of(\"web\", [..])"),
        "{error}"
    );
    let error = Client::builder(policy())
        .endpoints(addresses(1))
        .endpoints_of("wbe", addresses(1))
        .build(mesh.connect())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"wbe\", which is no backend of the policy; its backends are default.web"),
        "{error}"
    );
    let two =
        policy_to(RouteDistribution::first_available([backend("v1"), backend("v2")]).unwrap());
    let stream = Endpoints::stream(tokio_stream::empty::<Result<Update, std::io::Error>>());
    assert_eq!(
        Client::builder(two)
            .endpoints(stream)
            .build(mesh.connect())
            .unwrap_err(),
        BuildError::OneStream
    );
}
