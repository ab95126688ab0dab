//! The joinery: the only room that names every part. [`Server::start`] and [`Server::stop`] read as
//! one function each.

mod accept;
mod admission;
mod apps;
mod census;
mod cluster;
mod descriptors;
mod engines;
mod error;
mod files;
mod forwarded;
mod http2;
mod nodes;
mod part;
mod policy;
mod proxied;
mod reread;
mod router;
mod settings;
mod signals;
mod store;
mod tls;
mod told;
mod watched;
mod workers;

use crate::{
    cluster::Nodes,
    config::{Config, Listen},
    engine::{Clock, Engine, EngineSettings, HashCost, Passwords},
    grpc::{self, Leaving, Objects, Runs, encode::Wire, status::Node},
    log::LogError,
    object_stream::ObjectStreams,
    webhook::Webhooks,
};
use accept::Connections;
use census::Census;
use cluster::{Holder, Joined, Late, Member, Parts};
use engines::{Engines, Has, Running};
use files::Files;
use http2::account::Total;
use reread::Reread;
use router::Router;
use rustix::io::Errno;
use signals::StopSignals;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};
use store::{Store, Stored};
use workers::Workers;

pub use error::StartError;
pub use nodes::{Before, Owner};
pub use store::Unstored;
use tokio::{
    runtime,
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::{ServingStatus, server::HealthReporter};

/// The services whose health is reported, beside the server as a whole, whose name is empty.
const SERVICES: [&str; 6] = [
    "",
    "sessiond.v1.AdminService",
    "sessiond.v1.SessionService",
    "sessiond.v1.DeliveryService",
    "sessiond.v1.ObjectStreamService",
    "sessiond.v1.EventService",
];

/// How often it is looked at whether who may call has changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a server is among the other nodes of a cluster; by itself as it is by default.
#[derive(Debug, Default)]
pub struct Among {
    /// The nodes of the cluster, which are reported and whose partitions are moved.
    pub nodes: Option<Arc<dyn Nodes>>,
    /// Where another node answers the calls of sessiond's own: how its port of nodes is found.
    pub before: Option<Before>,
}

/// A server that runs in threads of its own.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    engine: Engine,
    /// As long as it runs.
    _running: Running,
    /// What it is of a cluster.
    member: Option<Member>,
    passwords: Arc<Passwords>,
    runs: Arc<Runs>,
    apps: Option<Arc<Reread>>,
    policy: Option<Arc<Reread>>,
    health: HealthReporter,
    drain_notice: Duration,
    drain_timeout: Duration,
    /// The server is about to stop: gateways learn of it.
    leaving: Leaving,
    /// No new connections and calls; open connections finish.
    stopping: CancellationToken,
    /// Connections are cut.
    cut: CancellationToken,
    /// What stores, if anything is stored.
    store: Option<Store>,
    /// What pushes events.
    webhooks: Webhooks,
    census: Arc<Census>,
    /// Where other nodes come, and who of them is connected.
    node_address: Option<SocketAddr>,
    node_census: Option<Arc<Census>>,
    connections: TaskTracker,
    acceptor: JoinHandle<()>,
    workers: Workers,
}

/// Serves until SIGINT or SIGTERM, then drains.
pub fn run(config: Config) -> Result<(), StartError> {
    let main = runtime::Builder::new_current_thread().enable_all().build()?;
    main.block_on(async {
        let mut signals = StopSignals::listen()?;
        let (limit, max_connections) = (descriptors::raise_limit(), config.max_connections);
        let asks = config.identity.is_some() || config.tls_require_client;
        let server = tokio::select! {
            server = Server::start(config, Clock::machine()) => server?,
            // Nothing was promised to anybody yet.
            signal = signals.next() => {
                tracing::info!(signal, "stopped before anybody was served");
                return Ok(());
            }
        };
        tracing::info!(address = %server.address(), "listening");
        if let Some(address) = server.node_address() {
            tracing::info!(%address, "listening for other nodes");
        }
        descriptors::tell(limit, max_connections);
        if !server.address().ip().is_loopback() && !asks {
            tracing::warn!(
                address = %server.address(),
                "ANYONE who reaches this address may read and change every session: nobody is \
                 asked for a credential; give --identity, or keep the network closed"
            );
        }
        let failed = server.store_failed();
        let signal = tokio::select! {
            signal = signals.next() => signal,
            // Nothing more can be stored, so nobody must get the answer that it is.
            error = failed => return Err(StartError::StoreFailed(error)),
        };
        tracing::info!(signal, "stopping");
        let unstored = server.stop().await;
        tracing::info!("stopped");
        unstored.map_or(Ok(()), |unstored| Err(StartError::NotStored(unstored)))
    })
}

