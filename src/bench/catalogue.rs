//! The table of the rows: what each measures, what it is meant to reach, what is not equal in it. How
//! a row is measured stands in `rows`.

use super::goal::Goal;
use clap::{ValueEnum, builder::PossibleValue};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table says what each is")]
pub enum Row {
    Own10,
    Own10Tls,
    Own40,
    Hosted1000,
    Hosted5000,
    BigRoom,
    EagerSparse,
    Gateway10,
    Gateway40,
    GatewayMaxColumns50,
    GatewayMaxColumns2,
    GatewayMaxNamed50,
    GatewayMaxNamed2,
    TwoCores,
    ScaleUsers,
    ScaleSessions,
    IdleConnections,
    IdleSessions,
    IdleGatewayUsers,
    Unary,
    OpenClose,
    DurableNone,
    DurableAsync,
    DurableSync,
    Restart,
    WrongPasswords,
    Overload,
    TwoApps,
    Own10Identity,
    UnaryIdentity,
    ClusterForwarded,
    ClusterAsync,
    ClusterSync,
    ClusterThree,
    ClusterHandOver,
    ClusterTakeOver,
}

/// What there is to say of a row.
#[derive(Debug)]
pub struct About {
    /// Which one.
    pub row: Row,
    /// Its name, in the report and on the command line.
    pub name: &'static str,
    /// What happens, and what is measured.
    pub measures: &'static str,
    /// What it is meant to reach.
    pub goals: &'static [Goal],
    /// What the figures compare although it is not the same.
    pub not_equal: &'static str,
    /// How many stretches of time are measured in a repetition.
    pub windows: u32,
}

/// The server's CPU above which latencies are no goal, in percent of one core.
const MODERATE: (&str, f64) = ("server_cpu_percent", 60.0);
/// A tick of 50 ms: half a tick and 2 ms, a tick and 3 ms.
const P50: Goal = Goal::at_most("S5", "p50_ms", 27.0).while_at_most(MODERATE.0, MODERATE.1);
const P99: Goal = Goal::at_most("S5", "p99_ms", 53.0).while_at_most(MODERATE.0, MODERATE.1);

/// Of rows that compare two servers in turns.
const TURNS: &str = "Both servers run all the time, and the one that does not have its turn has nothing to \
    do. What differs by chance from process to process, as where things lie in memory, stays the same within \
    a repetition.";

const NO_HTTP: &str = "The floor reads and writes the same bytes as often, without HTTP/2, protobuf and \
    sessions.";

const COLYSEUS: &str = "The floor reads and writes the same bytes as often, without HTTP/2, protobuf and \
    sessions. Colyseus (Node, ws transport) knows the two doubles by its schema, acks nothing and has no \
    resume; its clients write {x, y} as msgpack.";
const RELAYS: &str = "The floor reads and writes the same bytes as often. Redis and NATS relay each \
    update as 18 opaque bytes over one channel for each room: they keep no state, compare nothing, know \
    no snapshot, and send at once.";
const MAX: &str = "No floor. Generator and server share the machine: where the generator is late, the \
    limit is its own and the row says so.";

