//! What is done to the cluster.

use crate::{
    link::State,
    nats::Server,
    stage::{ON_DISK, Stage},
};
use sessiond::proto::MovePartitionRequest;
use std::{
    fmt, mem,
    time::{Duration, Instant},
};
use tokio::{task::spawn_blocking, time::sleep};

/// What becomes free of a full disk is taken after so long.
const REFILL: Duration = Duration::from_millis(100);

/// Something that goes wrong, and is mended after a while.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// A node is killed, and started again after this time.
    Kill(usize, Duration),
    /// A node stands still.
    Freeze(usize, Duration),
    /// A node is told to stop, and started again after this time.
    Restart(usize, Duration),
    /// A partition is moved to a node.
    Move(usize, usize),
    /// The links between a node and NATS are cut, or held.
    Nats(usize, State, Duration),
    /// The links from the others to a node are cut, or held.
    Nodes(usize, State, Duration),
    /// A server of NATS is killed, and started again after this time.
    KillNats(usize, Duration),
    /// A server of NATS stands still.
    FreezeNats(usize, Duration),
    /// The links between a server of NATS and the others are cut, or held.
    Routes(usize, State, Duration),
    /// The disk of a server of NATS is full. It is started again when there is space after this time, as
    /// docs/cluster.md says.
    FullDisk(Duration),
    /// All servers of NATS are killed, and started again after this time.
    AllNats(Duration),
}

impl Fault {
    /// Any of them, mostly to the owner of a partition.
    pub fn draw(draw: &mut fastrand::Rng, nodes: usize, owners: &[Option<usize>]) -> Self {
        let (partition, any, nats) =
            (draw.usize(0..owners.len()), draw.usize(0..nodes), draw.usize(0..3));
        let node = owners[partition].unwrap_or(any);
        let mut span = |from: u64, to: u64| Duration::from_millis(draw.u64(from..to));
        let (down, frozen, short, gone) =
            (span(0, 9_000), span(5_000, 9_000), span(1_000, 6_000), span(3_000, 12_000));
        let state = if draw.bool() { State::Cut } else { State::Held };
        match draw.u8(0..28) {
            0..5 => Self::Kill(node, down),
            5..9 => Self::Freeze(node, frozen),
            9..12 => Self::Restart(node, down / 4),
            12..14 => Self::Move(partition, any),
            14..17 => Self::Nats(node, state, gone),
            17..19 => Self::Nodes(node, state, gone),
            19..21 => Self::KillNats(nats, down),
            21..23 => Self::FreezeNats(nats, frozen),
            23..25 => Self::Routes(nats, state, gone),
            25..27 => Self::FullDisk(gone),
            _ => Self::AllNats(short),
        }
    }