/// The first address that this machine has; one that is taken is not passed over for another.
fn bind(listen: &Listen) -> io::Result<TcpListener> {
    let is_absent = |error: &io::Error| {
        error.kind() == io::ErrorKind::AddrNotAvailable
            || Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
    };
    let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in listen.addresses()? {
        outcome = TcpListener::bind(address);
        if !outcome.as_ref().is_err_and(is_absent) {
            break;
        }
    }
    outcome
}

/// Refuses to believe everybody who reaches an address, and warns of credentials in clear text.
fn check_exposure(config: &Config, address: SocketAddr, has_tls: bool) -> Result<(), StartError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let asks = config.identity.is_some() || config.tls_require_client;
    if !asks && !config.insecure {
        return Err(StartError::Insecure { address });
    }
    if config.identity.is_some() && !has_tls {
        tracing::warn!(
            "credentials come in clear text unless a proxy does TLS: give tls-certificate"
        );
    }
    Ok(())
}

/// Has open streams ask again whether they may go on, whenever who may call has changed.
async fn look_on(entrance: grpc::Entrance, over: CancellationToken) {
    let look = async {
        loop {
            sleep(LOOK_INTERVAL).await;
            entrance.look();
        }
    };
    tokio::select! {
        () = look => {}
        () = over.cancelled() => {}
    }
}

