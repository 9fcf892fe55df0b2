//! Policies and endpoints that change, or have not come yet.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tower_mesh::discover::{Endpoints, Update};
use tower_mesh::policy::{ClientPolicy, FailureAccrual, Fidelity};
use tower_mesh::{BoxError, Client, Endpoint, Error, ErrorKind};

use crate::support::{
    Log, Mesh, Reply, address, addresses, ejected, get, ms, ok, plain, s, served, updates,
};

#[tokio::test(start_paused = true)]
async fn policies_swap_without_forgetting_what_was_learned() {
    let mesh = Mesh::new(|at, _| {
        if at == address(1) {
            Reply::Status(500, ms(50))
        } else {
            Reply::Status(200, ms(50))
        }
    });
    let policy = |max| {
        ClientPolicy::http()
            .failure_accrual(FailureAccrual::consecutive(max))
            .build()
            .unwrap()
    };
    let (sender, receiver) = watch::channel(None);
    let log = Log::default();
    let client = Client::builder(receiver)
        .endpoints(addresses(2))
        .observer(log.observer())
        .build(mesh.connect())
        .unwrap();
    let early = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(10)).await;
    assert!(
        client
            .ready(ms(1))
            .await
            .unwrap_err()
            .missing()
            .contains(&"a policy".to_owned())
    );
    sender.send(Some(policy(1))).unwrap();
    client.ready(s(1)).await.unwrap();
    early.await.unwrap().unwrap();
    for _ in 0..10 {
        client.request(get()).await.unwrap();
    }
    assert_eq!(ejected(&client), 1);
    let flying = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(10)).await;
    sender.send(Some(policy(5))).unwrap();
    tokio::time::sleep(ms(10)).await;
    assert_eq!(log.count("swapped"), 1);
    assert_eq!(ejected(&client), 1, "still");
    assert_eq!(flying.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn no_policy_is_an_error_after_three_seconds() {
    let (_sender, receiver) = watch::channel(None);
    let client = Mesh::new(|_, _| ok()).client(receiver, addresses(2));
    let start = Instant::now();
    assert_eq!(
        client.request(get()).await.unwrap_err().kind(),
        &ErrorKind::NoPolicy
    );
    assert_eq!((Instant::now() - start).as_millis(), 3000);
}

#[tokio::test(start_paused = true)]
async fn endpoints_come_and_go() {
    let mesh = Mesh::new(|_, _| ok());
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let updates = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    let policy = ClientPolicy::http().named("web").build().unwrap();
    let client = mesh.client(policy, Endpoints::stream(updates));
    let error = client.ready(ms(50)).await.unwrap_err();
    assert_eq!(error.missing(), ["endpoints of default.web"]);
    let waiting = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(100)).await;
    let endpoint = |n| Endpoint::new(address(n));
    let send = async |update: Result<Update, &'static str>| {
        sender.send(update).unwrap();
        // What comes within a few milliseconds is published together.
        tokio::time::sleep(ms(10)).await;
        client
            .snapshot()
            .endpoints()
            .map(|e| e.endpoint.address())
            .collect::<Vec<_>>()
    };
    assert_eq!(send(Ok(Update::Add(vec![endpoint(1)]))).await, [address(1)]);
    let response = waiting.await.unwrap().unwrap();
    assert_eq!(served(&response).waited.as_millis(), 100);
    assert_eq!(
        send(Ok(Update::Add(vec![endpoint(2), endpoint(1)]))).await,
        addresses(2)
    );
    assert_eq!(
        send(Err("the source is unwell")).await,
        addresses(2),
        "what is known stays"
    );
    assert_eq!(
        send(Ok(Update::Remove(vec![address(1)]))).await,
        [address(2)]
    );
    assert_eq!(
        send(Ok(Update::Reset(vec![endpoint(3)]))).await,
        [address(3)]
    );
    drop(sender);
    assert_eq!(
        served(&client.request(get()).await.unwrap()).endpoint,
        address(3),
        "and when it ends"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_does_not_exist() {
    let mesh = Mesh::new(|_, _| ok());
    let policy = |fidelity| ClientPolicy::http().fidelity(fidelity).named("web").build();
    let (say, endpoints) = updates();
    let client = mesh.client(policy(Fidelity::Extended).unwrap(), endpoints);
    let waiting = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(100)).await;
    let send = async |update: Update| {
        say(update);
        tokio::time::sleep(ms(10)).await;
        let begun = Instant::now();
        let result = client.request(get()).await;
        (result.err(), Instant::now() - begun)
    };
    let endpoint = || vec![Endpoint::new(address(1))];
    let (error, waited) = send(Update::DoesNotExist).await;
    let error = error.unwrap();
    assert_eq!(error.kind().name(), "no_endpoints");
    assert!(error.to_string().contains("does not exist"), "{error}");
    assert!(error.is_local() && error.attempts() == 0);
    assert_eq!(waited, Duration::ZERO);
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind().name(), "no_endpoints", "and who waited hears");
    // It comes into being, and is scaled to zero.
    assert!(send(Update::Add(endpoint())).await.0.is_none());
    let (error, waited) = send(Update::Reset(Vec::new())).await;
    assert!(error.unwrap().to_string().contains("scaled to zero"));
    assert_eq!(waited, Duration::ZERO);
    // The last of them leaves: others may be about to come.
    assert!(send(Update::Reset(endpoint())).await.0.is_none());
    let (error, waited) = send(Update::Remove(vec![address(1)])).await;
    assert_eq!(error.unwrap().kind().name(), "fail_fast");
    assert!(waited > ms(500), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_is_a_word_and_an_empty_watch_is_none_yet() {
    let mesh = Mesh::new(|_, _| ok());
    let refused = async |endpoints: Endpoints, fidelity| {
        let policy = ClientPolicy::http().fidelity(fidelity).named("web").build();
        let client = mesh.client(policy.unwrap(), endpoints);
        let begun = Instant::now();
        let error = client.request(get()).await.unwrap_err();
        (error.kind().name(), Instant::now() > begun)
    };
    let none = || Endpoints::from(Vec::<Endpoint>::new());
    let (sender, receiver) = watch::channel(Vec::new());
    let at_once = ("no_endpoints", false);
    let late = ("fail_fast", true);
    assert_eq!(refused(none(), Fidelity::Extended).await, at_once);
    assert_eq!(refused(none(), Fidelity::Mesh).await, late);
    assert_eq!(
        refused(receiver.clone().into(), Fidelity::Extended).await,
        late
    );
    // Said while somebody waits, it is.
    let waiting = refused(receiver.into(), Fidelity::Extended);
    let says = async {
        tokio::time::sleep(ms(100)).await;
        sender.send(Vec::new()).unwrap();
    };
    assert_eq!(tokio::join!(waiting, says).0, ("no_endpoints", true));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_returns_is_remembered() {
    let mesh = Mesh::new(|_, _| Reply::Status(500, ms(1)));
    let (sender, receiver) = watch::channel(vec![Endpoint::new(address(1))]);
    let policy = ClientPolicy::http()
        .failure_accrual(FailureAccrual::consecutive(1))
        .build()
        .unwrap();
    let client = mesh.client(policy, receiver);
    client.request(get()).await.unwrap();
    let known = || (client.snapshot().endpoints().count(), ejected(&client));
    assert_eq!(known(), (1, 1));
    sender.send(vec![]).unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(known(), (0, 0));
    sender
        .send(vec![Endpoint::new(address(1)).with_label("zone", "b")])
        .unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(known(), (1, 1));
    // After ten minutes it is a new one.
    sender.send(vec![]).unwrap();
    tokio::time::sleep(s(601)).await;
    sender.send(vec![Endpoint::new(address(2))]).unwrap();
    tokio::time::sleep(ms(1)).await;
    sender.send(vec![Endpoint::new(address(1))]).unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(known(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_policy_that_will_not_come() {
    let mesh = Mesh::new(|_, _| ok());
    let start = Instant::now();
    // The sender was gone before anybody asked; it goes while somebody waits; its last word is a policy.
    let (sender, receiver) = watch::channel(None);
    drop(sender);
    let early = mesh.client(receiver, addresses(2));
    let error = early.request(get()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::PolicyEnded);
    let error = early.ready(s(1)).await.unwrap_err();
    assert_eq!(error.missing(), ["a policy, whose source has ended"]);
    assert_eq!(Instant::now() - start, ms(0));

    let (sender, receiver) = watch::channel(None);
    let client = mesh.client(receiver, addresses(2));
    let waiting = tokio::spawn(client.request(get()));
    let ready = tokio::spawn(async move { client.ready(s(1)).await });
    tokio::time::sleep(ms(10)).await;
    drop(sender);
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::PolicyEnded);
    assert!(ready.await.unwrap().is_err());
    assert_eq!(Instant::now() - start, ms(10));

    let (sender, receiver) = watch::channel(None);
    let client = mesh.client(receiver, addresses(2));
    let waiting = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(10)).await;
    sender.send(Some(plain())).unwrap();
    drop(sender);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    client.ready(s(1)).await.unwrap();
    assert_eq!(client.request(get()).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_endpoints_that_will_not_come() {
    let mesh = Mesh::new(|_, _| ok());
    let start = Instant::now();
    let refused = |error: &Error| match error.kind() {
        ErrorKind::NoEndpoints { why, .. } => why.contains("has ended"),
        _ => false,
    };
    // Gone before anybody asked, by watch and by stream.
    let (sender, receiver) = watch::channel(Vec::new());
    drop(sender);
    let silent = Endpoints::stream(tokio_stream::empty::<Result<Update, BoxError>>());
    for endpoints in [receiver.into(), silent] {
        let client = mesh.client(plain(), endpoints);
        let error = client.request(get()).await.unwrap_err();
        assert!(refused(&error), "{error}");
        let missing = client.ready(s(1)).await.unwrap_err();
        let name = "endpoints of default.http, whose source has ended";
        assert_eq!(missing.missing(), [name]);
    }
    assert_eq!(Instant::now() - start, ms(0));
    // While somebody waits.
    let (sender, receiver) = watch::channel(Vec::new());
    let client = mesh.client(plain(), receiver);
    let waiting = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(10)).await;
    drop(sender);
    let error = waiting.await.unwrap().unwrap_err();
    assert!(refused(&error), "{error}");
    assert_eq!(Instant::now() - start, ms(10));
    // The last one has left; and what was known stays in use.
    let (send, endpoints) = updates();
    let client = mesh.client(plain(), endpoints);
    send(Update::Add(vec![Endpoint::new(address(1))]));
    client.request(get()).await.unwrap();
    send(Update::Remove(vec![address(1)]));
    let waiting = tokio::spawn(client.request(get()));
    tokio::time::sleep(ms(10)).await;
    drop(send);
    let error = waiting.await.unwrap().unwrap_err();
    assert!(refused(&error), "{error}");
    let (sender, receiver) = watch::channel(vec![Endpoint::new(address(1))]);
    drop(sender);
    let client = mesh.client(plain(), receiver);
    for _ in 0..2 {
        assert_eq!(client.request(get()).await.unwrap().status(), 200);
    }
}