    /// Its kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill(..) => "a node is killed",
            Self::Freeze(..) => "a node stands still",
            Self::Restart(..) => "a node is stopped",
            Self::Move(..) => "a partition is moved",
            Self::Nats(_, State::Held, _) => "a node hears nothing of NATS",
            Self::Nats(..) => "a node is cut off from NATS",
            Self::Nodes(_, State::Held, _) => "a node hears nothing of other nodes",
            Self::Nodes(..) => "a node is cut off from other nodes",
            Self::KillNats(..) => "a server of NATS is killed",
            Self::FreezeNats(..) => "a server of NATS stands still",
            Self::Routes(_, State::Held, _) => "a server of NATS hears nothing of the others",
            Self::Routes(..) => "a server of NATS is cut off from the others",
            Self::FullDisk(..) => "the disk of a server of NATS is full",
            Self::AllNats(..) => "all servers of NATS are killed",
        }
    }

    /// What is measured of streams that it ends.
    pub fn streams(self) -> &'static str {
        if self.is_hand_over() {
            "streams that come back after a hand-over"
        } else {
            "streams that come back after a fault"
        }
    }

    /// Whether an owner gives away what it has, so that nothing at all is lost.
    pub fn is_hand_over(self) -> bool {
        matches!(self, Self::Restart(..) | Self::Move(..))
    }

    /// Whose partitions are not served meanwhile; none = those of nobody, or of all.
    pub fn node(self) -> Option<usize> {
        match self {
            Self::Kill(node, _)
            | Self::Freeze(node, _)
            | Self::Restart(node, _)
            | Self::Nats(node, ..) => Some(node),
            _ => None,
        }
    }

    /// The node whose process ends.
    pub fn ends(self) -> Option<usize> {
        match self {
            Self::Kill(node, _) | Self::Restart(node, _) => Some(node),
            _ => None,
        }
    }

    /// Does it, and mends it.
    pub async fn run(self, stage: &mut Stage) {
        match self {
            Self::Kill(node, down) => {
                stage.nodes[node].kill();
                sleep(down).await;
                stage.nodes[node].start();
            }
            Self::Freeze(node, frozen) => {
                stage.nodes[node].signal("-STOP");
                sleep(frozen).await;
                stage.nodes[node].signal("-CONT");
            }
            Self::Restart(node, down) => {
                match stage.nodes[node].stop().await {
                    Some((_, status)) if status.success() => {}
                    Some((_, status)) => {
                        let words = stage.nodes[node].last_words();
                        stage
                            .world
                            .violation("a node", format_args!("it ends with {status}: {words}"));
                    }
                    None => {
                        stage.world.violation("a node", "it does not stop");
                        stage.nodes[node].kill();
                    }
                }
                sleep(down).await;
                stage.nodes[node].start();
            }
            Self::Move(partition, node) => {
                let request = MovePartitionRequest {
                    partition: Some(partition as u32),
                    node: stage.nodes[node].name.clone(),
                };
                let asked = fastrand::usize(0..stage.nodes.len());
                if let Err(status) = stage.fleet.admin(asked).move_partition(request).await {
                    stage.tell(format_args!("it is not moved: {}", status.message()));
                }
            }
            Self::Nats(node, state, span) => {
                stage.nodes[node].set_nats(state);
                sleep(span).await;
                stage.nodes[node].set_nats(State::Up);
            }
            Self::Nodes(node, state, span) => {
                stage.nodes[node].set_nodes(state);
                sleep(span).await;
                stage.nodes[node].set_nodes(State::Up);
            }
            Self::KillNats(server, down) => {
                with_nats(stage, move |servers| servers[server].kill()).await;
                sleep(down).await;
                with_nats(stage, move |servers| servers[server].restart()).await;
            }
            Self::FreezeNats(server, frozen) => {
                stage.nats.servers[server].signal("STOP");
                sleep(frozen).await;
                stage.nats.servers[server].signal("CONT");
            }
            Self::Routes(server, state, span) => {
                stage.set_routes(server, state);
                sleep(span).await;
                stage.set_routes(server, State::Up);
            }
            Self::FullDisk(span) => {
                let Some(disk) = stage.disk.clone() else { return };
                let begun = Instant::now();
                while begun.elapsed() < span {
                    let disk = disk.clone();
                    spawn_blocking(move || disk.fill()).await.expect("it is done");
                    sleep(REFILL).await;
                }
                disk.free();
                with_nats(stage, |servers| servers[ON_DISK].restart()).await;
            }
            Self::AllNats(down) => {
                with_nats(stage, |servers| servers.iter_mut().for_each(|it| it.kill())).await;
                sleep(down).await;
                with_nats(stage, |servers| servers.iter_mut().for_each(|it| it.restart())).await;
            }
        }
    }
}

/// Does something to the servers of NATS that takes a while.
async fn with_nats(stage: &mut Stage, work: impl FnOnce(&mut [Server]) + Send + 'static) {
    let mut servers = mem::take(&mut stage.nats.servers);
    let done = spawn_blocking(move || {
        work(&mut servers);
        servers
    });
    stage.nats.servers = done.await.expect("it is done");
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
