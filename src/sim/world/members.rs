use tokio::sync::watch;

use crate::discover::Endpoints;
use crate::endpoint::Endpoint;
use crate::sim::address::address_of;
use crate::sim::server::Server;

/// What discovery says about the endpoints of one backend.
pub(super) struct Members {
    pub(super) backend: Option<String>,
    // With when each joins and leaves.
    pub(super) all: Vec<(u64, u64, Endpoint)>,
    // One for each client: a watch tells several receivers in an order that depends on tokio's own chance.
    senders: Vec<watch::Sender<Vec<Endpoint>>>,
}

// === impl Members ===

impl Members {
    /// By backend.
    pub(super) fn of(endpoints: &[(String, Server)], clients: usize) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (station, (name, server)) in endpoints.iter().enumerate() {
            let mut endpoint = Endpoint::new(address_of(station)).named(name.as_str());
            if let Some(zone) = &server.zone {
                endpoint = endpoint.with_zone(zone);
            }
            let one = (server.join, server.leave, endpoint);
            match all.iter_mut().find(|m| m.backend == server.backend) {
                Some(members) => members.all.push(one),
                None => all.push(Self {
                    backend: server.backend.clone(),
                    all: vec![one],
                    senders: (0..clients).map(|_| watch::channel(Vec::new()).0).collect(),
                }),
            }
        }
        for members in &all {
            members.tell(0);
        }
        all
    }

    fn at(&self, now: u64) -> Vec<Endpoint> {
        let there = |join: u64, leave: u64| join <= now && now < leave;
        let all = self.all.iter().filter(|one| there(one.0, one.1));
        all.map(|(_, _, endpoint)| endpoint.clone()).collect()
    }

    pub(super) fn tell(&self, now: u64) {
        let current = self.at(now);
        for sender in &self.senders {
            sender.send_if_modified(|known| {
                let is_new = *known != current;
                known.clone_from(&current);
                is_new
            });
        }
    }

    /// What a client hears. One without a list hears of nobody.
    pub(super) fn of_client(&self, client: usize) -> watch::Receiver<Vec<Endpoint>> {
        let sender = self.senders.get(client);
        sender.map_or_else(|| watch::channel(Vec::new()).1, watch::Sender::subscribe)
    }

    /// For a client's builder: a list where nobody joins or leaves, so that no task has to follow it.
    pub(super) fn source(&self, client: usize) -> Endpoints {
        let fixed = |(join, leave, _): &(u64, u64, Endpoint)| *join == 0 && *leave == u64::MAX;
        if self.all.iter().all(fixed) {
            return self.at(0).into();
        }
        self.of_client(client).into()
    }
}
