use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::UdpSocket;
use tokio::time::Instant;
use tokio_stream::StreamExt;

use super::follow::Follow;
use super::system::System;
use super::*;
use crate::discover::Update;

#[derive(Clone, Copy)]
enum Say {
    Are(&'static [&'static str], u64),
    Missing(Option<u64>),
    Fail,
}

use Say::{Are, Fail, Missing};

/// Answers as it was told to, and remembers when it was asked.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    addresses: BTreeMap<(String, Family), Say>,
    services: Option<Result<Vec<Service>, ()>>,
    asked: Vec<(Duration, String)>,
    begun: Option<Instant>,
}

impl Script {
    fn say(&self, host: &str, family: Family, say: Say) {
        let key = (host.to_owned(), family);
        self.0.lock().unwrap().addresses.insert(key, say);
    }

    fn both(&self, host: &str, v4: Say, v6: Say) {
        self.say(host, Family::V4, v4);
        self.say(host, Family::V6, v6);
    }

    fn services(&self, services: Result<&[(u16, u16, u16, &str)], ()>) {
        let service = |&(priority, weight, port, target): &(u16, u16, u16, &str)| Service {
            priority,
            weight,
            port,
            target: target.to_owned(),
        };
        self.0.lock().unwrap().services =
            Some(services.map(|all| all.iter().map(service).collect()));
    }

    // When the first of a round was asked, in milliseconds.
    fn rounds(&self, question: &str) -> Vec<u128> {
        let inner = self.0.lock().unwrap();
        let of = inner.asked.iter().filter(|(_, asked)| asked == question);
        of.map(|(at, _)| at.as_millis()).collect()
    }

    fn note(&self, question: String) {
        let mut inner = self.0.lock().unwrap();
        let begun = *inner.begun.get_or_insert_with(Instant::now);
        inner.asked.push((Instant::now() - begun, question));
    }

    fn follow(&self, name: &str) -> Follow {
        let ttl = (Duration::from_secs(1), Duration::from_secs(300));
        let lookup: Arc<dyn Lookup> = Arc::new(self.clone());
        Follow::new(Target::parse(name).unwrap(), ttl, Some(lookup))
    }
}

