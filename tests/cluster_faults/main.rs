//! Three nodes and three servers of NATS as processes, to which everything is done that happens to processes and
//! networks, under load: nothing that was answered as stored is ever gone, everybody sees one history, and
//! every partition is served again.
//!
//! Clients take any node for each call and each stream, and send again what is not answered. They write what is
//! stored when it is answered (props, data, bans, roles, settings), write up streams, open and delete sessions,
//! and read sessions of the durabilities SYNC and ASYNC; what a revision shows is the same for all. A NONE session
//! of each partition is gone with its owner, and never before. Clients come back after as long as they are told.
//! Probes at a steady rate tell how long a partition is not served, and whether anybody answers who has lost it.
//!
//! `cargo test --test cluster_faults` takes up to a minute, and is skipped without a server of NATS. A thousand
//! faults:
//!
//! ```sh
//! SESSIOND_FAULTS=1000 cargo test --release --test cluster_faults -- --nocapture
//! ```
//!
//! A thousand deploys, each of which stops and starts one node, with two thousand streams:
//!
//! ```sh
//! SESSIOND_DEPLOYS=1000 SESSIOND_DEPLOYS_STREAMS=2000 cargo test --release --test cluster_faults \
//!     deployed -- --nocapture
//! ```
//!
//! `SESSIOND_FAULTS_SEED` names the seed of the faults, which a violation prints; moments are those of the
//! machine all the same. `SESSIOND_BIN` names another program than the one of this build.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
#[path = "../kills/calls.rs"]
mod calls;
mod check;
#[path = "../kills/churn.rs"]
mod churn;
#[path = "../support/disk.rs"]
mod disk;
#[allow(dead_code)]
#[path = "../kills/facts.rs"]
mod facts;
mod faults;
mod fleet;
mod link;
mod load;
mod moves;
#[allow(dead_code)]
#[path = "../log/jetstream/nats.rs"]
mod nats;
mod nodes;
mod passing;
mod probes;
#[allow(dead_code)]
#[path = "../service/support/rebuilt.rs"]
mod rebuilt;
#[allow(dead_code)]
#[path = "../chaos/server.rs"]
mod server;
#[allow(dead_code)]
#[path = "../kills/slot.rs"]
mod slot;
mod stage;
#[allow(dead_code)]
#[path = "../log/support.rs"]
mod support;
mod times;
#[allow(dead_code)]
#[path = "../service/support/values.rs"]
mod values;
mod world;

use faults::Fault;
use stage::{NODES, Size, Stage};
use std::time::{Duration, Instant};
use times::Times;

/// After so long no other fault is begun, unless the number of faults is given.
const TIME: Duration = Duration::from_secs(6);

/// How many subscribers there are while nodes are deployed.
const STREAMS: u64 = 200;

/// Two clusters at a time would be slow for reasons of their own.
static ALONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

#[test]
fn nothing_that_was_promised_is_gone_whatever_fails() {
    let faults = given("SESSIOND_FAULTS");
    let probes = Duration::from_millis(100);
    let size = Size { partitions: 8, rooms: 3, subscribers: 2, probes };
    run(size, faults, |draw, owners, _| Fault::draw(draw, NODES, owners));
}

#[test]
fn nobody_who_reads_loses_anything_when_nodes_are_deployed() {
    let deploys = given("SESSIOND_DEPLOYS");
    let streams = given("SESSIOND_DEPLOYS_STREAMS").unwrap_or(STREAMS);
    let partitions = 8;
    let subscribers = (streams as usize).div_ceil(partitions);
    let size = Size { partitions, rooms: 1, subscribers, probes: Duration::from_millis(20) };
    let restart = |_: &mut fastrand::Rng, _: &[Option<usize>], number| {
        Fault::Restart(number as usize % NODES, Duration::ZERO)
    };
    run(size, deploys, restart);
}

/// Does one thing after the other to a cluster.
fn run(
    size: Size,
    rounds: Option<u64>,
    fault: impl Fn(&mut fastrand::Rng, &[Option<usize>], u64) -> Fault,
) {
    let _alone = ALONE.lock();
    let seed = given("SESSIOND_FAULTS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let Some(mut stage) = Stage::start(seed, size).await else { return };
        let (mut draw, mut times) = (fastrand::Rng::with_seed(seed), Times::default());
        let begun = Instant::now();
        let mut done = 0;
        for number in 1..=rounds.unwrap_or(u64::MAX) {
            if rounds.is_none() && begun.elapsed() > TIME {
                break;
            }
            let owners = stage.owners().await;
            let fault = fault(&mut draw, &owners, number);
            stage.round(number, fault, &owners, &mut times).await;
            done = number;
            if number.is_multiple_of(10) {
                stage.tell(format_args!("{:?}\n{times}", stage.world.figures()));
            }
            if stage.world.violations() > 0 {
                // To look into, beside the logs of the nodes.
                stage.nats.servers.iter().for_each(|server| server.keep());
                break;
            }
        }
        let (time, figures) = (begun.elapsed(), stage.world.figures());
        stage.tell(format_args!("seed {seed}, {done} faults in {time:.0?}: {figures:?}\n{times}"));
        assert_eq!(stage.world.violations(), 0, "seed {seed}: see above");
    });
}

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|it| it.parse().expect("a number"))
}
