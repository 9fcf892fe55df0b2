use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::caller::{Caller, Site};
use super::clock::{self, Idle};
use super::members::Members;
use super::tasks::{Task, Tasks};
use super::{Progress, World};
use crate::client::Client;
use crate::core::time::nanos;
use crate::endpoint::Endpoint;
use crate::policy::ClientPolicy;
use crate::sim::SimError;
use crate::sim::chance::{Dice, Part};
use crate::sim::load::{Arrivals, Pattern, Template};
use crate::sim::record::{Outcome, Record, SECOND};
use crate::sim::report::Report;
use crate::sim::stage::{Event, Leaf, Stage};

/// How long what is under way may go on after the end.
const GRACE: u64 = 10 * SECOND;
/// How long a caller takes to ask again that was answered in no time: without it time would stand still.
const BREATH: u64 = 1_000_000;

/// A world that runs.
struct Run {
    stage: Arc<Stage>,
    idle: Idle,
    tasks: Tasks,
    callers: Vec<Box<dyn Caller>>,
    arrivals: Vec<Arrivals>,
    closed_loop: Option<u32>,
    template: Template,
    give_up: Option<u64>,
    members: Vec<Members>,
    end: u64,
    progress: Option<Box<Progress>>,
}

pub(super) fn run(world: World, duration: Duration) -> Result<Report, SimError> {
    let policy = world.resolve()?;
    let host = policy.as_ref().map_or("sim.local", |(_, host)| host);
    let template = world.load.shape.template(host);
    let template = template.map_err(|why| SimError::Load { why })?;
    let endpoints = world.endpoints.iter();
    let endpoints = endpoints.map(|(name, server)| (name.clone(), server.join, server.leave));
    let endpoints = endpoints.collect();
    let (runtime, idle) = clock::runtime()?;
    let clients = world.clients;
    let record = runtime.block_on(async move {
        let run = Run::new(world, duration, policy, template, idle)?;
        // No budget of cooperation: the world itself sees to it that everybody gets their turn.
        tokio::task::unconstrained(run.run()).await
    })?;
    Ok(Report::new(record, endpoints, clients))
}

// === impl Run ===

impl Run {
    fn new(
        world: World,
        duration: Duration,
        policy: Option<(ClientPolicy, String)>,
        template: Template,
        idle: Idle,
    ) -> Result<Self, SimError> {
        let start = Instant::now();
        let end = nanos(duration);
        let World {
            seed,
            clients,
            load,
            mut endpoints,
            warmup,
            zones,
            stack,
            progress,
            ..
        } = world;
        if stack.is_some() {
            // Backends are a policy's.
            for (_, server) in &mut endpoints {
                server.backend = None;
            }
        }
        let members = Members::of(&endpoints, clients);
        let servers: Vec<_> = endpoints.into_iter().map(|(_, server)| server).collect();
        let record = Record::new(start, (nanos(warmup), end), clients, servers.len());
        let stage = Arc::new(Stage::new(seed, start, servers, record, clients));
        let caller = |client: usize| -> Result<Box<dyn Caller>, SimError> {
            let site = Site {
                client,
                seed: Dice::new(seed, Part::Client, client as u64).seed(),
                members: members.first().map_or_else(
                    || watch::channel(Vec::new()).1,
                    |members| members.of_client(client),
                ),
                stage: Arc::clone(&stage),
            };
            match (&stack, &policy) {
                (Some(make), _) => Ok(make(&site)),
                (None, Some((policy, _))) => {
                    let zone = zones.get(client % zones.len().max(1));
                    Ok(Box::new(client_of(&site, policy, &members, zone)?))
                }
                (None, None) => Err(SimError::NoPolicy),
            }
        };
        let callers = (0..clients).map(caller).collect::<Result<_, _>>()?;
        let (arrivals, closed_loop) = match load.pattern {
            Pattern::Closed(callers) => (Vec::new(), Some(callers)),
            Pattern::Open(open) => {
                let dice = (0..clients as u64).map(|n| Dice::new(seed, Part::Arrivals, n));
                let arrivals = dice.map(|dice| Arrivals::new(open.clone(), dice));
                (arrivals.collect(), None)
            }
        };
        Ok(Self {
            stage,
            idle,
            tasks: Tasks::default(),
            callers,
            arrivals,
            closed_loop,
            template,
            give_up: load.give_up,
            members,
            end,
            progress,
        })
    }

    async fn run(mut self) -> Result<Record, SimError> {
        self.begin();
        loop {
            self.settle().await;
            let (now, due) = {
                let stage = self.stage.lock();
                (stage.now, stage.queue.due())
            };
            let last = self.end.saturating_add(GRACE);
            if now >= self.end && (self.tasks.len() == 0 || now >= last) {
                break;
            }
            let target = due.unwrap_or(u64::MAX).min(last);
            // Never past the end without a look at who is left.
            let target = if now < self.end {
                target.min(self.end)
            } else {
                target
            };
            if target > now {
                clock::forward(&self.stage, self.tasks.ready(), target).await;
                continue;
            }
            let event = self.stage.lock().queue.pop(now);
            if let Some(event) = event {
                self.happens(event);
            }
        }
        Ok(self.finish())
    }

