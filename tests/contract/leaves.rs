//! The leaves that come with the crate.

use hyper_util::rt::TokioIo;
use tower_mesh::connect::{Dialed, HttpConnector, HttpLeaf, TonicConnector, TonicLeaf};
use tower_mesh::{Connect, Endpoint};

use crate::checks::exchange;
use crate::clients::serving;
use crate::inner::Strict;
use crate::support::get;
use crate::{Exchange, Script, Subject};

/// An HTTP/1.1 leaf whose connections end in the inner service.
struct LeafSubject(HttpLeaf);

pub fn http_leaf(_: Script, inner: &Strict) -> Box<dyn Subject> {
    let inner = inner.clone();
    let dial = move |_: Endpoint| {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let serve = serving(inner.clone());
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(theirs), serve),
        );
        std::future::ready(std::io::Result::Ok(Dialed::plain(TokioIo::new(ours))))
    };
    let connector = HttpConnector::new().with_dialer(dial);
    Box::new(LeafSubject(
        connector.connect(&Endpoint::new(crate::support::address(1))),
    ))
}

impl Subject for LeafSubject {
    fn name(&self) -> &'static str {
        "HttpLeaf"
    }

    fn call(&mut self) -> Exchange {
        Box::pin(exchange(self.0.clone(), get()))
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(Self(self.0.clone()))
    }

    fn leftovers(&self) -> Vec<String> {
        let now = self.0.connections();
        let busy = [
            (now.active, "active"),
            (now.dialing, "dialing"),
            (now.waiting, "waiting"),
        ];
        let busy = busy.into_iter().filter(|(count, _)| *count > 0);
        busy.map(|(count, what)| format!("{count} {what}"))
            .collect()
    }

    fn is_client(&self) -> bool {
        false
    }
}

/// A leaf over one of tonic's channels, whose connections end in the inner service.
#[derive(Clone)]
struct ChannelSubject(TonicLeaf);

pub fn tonic_leaf(_: Script, inner: &Strict) -> Box<dyn Subject> {
    let inner = inner.clone();
    let dial = move |_: http::Uri| {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let serve = serving(inner.clone());
        tokio::spawn(
            hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                .serve_connection(TokioIo::new(theirs), serve),
        );
        std::future::ready(std::io::Result::Ok(TokioIo::new(ours)))
    };
    let connector = TonicConnector::new().with_channel(move |transport| {
        transport.connect_with_connector_lazy(tower::service_fn(dial.clone()))
    });
    let endpoint = Endpoint::new(crate::support::address(1));
    Box::new(ChannelSubject(connector.connect(&endpoint)))
}

impl Subject for ChannelSubject {
    fn name(&self) -> &'static str {
        "TonicLeaf"
    }

    fn call(&mut self) -> Exchange {
        Box::pin(exchange(self.0.clone(), get()))
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Box::new(self.clone())
    }

    fn leftovers(&self) -> Vec<String> {
        Vec::new()
    }

    fn is_client(&self) -> bool {
        false
    }
}
