//! A client over DNS, in virtual time.

mod support;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Log, Mesh, get, ms, ok, s};
use tower_mesh::discover::{Family, Looked, Lookup, LookupError, Records, Service, dns};
use tower_mesh::policy::ClientPolicy;
use tower_mesh::{Client, ErrorKind, Served};

/// What the one name has: nothing if it does not exist, an error if nobody answers.
#[derive(Clone)]
struct Zone(Arc<Mutex<Result<Option<Vec<IpAddr>>, ()>>>);

impl Lookup for Zone {
    fn addresses<'a>(&'a self, host: &'a str, family: Family) -> Looked<'a, IpAddr> {
        assert_eq!(host, "payments.shop.svc");
        let ttl = Some(s(10));
        let answer = match self.0.lock().unwrap().clone() {
            Ok(Some(mut records)) => {
                records.retain(|ip| ip.is_ipv4() == (family == Family::V4));
                Ok(Records { records, ttl })
            }
            Ok(None) => Err(LookupError::DoesNotExist { ttl }),
            Err(()) => Err(LookupError::Failed("nobody answers".into())),
        };
        Box::pin(async { answer })
    }

    fn services<'a>(&'a self, _: &'a str) -> Looked<'a, Service> {
        unreachable!("no service was asked for")
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_follows_a_name() {
    let zone = Zone(Arc::new(Mutex::new(Ok(Some(vec![[10, 0, 0, 1].into()])))));
    let say = |what| *zone.0.lock().unwrap() = what;
    let mesh = Mesh::new(|_, _| ok());
    let log = Log::default();
    let client = Client::builder(ClientPolicy::http().named("payments").build().unwrap())
        .endpoints(dns("payments.shop.svc:50051").lookup(zone.clone()))
        .observer(log.observer())
        .build(mesh.connect())
        .unwrap();
    let served = async || {
        let response = client.request(get()).await?;
        let served: &Served = response.extensions().get().unwrap();
        Ok::<_, tower_mesh::Error>(served.endpoint.to_string())
    };
    assert_eq!(served().await.unwrap(), "10.0.0.1:50051");
    say(Ok(Some(vec![[10, 0, 0, 2].into()])));
    tokio::time::sleep(s(11)).await;
    assert_eq!(served().await.unwrap(), "10.0.0.2:50051");
    // An outage of DNS is none of the service.
    say(Err(()));
    tokio::time::sleep(s(600)).await;
    assert_eq!(served().await.unwrap(), "10.0.0.2:50051");
    let failures = log.count("discovery_failed");
    assert!((20..30).contains(&failures), "{failures}");
    // It is gone, and nobody waits for it; it comes back.
    say(Ok(None));
    tokio::time::sleep(s(31)).await;
    let begun = tokio::time::Instant::now();
    let error = served().await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::NoEndpoints { .. }),
        "{error}"
    );
    assert_eq!(tokio::time::Instant::now() - begun, Duration::ZERO);
    say(Ok(Some(vec![[10, 0, 0, 3].into()])));
    tokio::time::sleep(s(10) + ms(1)).await;
    assert_eq!(served().await.unwrap(), "10.0.0.3:50051");
}

#[test]
fn a_bad_name_is_found_when_the_client_is_built() {
    let mesh = Mesh::new(|_, _| ok());
    let error = Client::builder(ClientPolicy::http().named("payments").build().unwrap())
        .endpoints(dns("payments.shop.svc"))
        .build(mesh.connect())
        .err()
        .unwrap();
    assert!(error.to_string().contains("a name and a port"), "{error}");
}