    fn begin(&mut self) {
        let mut stage = self.stage.lock();
        for members in &self.members {
            for (join, leave, _) in &members.all {
                for at in [*join, *leave] {
                    if at > 0 && at < self.end {
                        stage.push(at, Event::Members);
                    }
                }
            }
        }
        stage.push(SECOND.min(self.end), Event::Second);
        drop(stage);
        for client in 0..self.callers.len() {
            match self.closed_loop {
                None => self.plan_arrival(client),
                Some(callers) => {
                    for _ in 0..callers {
                        self.stage.lock().push(0, Event::Again { client });
                    }
                }
            }
        }
    }

    /// Until nobody can go on without time passing.
    async fn settle(&mut self) {
        loop {
            let before = self.tasks.polls();
            while let Some((task, outcome)) = self.tasks.poll() {
                self.ended(task, outcome);
            }
            if self.tasks.polls() != before {
                // Whoever yielded to the runtime is woken by its next turn, and not before.
                tokio::task::yield_now().await;
            }
            self.idle.reached().await;
            if self.tasks.ready().is_empty() {
                return;
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrival { client } => {
                self.plan_arrival(client);
                self.ask(client);
            }
            Event::Again { client } => self.ask(client),
            Event::GiveUp { task } => {
                if let Some(task) = self.tasks.remove(task) {
                    self.ended(task, Outcome::Error("gave up".into()));
                }
            }
            Event::Served { station, key, end } => self.stage.served(station, key, end),
            Event::Resume { station } => self.stage.resume(station),
            Event::Members => {
                let now = self.stage.lock().now;
                for members in &self.members {
                    members.tell(now);
                }
            }
            Event::Second => self.second(),
        }
    }

    fn plan_arrival(&mut self, client: usize) {
        if let Some(at) = self.arrivals.get_mut(client).map(Arrivals::next)
            && at < self.end
        {
            self.stage.lock().push(at, Event::Arrival { client });
        }
    }

    fn ask(&mut self, client: usize) {
        let now = self.stage.lock().now;
        let Some(caller) = self.callers.get(client) else {
            return;
        };
        if now >= self.end {
            return;
        }
        self.stage.lock().record.arrived(now);
        let exchange = caller.exchange(self.template.request());
        let task = self.tasks.spawn(client, now, exchange);
        if let Some(patience) = self.give_up {
            let at = now.saturating_add(patience);
            self.stage.lock().push(at, Event::GiveUp { task });
        }
    }

    fn ended(&mut self, task: Task, outcome: Outcome) {
        let (client, arrived) = (task.client, task.arrived);
        // What its going leads to is decided before anything else happens.
        drop(task);
        let mut stage = self.stage.lock();
        let now = stage.now;
        stage.record.request(arrived, now, outcome);
        if self.closed_loop.is_some() {
            let again = if now > arrived {
                now
            } else {
                now.saturating_add(BREATH)
            };
            stage.push(again, Event::Again { client });
        }
    }

    fn second(&mut self) {
        let budgets = self
            .callers
            .iter()
            .filter_map(|caller| caller.budget_milli());
        let budget = budgets.fold(None, |sum: Option<u64>, one| {
            Some(sum.unwrap_or(0).saturating_add(one))
        });
        let mut stage = self.stage.lock();
        let now = stage.now;
        let under_way = self.tasks.len() as u64;
        stage.record.second_ends(now, under_way, budget);
        if now < self.end {
            stage.push((now + SECOND).min(self.end), Event::Second);
        }
        let requests = stage.record.requests;
        drop(stage);
        if let Some(progress) = &mut self.progress {
            progress(Duration::from_nanos(now), requests);
        }
    }

    fn finish(mut self) -> Record {
        for task in self.tasks.drain() {
            self.ended(task, Outcome::Error("not answered".into()));
        }
        let mut record = self.stage.lock().record.clone();
        // A run's last second may not be a whole one.
        record.end = self.end;
        record
    }
}

fn client_of(
    site: &Site,
    policy: &ClientPolicy,
    members: &[Members],
    zone: Option<&String>,
) -> Result<Client, SimError> {
    let client = u32::try_from(site.client).unwrap_or(u32::MAX);
    let mut builder = Client::builder(policy.clone())
        .seed(site.seed)
        .observer(site.stage.observer(client));
    if let Some(zone) = zone {
        builder = builder.zone(zone.as_str());
    }
    for members in members {
        let endpoints = members.source(site.client);
        builder = match &members.backend {
            None => builder.endpoints(endpoints),
            Some(backend) => builder.endpoints_of(backend, endpoints),
        };
    }
    let site = site.clone();
    Ok(builder.build(move |endpoint: &Endpoint| -> Leaf { site.leaf(endpoint) })?)
}