impl Lookup for Script {
    fn addresses<'a>(&'a self, host: &'a str, family: Family) -> Looked<'a, IpAddr> {
        Box::pin(async move {
            self.note(format!("{host} {family:?}"));
            let said = self.0.lock().unwrap().addresses[&(host.to_owned(), family)];
            match said {
                Are(records, ttl) => Ok(Records {
                    records: records.iter().map(|ip| ip.parse().unwrap()).collect(),
                    ttl: Some(Duration::from_secs(ttl)),
                }),
                Missing(ttl) => Err(LookupError::DoesNotExist {
                    ttl: ttl.map(Duration::from_secs),
                }),
                Fail => Err(LookupError::Failed("no answer".into())),
            }
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> Looked<'a, Service> {
        Box::pin(async move {
            self.note(name.to_owned());
            match self.0.lock().unwrap().services.clone().unwrap() {
                Ok(records) => Ok(Records {
                    records,
                    ttl: Some(Duration::from_secs(30)),
                }),
                Err(()) => Err(LookupError::Failed("no answer".into())),
            }
        })
    }
}

fn reset(addresses: &[&str]) -> Update {
    let endpoint = |at: &&str| Endpoint::new(at.parse().unwrap());
    Update::Reset(addresses.iter().map(endpoint).collect())
}

// What is said next; the text of an error.
async fn next(follow: &mut Follow) -> Result<Update, String> {
    let said = follow.next().await.unwrap();
    said.map_err(|error| error.to_string())
}

// Nothing is said for so long.
async fn silent(follow: &mut Follow, seconds: f64) {
    let next = tokio::time::timeout(Duration::from_secs_f64(seconds), follow.next());
    assert!(next.await.is_err());
}

#[test]
fn names_are_checked_when_they_are_given() {
    let host = |host: &str, port| {
        Some(Target::Host {
            host: host.to_owned(),
            port,
        })
    };
    let parse = Target::parse;
    assert_eq!(
        parse("payments.shop.svc:50051"),
        host("payments.shop.svc", 50051)
    );
    assert_eq!(parse("payments.:1"), host("payments.", 1));
    assert_eq!(
        parse("[::1]:80"),
        Some(Target::Literal("[::1]:80".parse().unwrap()))
    );
    let service = Some(Target::Service("_grpc._tcp.a".to_owned()));
    assert_eq!(parse("_grpc._tcp.a"), service);
    let long = format!("{}:1", "a".repeat(64));
    let bad = [
        "",
        ":80",
        "a",
        "a:",
        "a:0",
        "a:65536",
        "a b:1",
        "a..b:1",
        "_grpc.a",
        "_a._b.c d",
        "a:1:2",
        "http://a:1",
        &long,
    ];
    for name in bad {
        assert_eq!(parse(name), None, "{name:?}");
        let endpoints = Endpoints::from(dns(name));
        let error = endpoints.check().unwrap_err().to_string();
        assert!(error.contains("_grpc._tcp"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn asks_again_when_the_time_is_up_and_says_what_is_new() {
    let script = Script::default();
    script.both(
        "web",
        Are(&["10.0.0.2", "10.0.0.1"], 20),
        Are(&["fd00::1"], 60),
    );
    let mut follow = script.follow("web:80");
    let all = reset(&["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]);
    assert_eq!(next(&mut follow).await, Ok(all));
    // The same in another order is nothing new.
    script.both(
        "web",
        Are(&["10.0.0.1", "10.0.0.2"], 0),
        Are(&["fd00::1"], 60),
    );
    silent(&mut follow, 22.5).await;
    // Not more often than once a second; and not less than every five minutes.
    script.both("web", Are(&["10.0.0.1"], 9999), Are(&[], 9999));
    assert_eq!(next(&mut follow).await, Ok(reset(&["10.0.0.1:80"])));
    silent(&mut follow, 400.5).await;
    let rounds = [0, 20_000, 21_000, 22_000, 23_000, 323_000];
    let asked = script.rounds("web V4");
    assert_eq!(asked, rounds);
    assert_eq!(asked, script.rounds("web V6"));
}

#[tokio::test(start_paused = true)]
async fn what_was_known_stays_while_lookups_fail() {
    let script = Script::default();
    script.both("web", Fail, Fail);
    let mut follow = script.follow("web:80");
    let error = next(&mut follow).await.unwrap_err();
    assert_eq!(error, "looking up web in DNS: no answer");
    // Half of it is better than nothing, and is told with what is missing.
    script.both("web", Are(&["10.0.0.1"], 5), Fail);
    assert_eq!(next(&mut follow).await, Ok(reset(&["10.0.0.1:80"])));
    assert!(next(&mut follow).await.is_err());
    script.both("web", Are(&["10.0.0.1"], 5), Are(&["fd00::1"], 5));
    let all = reset(&["10.0.0.1:80", "[fd00::1]:80"]);
    assert_eq!(next(&mut follow).await, Ok(all));
    // One family fails, the other moves: the first keeps what it had.
    script.both("web", Are(&["10.0.0.9"], 5), Fail);
    let moved = reset(&["10.0.0.9:80", "[fd00::1]:80"]);
    assert_eq!(next(&mut follow).await, Ok(moved));
    assert!(next(&mut follow).await.is_err());
    // A long outage is told each time, and asked less and less often.
    script.both("web", Fail, Fail);
    let from = script.rounds("web V4").len();
    for _ in 0..7 {
        assert!(next(&mut follow).await.is_err());
    }
    let rounds = script.rounds("web V4");
    let gaps: Vec<_> = rounds[from - 1..].windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(gaps, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_exist_and_one_without_records() {
    let script = Script::default();
    script.both("web", Missing(Some(10)), Missing(Some(10)));
    let mut follow = script.follow("web:80");
    assert_eq!(next(&mut follow).await, Ok(Update::DoesNotExist));
    silent(&mut follow, 9.5).await;
    // No address, but a name.
    script.both("web", Are(&[], 7), Are(&[], 7));
    assert_eq!(next(&mut follow).await, Ok(reset(&[])));
    // Nothing of one family and no word of the other is no word.
    script.both("web", Missing(None), Fail);
    assert!(next(&mut follow).await.is_err());
    script.both("web", Are(&["10.0.0.1"], 7), Are(&[], 7));
    assert_eq!(next(&mut follow).await, Ok(reset(&["10.0.0.1:80"])));
    script.both("web", Missing(None), Missing(None));
    assert_eq!(next(&mut follow).await, Ok(Update::DoesNotExist));
    silent(&mut follow, 6.0).await;
    let rounds = script.rounds("web V4");
    assert_eq!(rounds[rounds.len() - 1] - rounds[rounds.len() - 2], 5000);
}

#[tokio::test(start_paused = true)]
async fn services_have_priorities_weights_and_ports() {
    let script = Script::default();
    script.services(Ok(&[
        (1, 0, 90, "spare."),
        (0, 3, 80, "a."),
        (0, 1, 81, "b."),
    ]));
    script.both("a.", Are(&["10.0.0.1"], 10), Are(&[], 10));
    script.both("b.", Are(&["10.0.0.2"], 10), Are(&[], 10));
    script.both("spare.", Are(&["10.0.0.3"], 10), Are(&[], 10));
    let mut follow = script.follow("_grpc._tcp.web");
    let said = async |follow: &mut Follow| match next(follow).await {
        Ok(Update::Reset(all)) => all
            .iter()
            .map(|e| format!("{e} {} {}", e.address(), e.weight()))
            .collect::<Vec<_>>(),
        other => vec![format!("{other:?}")],
    };
    assert_eq!(
        said(&mut follow).await,
        ["a 10.0.0.1:80 1.5", "b 10.0.0.2:81 0.5"]
    );
    assert!(script.rounds("spare. V4").is_empty(), "not needed");
    // The records fail, the targets move on; one of them is gone for good.
    script.services(Err(()));
    script.both("a.", Missing(None), Missing(None));
    script.both("b.", Are(&["10.0.0.2", "10.0.0.4"], 10), Are(&[], 10));
    let both = ["b 10.0.0.2:81 0.25", "b 10.0.0.4:81 0.25"];
    assert_eq!(said(&mut follow).await, both);
    assert!(next(&mut follow).await.is_err());
    // None of the first priority has any: the spare one.
    script.services(Ok(&[(1, 0, 90, "spare."), (0, 3, 80, "a.")]));
    assert_eq!(said(&mut follow).await, ["spare 10.0.0.3:90 1"]);
    script.services(Ok(&[(0, 0, 0, ".")]));
    assert_eq!(next(&mut follow).await, Ok(reset(&[])));
}

// One record, in the form of the wire.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1, 0, 0, 0, 7]);
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

// A server that knows `web.test` and its service; everything else does not exist.
async fn serve(socket: UdpSocket) {
    let mut packet = [0; 1500];
    while let Ok((_, from)) = socket.recv_from(&mut packet).await {
        let mut at = 12;
        let mut labels = Vec::new();
        while packet[at] != 0 {
            let end = at + 1 + usize::from(packet[at]);
            labels.push(String::from_utf8_lossy(&packet[at + 1..end]).to_lowercase());
            at = end;
        }
        let kind = u16::from_be_bytes([packet[at + 1], packet[at + 2]]);
        let answer = match (labels.join(".").as_str(), kind) {
            ("web.test", 1) => Some(record(1, &[127, 0, 0, 2])),
            ("_grpc._tcp.web.test", 33) => {
                let target = b"\x03web\x04test\x00";
                Some(record(
                    33,
                    &[&[0, 0, 0, 5, 0x1f, 0x90][..], target].concat(),
                ))
            }
            ("web.test" | "_grpc._tcp.web.test", _) => Some(Vec::new()),
            _ => None,
        };
        let code = if answer.is_some() { 0x80 } else { 0x83 };
        let answer = answer.unwrap_or_default();
        let mut reply = packet[..2].to_vec();
        reply.extend([
            0x85,
            code,
            0,
            1,
            0,
            u8::from(!answer.is_empty()),
            0,
            0,
            0,
            0,
        ]);
        reply.extend(&packet[12..at + 5]);
        reply.extend(answer);
        let _ = socket.send_to(&reply, from).await;
    }
}

#[tokio::test]
async fn a_real_server_is_asked_over_udp() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
    server.connections[0].port = socket.local_addr().unwrap().port();
    let config = ResolverConfig::from_name_servers(vec![server]);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let lookup: Arc<dyn Lookup> = Arc::new(System::over(builder).unwrap());
    let serving = tokio::spawn(serve(socket));
    let answer = lookup.addresses("web.test.", Family::V4).await.unwrap();
    assert_eq!(answer.ttl, Some(Duration::from_secs(7)));
    let ttl = (Duration::from_secs(1), Duration::from_secs(300));
    let said = async |name: &str| {
        let target = Target::parse(name).unwrap();
        next(&mut Follow::new(target, ttl, Some(Arc::clone(&lookup)))).await
    };
    assert_eq!(said("web.test.:80").await, Ok(reset(&["127.0.0.2:80"])));
    assert_eq!(said("nobody.test.:80").await, Ok(Update::DoesNotExist));
    let Ok(Update::Reset(services)) = said("_grpc._tcp.web.test.").await else {
        panic!("no services");
    };
    let at = |e: &Endpoint| (e.address(), e.name().map(str::to_owned));
    let expected = (
        "127.0.0.2:8080".parse().unwrap(),
        Some("web.test".to_owned()),
    );
    assert_eq!(services.iter().map(at).collect::<Vec<_>>(), [expected]);
    serving.abort();
}