impl Server {
    /// Binds the address and serves. With a stepped clock nothing ticks by itself: see
    /// [`Engine::advance`].
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        Self::start_with(config, clock, HashCost::RECOMMENDED).await
    }

    /// The same with another cost of hashing passwords, which is no setting: those who may lower it
    /// do not know better than those who recommend it, except in a test.
    pub async fn start_with(
        config: Config,
        clock: Clock,
        cost: HashCost,
    ) -> Result<Self, StartError> {
        Self::start_among(config, clock, cost, Among::default()).await
    }

    /// The same as one of several nodes.
    pub async fn start_among(
        config: Config,
        clock: Clock,
        cost: HashCost,
        Among { nodes, before }: Among,
    ) -> Result<Self, StartError> {
        cluster::check(&config)?;
        settings::check_durability(&config)?;
        let engines = Engines::default();
        let Files { tls, trust, identity, plan, policy, apps } = Files::read(&config, &engines)?;
        let refused = |cause| StartError::Listen { address: config.listen.clone(), cause };
        let listener = bind(&config.listen).map_err(refused)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let node_port = nodes::Bound::new(&config, trust.clone())?;
        check_exposure(&config, address, tls.is_some())?;
        let entrance = grpc::Entrance::new(identity.clone(), config.max_refused_calls_per_address);

        let in_force = policy.as_ref().map(|file| file.in_force.clone()).unwrap_or_default();
        let settings = settings::engine(&config, in_force.current().judged());
        // In a cluster sessions are with the engines of the partitions.
        let keeping = settings.keeping.filter(|_| config.cluster.is_none());
        let own = EngineSettings { keeping, ..settings.clone() };
        let engine = Engine::new(own, clock.clone(), Arc::new(Wire::default()));
        let stored = Stored::lock(&config)?;
        let node_port_at = node_port.as_ref().map(nodes::Bound::address);
        let late = config.cluster.as_ref().map(|_| Late::default());
        let nodes = match &late {
            None => nodes,
            Some(late) => Some(Arc::new(late.clone()) as Arc<dyn Nodes>),
        };
        engine.note_start(stored.is_some() || late.is_some());
        let (leaving, stopping) = (Leaving::default(), CancellationToken::new());
        let passwords =
            Arc::new(Passwords::start(config.password_threads, cost, engine.clock().clone())?);
        let runs = Arc::new(Runs::start(engine.clock().clone())?);
        let objects = ObjectStreams::new(settings::objects(&config), engine.clock().now());
        let objects = Arc::new(Objects::new(objects, runs.clone()));
        let shared = grpc::Shared {
            objects: objects.clone(),
            entrance: entrance.clone(),
            reflection: config.reflection,
            passwords: passwords.clone(),
            policy: in_force,
            limits: Arc::new(engine.settings().limits.clone()),
            node: Arc::new(Node {
                name: config.node.clone(),
                started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            }),
            streams: settings::streams(&config),
            open_subscriptions: config.open_subscriptions.unwrap_or(config.identity.is_none()),
            nodes: nodes.clone(),
            leaving: leaving.clone(),
            stopping: stopping.clone(),
        };
        let context = grpc::Context { engine: engine.clone(), shared: Arc::new(shared.clone()) };
        let (health, health_service) = tonic_health::server::health_reporter();
        for service in SERVICES {
            health.set_service_status(service, ServingStatus::NotServing).await;
        }
        let router = Router::new(context, health_service);
        let parts = late.as_ref().map(|late| {
            let here = router.here().clone();
            Arc::new(Parts::new(late.clone(), config.cluster_partitions, here))
        });
        let router = match (&parts, before) {
            (Some(parts), _) => router.among(&trust, parts.clone(), nodes::PATIENCE),
            (None, Some(before)) => router.before(&trust, before),
            (None, None) => router,
        };

        let cut = CancellationToken::new();
        let connections = TaskTracker::new();
        let total = Total::new(config.max_unsent_total);
        let census = Census::new(settings::bounds(&config), total.clone());
        let server = Arc::new(Connections {
            router: Arc::new(router),
            config: config.clone(),
            census: census.clone(),
            total,
            stopping: stopping.clone(),
            cut: cut.clone(),
            tracker: connections.clone(),
            introductions: Arc::new(Semaphore::new(accept::MOST_INTRODUCTIONS)),
            from: accept::From::Clients,
        });
        let node_port = node_port.map(|bound| {
            let tokens = (stopping.clone(), cut.clone());
            bound.open(server.router.clone(), &config, tokens, connections.clone())
        });
        let node_address = node_port.as_ref().map(|port| port.address);
        let node_census = node_port.as_ref().map(|port| port.connections.census.clone());
        let at_nodes = node_port.as_ref().map(|port| &port.connections);
        let ticking = clock.is_machine().then_some(&engines);
        let mut workers = Workers::start(&server, at_nodes, ticking)?;
        let has = if config.cluster.is_some() { Has::None } else { Has::All };
        let running = engines.run(&engine, has);
        let mut inboxes = std::mem::take(&mut workers.clients);
        if let Some(tls) = tls {
            tls.watch()?;
            inboxes = workers.shake_hands(&server, &tls, inboxes)?;
        }
        trust.watch()?;
        if let Some(port) = node_port {
            let mut inboxes = std::mem::take(&mut workers.nodes);
            if let Some(tls) = trust.server() {
                inboxes = workers.shake_hands(&port.connections, tls, inboxes)?;
            }
            tokio::spawn(port.accept(inboxes));
        }
        let policy = policy.map(|file| file.files);
        apps.iter().chain(&policy).try_for_each(Reread::watch)?;
        let asks_whom = identity.as_ref().map(|_| entrance.clone());
        if let Some(identity) = identity {
            identity.watch()?;
            tokio::spawn(look_on(entrance, cut.clone()));
        }
        let reliever = tokio::spawn(server.clone().relieve());
        let acceptor = tokio::spawn(async move {
            server.accept(listener, inboxes).await;
            reliever.abort();
        });
        // Until then nobody is served: health says so, and calls are refused with a delay.
        let reading = async {
            let store = match stored {
                None => None,
                Some(stored) => Some(stored.read(&config, &engine, objects).await?),
            };
            let joined = Joined::join(&config, node_port_at, clock.now()).await?;
            Ok::<_, StartError>((store, joined))
        };
        let (store, joined) = reading.await.inspect_err(|_| {
            stopping.cancel();
            cut.cancel();
        })?;
        if let (Some(late), Some(joined)) = (late, &joined) {
            late.joined(joined.cluster.clone());
        }
        if let (Some(nodes), Some(entrance)) = (nodes, asks_whom) {
            told::follow(nodes, entrance, engines.clone(), cut.clone()).await;
        }
        engine.note_start(false);
        let webhooks = Webhooks::start(plan.clone(), &engine)?;
        let member = joined.zip(parts).map(|(joined, parts)| {
            let (cluster, log, runs) = (joined.cluster.clone(), joined.log.clone(), runs.clone());
            let config = config.clone();
            joined.hold(Holder {
                config,
                settings,
                clock,
                shared,
                runs,
                plan,
                engines,
                cluster,
                log,
                parts,
                ends: Default::default(),
                readings: Default::default(),
            })
        });
        for service in SERVICES {
            health.set_service_status(service, ServingStatus::Serving).await;
        }
        let Config { drain_notice, drain_timeout, .. } = config;
        Ok(Self {
            address,
            engine,
            _running: running,
            member,
            passwords,
            runs,
            apps,
            policy,
            health,
            drain_notice,
            drain_timeout,
            leaving,
            stopping,
            cut,
            store,
            webhooks,
            census,
            node_address,
            node_census,
            connections,
            acceptor,
            workers,
        })
    }

    /// Waits until the store fails, which it may never do.
    pub fn store_failed(&self) -> impl Future<Output = LogError> + use<> {
        let failed = self.store.as_ref().map(Store::failed);
        async move {
            match failed {
                Some(failed) => failed.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for other nodes.
    pub fn node_address(&self) -> Option<SocketAddr> {
        self.node_address
    }

    /// How many connections there are of other nodes.
    pub fn node_connections(&self) -> usize {
        self.node_census.as_ref().map_or(0, |census| census.len())
    }

    /// The clockwork, for a test that steps the clock.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Where functions of object streams run, for a test that takes their places.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Reads the limits of apps again if they have changed, for a caller that does not wait for that.
    pub fn read_apps_again(&self) {
        self.apps.iter().for_each(|files| files.if_changed());
    }

    /// The same of the rules and hooks.
    pub fn read_policy_again(&self) {
        self.policy.iter().for_each(|files| files.if_changed());
    }

    /// Where passwords are hashed, for a test that holds them up.
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// Tells gateways that the server is about to stop; nothing else happens yet.
    pub fn begin_to_stop(&self) {
        self.leaving.begin(self.engine.clock().now());
    }

    /// Stops: not healthy, no new connections, what is accepted goes out, every stream ends with a
    /// reason and a position; what is left after `drain_timeout` is cut. Returns what could not be
    /// stored, if that is so.
    pub async fn stop(mut self) -> Option<Unstored> {
        for service in SERVICES {
            self.health.set_service_status(service, ServingStatus::NotServing).await;
        }
        if let Some(member) = self.member.take() {
            // What it has goes to others; what comes here meanwhile is sent on to them.
            member.leave(Instant::now() + self.drain_timeout).await;
            // The nodes that go on with its streams are there already.
            self.leaving.hand_over(self.census.streams());
        }
        self.begin_to_stop();
        if self.engine.gateways().0 > 0 {
            // They go on until then: a gateway that opens the next stream before it loses nothing.
            sleep(self.drain_notice).await;
        }
        // First, as connections that end from now on are closed with more patience.
        self.connections.close();
        self.engine.drain();
        let ends_at = Instant::now() + self.drain_timeout;
        if let Some(store) = &self.store {
            // What is in flight is shown when it is stored, and then the streams end. A store that has
            // no space holds the others up for half of the time only.
            let finish = store.finish(&self.engine);
            if timeout(self.drain_timeout / 2, finish).await.is_err() {
                self.engine.give_up_storing();
            }
        }
        self.stopping.cancel();
        self.census.stop();
        self.node_census.iter().for_each(|census| census.stop());
        // A client that watches the health has heard of it; the watch must not hold the stop up.
        for service in SERVICES {
            self.health.clear_service_status(service).await;
        }
        let _ = (&mut self.acceptor).await;
        if timeout_at(ends_at, self.connections.wait()).await.is_err() {
            let left = self.census.len();
            tracing::warn!(connections = left, "cutting connections that did not end in time");
        }
        self.cut.cancel();
        self.workers.join();
        let (webhooks, until) = (std::mem::take(&mut self.webhooks), ends_at.into_std());
        // A receiver of the last events gets the rest of the time.
        let _ = tokio::task::spawn_blocking(move || webhooks.stop(until)).await;
        let store = self.store.take()?;
        store.close(&self.engine, ends_at.saturating_duration_since(Instant::now())).await
    }
}

/// A shard that panicked ticks nothing any more, and the keeper of a partition stores nothing, while
/// everything else looks fine: better no process than that one.
struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("what ticks or stores has panicked: the process ends");
            std::process::abort();
        }
    }
}