/// Every row, in the order in which they are measured.
pub const ROWS: &[About] = &[
    About {
        row: Row::Own10,
        name: "own-10x50",
        measures: "10 rooms of 50 users, 20 updates/s each, tick 50 ms. A connection and a \
            StreamUserProps stream for each user, two doubles, acks on. A delivery is one user's update \
            at one other user.",
        goals: &[
            Goal::at_most("S1", "floor_ratio", 1.25),
            Goal::at_most("S1", "colyseus_ratio", 0.5),
            Goal::at_most("S4", "bytes_per_delivery", 41.0),
            P50,
            P99,
        ],
        not_equal: COLYSEUS,
        windows: 2,
    },
    About {
        row: Row::Own10Tls,
        name: "own-10x50-tls",
        measures: "The same at a server with TLS 1.3. The bytes of TLS are among those on the wire.",
        goals: &[P50, P99],
        not_equal: "The floor reads and writes as many bytes as often as TLS makes of them, without \
            TLS, HTTP/2, protobuf and sessions. Colyseus is measured without TLS.",
        windows: 2,
    },
    About {
        row: Row::Own40,
        name: "own-40x50",
        measures: "Like own-10x50 with 40 rooms.",
        goals: &[Goal::at_most("S1", "floor_ratio", 1.25), P50, P99],
        not_equal: COLYSEUS,
        windows: 2,
    },
    About {
        row: Row::Hosted1000,
        name: "hosted-1000",
        measures: "A hosted session with 1,000 spectators, a connection and a SubscribeToSession stream \
            for each. The host writes 20 times a second, tick 50 ms. A delivery is one message.",
        goals: &[Goal::at_most("S8", "floor_ratio", 1.25), P50, P99],
        not_equal: NO_HTTP,
        windows: 2,
    },
    About {
        row: Row::Hosted5000,
        name: "hosted-5000",
        measures: "The same with 5,000 spectators.",
        goals: &[Goal::at_most("S8", "floor_ratio", 1.25), P50, P99],
        not_equal: NO_HTTP,
        windows: 2,
    },
    About {
        row: Row::BigRoom,
        name: "big-room",
        measures: "One room of 10,000 members who write once a second, tick 50 ms. They send only, 100 \
            streams on a connection, except for ten of them, who have a connection each and receive. A \
            late joiner's snapshot is timed.",
        goals: &[P50, P99],
        not_equal: "No floor: nearly all that the server does here is taking updates in and acking them.",
        windows: 1,
    },
    About {
        row: Row::EagerSparse,
        name: "eager-sparse",
        measures: "Two users in a room with EAGER pacing, an update every 500 ms.",
        goals: &[Goal::at_most("S5", "p50_ms", 0.5), Goal::at_most("S5", "p99_ms", 2.0)],
        not_equal: "No floor: it is about latency.",
        windows: 1,
    },
    About {
        row: Row::Gateway10,
        name: "gateway-10",
        measures: "10 backends with one Gateway stream and one room of 50 users each, 20 updates/s of \
            every user, in columns up and down, tick 50 ms. A delivery is one user's update at the \
            backend. Once more with floats for the bytes.",
        goals: &[
            Goal::at_most("S2", "floor_ratio", 1.5),
            Goal::at_most("S2", "redis_ratio", 0.5),
            Goal::at_most("S2", "nats_ratio", 0.5),
            Goal::at_most("S4", "bytes_per_delivery", 17.5),
            Goal::at_most("S4", "bytes_per_delivery_of_floats", 10.0),
            P50,
            P99,
        ],
        not_equal: RELAYS,
        windows: 5,
    },
    About {
        row: Row::Gateway40,
        name: "gateway-40",
        measures: "The same with 40 backends, without floats.",
        goals: &[
            Goal::at_most("S2", "floor_ratio", 1.5),
            Goal::at_most("S2", "redis_ratio", 0.5),
            Goal::at_most("S2", "nats_ratio", 0.5),
            P50,
            P99,
        ],
        not_equal: RELAYS,
        windows: 4,
    },
    About {
        row: Row::GatewayMaxColumns50,
        name: "gateway-max-columns-50",
        measures: "10 backends, rooms of 50, ten numbers in each update, 20 updates/s, in columns up and \
            down, tick 50 ms: more and more rooms, by a quarter at a time, until the p99 is over the \
            tick + 5 ms. The figures are those of the last step before.",
        goals: &[Goal::at_least("S3", "prop_writes_per_second", 20e6)],
        not_equal: MAX,
        windows: 8,
    },
    About {
        row: Row::GatewayMaxColumns2,
        name: "gateway-max-columns-2",
        measures: "The same with rooms of 2.",
        goals: &[Goal::at_least("S3", "prop_writes_per_second", 8e6)],
        not_equal: MAX,
        windows: 8,
    },
    About {
        row: Row::GatewayMaxNamed50,
        name: "gateway-max-named-50",
        measures: "The same with rooms of 50, by name up and down.",
        goals: &[Goal::at_least("S3", "prop_writes_per_second", 1.5e6)],
        not_equal: MAX,
        windows: 8,
    },
    About {
        row: Row::GatewayMaxNamed2,
        name: "gateway-max-named-2",
        measures: "The same with rooms of 2, by name.",
        goals: &[],
        not_equal: MAX,
        windows: 8,
    },
    About {
        row: Row::TwoCores,
        name: "two-cores",
        measures: "10 backends with 10 rooms of 50 each, in columns: at a server with one thread, then at \
            one with two. `speedup` is the CPU of the one thread over that of the busier one of the two.",
        goals: &[Goal::at_least("S9", "speedup", 1.8)],
        not_equal: "The load is the same and far from the limit, because the generator needs cores, too: \
            the speedup is what would be left if only the threads' CPU counted.",
        windows: 2,
    },
    About {
        row: Row::ScaleUsers,
        name: "scale-users",
        measures: "Rooms of 2, 10, 50, 200 and 1,000 users with a connection each, tick 50 ms. Larger \
            rooms are fewer, and their users write less often, down to twice a second.",
        goals: &[Goal::at_most("S10", "growth", 1.1)],
        not_equal: "`growth` is the cost per delivery over that of the next smaller room, from 10 users \
            on, where it grows most; 10% are taken for noise.",
        windows: 10,
    },
    About {
        row: Row::ScaleSessions,
        name: "scale-sessions",
        measures: "1, 100, 10,000 and 100,000 rooms of 2 users on the Gateway stream of one backend, in \
            columns, tick 50 ms. With more rooms, users write less often: up to 40,000 updates/s.",
        goals: &[Goal::at_most("S10", "growth", 1.1)],
        not_equal: "`growth` is the cost per delivery over that of the next smaller number of rooms, \
            where it grows most; 10% are taken for noise. With rare writes fewer of them share a message.",
        windows: 4,
    },
    About {
        row: Row::IdleConnections,
        name: "idle-connections",
        measures: "10,000 subscriptions on which nothing happens: first with a connection each, then 100 \
            on each connection.",
        goals: &[
            Goal::at_most("S7", "kib_per_connection", 20.0),
            Goal::at_most("S7", "kib_per_stream", 3.0),
            Goal::at_most("S7", "server_cpu_percent", 1.0),
        ],
        not_equal: "Memory is what the process has resident. The first room of each is not counted.",
        windows: 4,
    },
    About {
        row: Row::IdleSessions,
        name: "idle-sessions",
        measures: "One busy room of 50, alone and beside 100,000 sessions in which nothing happens.",
        goals: &[
            Goal::at_most("S6", "cpu_change_percent", 5.0),
            Goal::at_most("S6", "bytes_per_idle_session", 1_024.0),
        ],
        not_equal: "Memory is what the process has resident.",
        windows: 2,
    },
    About {
        row: Row::IdleGatewayUsers,
        name: "idle-gateway-users",
        measures: "10,000 users in rooms of 50 on the Gateway stream of one backend, and nothing happens. \
            How fast they are attached, and what they take.",
        goals: &[
            Goal::at_most("S7", "bytes_per_user", 300.0),
            Goal::at_most("S7", "server_cpu_percent", 1.0),
            Goal::at_most("S7", "attached_after_ms", 1_000.0),
        ],
        not_equal: "Memory is what the process has resident, without that of the rooms, which were open \
            before.",
        windows: 2,
    },
    About {
        row: Row::Unary,
        name: "unary",
        measures: "Unary calls on one connection, 50 at once, in 20 rooms of 50: SetUserProps, GetSessionInfo, JoinSession \
            with LeaveSession, OpenSharedSession with DeleteSession. Requests per second of server CPU.",
        goals: &[],
        not_equal: "No floor, no goal: figures to compare with later ones.",
        windows: 4,
    },
    About {
        row: Row::OpenClose,
        name: "open-close",
        measures: "1,000,000 sessions are opened and ended again. How fast, what they took, and what is \
            still taken after that.",
        goals: &[Goal::at_least("S6", "memory_back_percent", 90.0)],
        not_equal: "Memory is what the process has resident; what its allocator keeps is not given back. \
            The container has another allocator (jemalloc).",
        windows: 6,
    },
    About {
        row: Row::DurableNone,
        name: "durable-none",
        measures: "The load of own-10x50 in turns at a server without a store and at one with a store whose \
            sessions are NONE. `cpu_change_percent` is the median over pairs of turns beside each other, with \
            its quartiles.",
        goals: &[Goal::at_most("D4", "cpu_change_percent", 2.0)],
        not_equal: TURNS,
        windows: 6,
    },
    About {
        row: Row::DurableAsync,
        name: "durable-async",
        measures: "The same with ASYNC sessions.",
        goals: &[
            Goal::at_most("D1", "cpu_change_percent", 10.0),
            Goal::at_most("D1", "p99_more_ms", 2.0),
        ],
        not_equal: "As in durable-none. `bytes_written_per_update` is what the process had the kernel write, \
            with all that the store writes to be able to go on.",
        windows: 6,
    },
    About {
        row: Row::DurableSync,
        name: "durable-sync",
        measures: "The same with SYNC: each frame waits for its commit.",
        goals: &[Goal::at_most("D2", "p50_more_ms", 2.0)],
        not_equal: "As in durable-async. `p50_more_ms` is about what a commit takes on this disk.",
        windows: 6,
    },
    About {
        row: Row::Restart,
        name: "restart",
        measures: "100,000 sessions are opened, each stored before the reply, 50 calls at once. The server \
            is killed and started again: until it serves.",
        goals: &[
            Goal::at_most("D3", "ready_after_ms", 3_000.0).while_at_most("sessions", 100_000.0),
            Goal::at_most("D3", "ready_after_ms", 20_000.0).while_at_most("sessions", 1_000_000.0),
        ],
        not_equal: "No floor. Nobody is in the sessions.",
        windows: 2,
    },
    About {
        row: Row::WrongPasswords,
        name: "wrong-passwords",
        measures: "One busy room of 50, alone and beside a client that tries to join other sessions with \
            wrong passwords, 16 calls at once, as fast as it is answered: half of them go from session \
            to session, so that there is always a password to compare, the others stay at one each and \
            are soon refused without.",
        goals: &[Goal::at_most("S5", "p99_ms", 53.0)],
        not_equal: "How much is compared is what the machine has left: passwords have the lowest priority.",
        windows: 2,
    },
    About {
        row: Row::Overload,
        name: "overload",
        measures: "GetSessionInfo of a session with 400 members: 64 calls at once, which is as many as can \
            be answered, and then three times as many calls a second, at even distances, whatever becomes \
            of them. What is refused does not come again.",
        goals: &[
            Goal::at_least("A1", "goodput_percent", 90.0),
            Goal::at_most("A2", "refused_p99_ms", 50.0),
        ],
        not_equal: "A call costs the server much and the generator little. Of calls that cost little, to \
            refuse one costs as much as to answer it.",
        windows: 2,
    },
    About {
        row: Row::TwoApps,
        name: "two-apps",
        measures: "One busy room of 50, alone and beside another app that makes 1,500 calls a second and \
            may make 500.",
        goals: &[Goal::at_most("A3", "p99_change_percent", 20.0)],
        not_equal: "What is refused takes time of the generator, too.",
        windows: 2,
    },
    About {
        row: Row::Own10Identity,
        name: "own-10x50-identity",
        measures: "The load of own-10x50 in turns at a server without an identity file and at one with it: \
            each stream is opened with a token of its user, HS256. `cpu_change_percent` as in durable-none.",
        goals: &[Goal::at_most("I1", "cpu_change_percent", 2.0)],
        not_equal: "As in durable-none. Tokens are verified before the measured time begins, as streams are \
            opened.",
        windows: 6,
    },
    About {
        row: Row::UnaryIdentity,
        name: "unary-identity",
        measures: "The calls of unary at a server without an identity file, and then at one with it: with a \
            token of a backend that names all apps of the row, and with an API key. A ratio is of requests per \
            second of server CPU, with over without; `token_ratio` and `key_ratio` are the lowest of \
            the four kinds of calls.",
        goals: &[Goal::at_least("I2", "token_ratio", 0.9), Goal::at_least("I2", "key_ratio", 0.9)],
        not_equal: "The two servers run one after the other. The generator's HTTP/2, like that of tonic, \
            sends the whole credential with each call; others send it once and then its number (HPACK).",
        windows: 12,
    },
    About {
        row: Row::ClusterForwarded,
        name: "cluster-forwarded",
        measures: "The load of own-10x50 in turns at two clusters of two nodes: at one all users call the node \
            that has their sessions, at the other the node that sends everything on. CPU is that of both \
            nodes. Then GetSessionInfo, one call at a time.",
        goals: &[
            Goal::at_most("C1", "p50_more_ms", 0.5),
            Goal::at_most("C1", "call_p50_more_ms", 0.5),
        ],
        not_equal: "As in durable-none. The node that is not called beats, and does nothing else.",
        windows: 7,
    },
    About {
        row: Row::ClusterAsync,
        name: "cluster-async",
        measures: "The load of own-10x50 in turns at a server that is alone and stores nothing, and at a node \
            whose sessions are ASYNC, stored by three servers of NATS that sync. Then DURABLE writes, one at \
            a time.",
        goals: &[
            Goal::at_most("C2", "cpu_change_percent", 10.0),
            Goal::at_most("C2", "p99_more_ms", 2.0),
        ],
        not_equal: "As in durable-none. The servers of NATS share the machine; their CPU is in no figure.",
        windows: 8,
    },
    About {
        row: Row::ClusterSync,
        name: "cluster-sync",
        measures: "The same with SYNC: each frame waits for its commit.",
        goals: &[],
        not_equal: "As in cluster-async. `p50_more_ms` is about what a commit takes on this machine.",
        windows: 8,
    },
    About {
        row: Row::ClusterThree,
        name: "cluster-three",
        measures: "The load of own-10x50 in turns at a server that is alone, and at a cluster of three nodes \
            that share its apps, each connection to one of them in turn: two of three calls are sent on. CPU is \
            that of all nodes.",
        goals: &[],
        not_equal: "As in durable-none. What three machines can do together is not seen on one.",
        windows: 7,
    },
    About {
        row: Row::ClusterHandOver,
        name: "cluster-hand-over",
        measures: "A session in a cluster of three nodes, whose owner is asked to stop, ten times: the longest \
            that somebody waits for an answer who writes all the time at another node.",
        goals: &[Goal::at_most("C3", "gap_p50_ms", 500.0)],
        not_equal: "No floor.",
        windows: 12,
    },
    About {
        row: Row::ClusterTakeOver,
        name: "cluster-take-over",
        measures: "The same, and the owner is killed.",
        goals: &[
            Goal::at_most("C4", "gap_p50_ms", 6_000.0),
            Goal::at_most("C4", "gap_p99_ms", 10_000.0),
        ],
        not_equal: "No floor.",
        windows: 12,
    },
];

impl Row {
    /// What there is to say of it.
    pub fn about(self) -> &'static About {
        let about = ROWS.iter().find(|about| about.row == self);
        about.expect("every row is in the table")
    }
}

impl ValueEnum for Row {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Row; ROWS.len()] = {
            let mut all = [Row::Own10; ROWS.len()];
            let mut at = 0;
            while at < ROWS.len() {
                all[at] = ROWS[at].row;
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.about().name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_described_where_people_read() {
        let page = std::fs::read_to_string("BENCHMARKS.md").expect("the page");
        for about in ROWS {
            assert!(page.contains(&format!("`{}`", about.name)), "{} is missing", about.name);
            assert_eq!(about.row.about().name, about.name);
        }
    }
}
