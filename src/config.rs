//! Every knob of `sessiond serve`. Each is declared once, in `settings!` below: name, type, default,
//! range and help; the flag, the environment variable, the key of the file, the help text and the
//! field of [`Config`] all follow from that.
//!
//! `kind` says what values may be, `sources` where they come from and which place wins.

mod apps;
mod kind;
mod listen;
mod networks;
mod sources;

use self::kind::{
    bytes, cluster_name, count, durability, duration, duration_or_none, file_or_none, filter,
    folder_or_none, format, host_and_port_or_none, listen, listen_or_none, networks, node_name,
    switch, switch_or_auto, urls_or_none,
};
use self::sources::Values;
pub use self::{
    apps::{LimitOfApps, limits_of_apps, read_apps},
    listen::Listen,
    networks::Networks,
    sources::{ConfigError, Given, Resolved},
};
use crate::{logging, session::settings::Durability};
use std::{path::PathBuf, sync::LazyLock, time::Duration};

/// Turns each `name: type = default, kind(range);` and the help above it into a field of [`Config`],
/// the reading of that field, and its [`Setting`].
macro_rules! settings {
    ($($heading:literal {
        $($(#[doc = $help:literal])+
        $field:ident: $type:ty = $default:expr, $kind:ident($($range:literal)?);)+
    })+) => {
        /// Every setting, valid and within its range.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $($(
                $(#[doc = $help])+
                #[doc = concat!("\n\nDefault `", stringify!($default), "`", $(", range `", $range, "`",)? ".")]
                pub $field: $type,
            )+)+
        }

        impl Config {
            /// Nothing, if a value is wrong; every one that is becomes a fault.
            fn read(values: &Values, faults: &mut Vec<ConfigError>) -> Option<Self> {
                $($(
                    let name = name_of(stringify!($field));
                    let $field = values.read(&name, &$kind($($range)?));
                    let $field = $field.map_err(|fault| faults.push(fault)).ok();
                )+)+
                Some(Config { $($($field: $field?,)+)+ })
            }
        }

        fn declared() -> Vec<Setting> {
            vec![$($({
                let kind = $kind($($range)?);
                let field = stringify!($field);
                Setting {
                    name: name_of(field),
                    env: format!("SESSIOND_{}", field.to_uppercase()),
                    heading: $heading,
                    help: concat!($($help),+).trim().to_owned(),
                    default: $default.into(),
                    value_name: kind.value_name,
                    takes: kind.takes,
                    range: None::<&str>$(.or(Some($range)))?,
                }
            },)+)+]
        }
    };
}

// Beware of names that Kubernetes gives to variables of its own: beside a Service called
// `sessiond` every pod finds SESSIOND_PORT, SESSIOND_PORT_* and SESSIOND_SERVICE_*.
settings! {
    "Listening" {
        /// Where to listen. `:7000` is all interfaces, `7000` this machine alone, a host name its first
        /// address that the machine has, IPv4 before IPv6; port 0 is any free port.
        listen: Listen = "127.0.0.1:7000", listen();
        /// The proxies in front of this server, as networks with commas between. They, and nobody else,
        /// begin each connection with a header of the PROXY protocol, version 2, and what is limited per
        /// address counts the clients that they name.
        trusted_proxies: Networks = "none", networks();
        /// The proxies that pass on calls of several clients over one connection, as networks with commas
        /// between. They, and nobody else, are believed in the header x-forwarded-for of each call: what
        /// is limited per address and is no connection or stream counts the clients that it names.
        forwarding_proxies: Networks = "none", networks();
        /// Name of this node, sent as `sessiond-node` with every response. Unless set, the host name.
        node: String = host_name(), node_name();
        /// Threads that serve connections and tick sessions. Unless set, one per available core.
        threads: usize = available_cores(), count("1..256");
    }
    "TLS" {
        /// The certificate of this server and those between it and its authority, in PEM. With it the
        /// server speaks TLS only. It is read again when it changes. See docs/security.md.
        tls_certificate: Option<PathBuf> = "none", file_or_none();
        /// The private key of the certificate, in PEM. Others must not be able to read it.
        tls_key: Option<PathBuf> = "none", file_or_none();
        /// The authorities whose certificates clients may show, in PEM. A certificate that none of them
        /// has issued ends the handshake. Unless set, clients are asked for none.
        tls_client_ca: Option<PathBuf> = "none", file_or_none();
        /// Whether a client without a certificate is refused in the handshake.
        tls_require_client: bool = "false", switch();
    }
    "Cluster" {
        /// The servers of NATS that keep the log of a cluster, with commas between. With it this server is
        /// one node of several, which are one service, and store is left out. A password in a URL is
        /// better given by the environment, as others see flags. See docs/cluster.md.
        cluster: Option<String> = "none", urls_or_none();
        /// The name of the cluster. Several clusters share an account of NATS if their names differ.
        cluster_name: String = "sessiond", cluster_name();
        /// Into how many partitions the apps of the cluster are divided: the same at all nodes, and for
        /// ever.
        cluster_partitions: usize = "16", count("1..256");
        /// On how many servers of NATS everything is kept: 3 or 5; 1 is for trials.
        cluster_replicas: usize = "3", count("1..5");
        /// Bytes that the log of a partition may take at each server of NATS. Above half of that writes are
        /// refused, as if the disk was full.
        cluster_log_bytes: usize = "1024MiB", bytes("128MiB..1048576MiB");
        /// A file of credentials of NATS, as `nsc` makes it. Others must not be able to read it.
        cluster_credentials: Option<PathBuf> = "none", file_or_none();
        /// The authorities of the certificates of the servers of NATS, in PEM. Unless set, those that the
        /// system trusts.
        cluster_ca: Option<PathBuf> = "none", file_or_none();
        /// Where other nodes reach the port of nodes of this one: node-listen, unless that is all interfaces.
        /// With certificates, its host is a name in that of this node.
        node_address: Option<String> = "none", host_and_port_or_none();
    }
    "Nodes" {
        /// Where other nodes of the cluster send on to this one what they do not answer themselves. It is
        /// for them alone: give them certificates or a secret, unless it is on this machine.
        node_listen: Option<Listen> = "none", listen_or_none();
        /// The certificate of this node and those between it and its authority, in PEM, for the port of
        /// nodes and for calling those of others. It is read again when it changes.
        node_certificate: Option<PathBuf> = "none", file_or_none();
        /// The private key of the certificate of this node, in PEM. Others must not be able to read it.
        node_key: Option<PathBuf> = "none", file_or_none();
        /// The authorities of the certificates of nodes, in PEM. Everybody who has one of theirs is a
        /// node, so they must issue none to anybody else.
        node_ca: Option<PathBuf> = "none", file_or_none();
        /// A file with a secret of the nodes, of 32 bytes or more, for a closed network: without
        /// certificates it goes in clear text. Of several lines the first is shown to others, and all are
        /// taken. It is read again when it changes.
        node_secret: Option<PathBuf> = "none", file_or_none();
    }
    "Identity" {
        /// A file that says who may call: issuers of tokens, API keys. Without it every caller is
        /// believed, and may do everything. See docs/security.md.
        identity: Option<PathBuf> = "none", file_or_none();
        /// Whether to listen beyond this machine although every caller is believed.
        insecure: bool = "false", switch();
        /// Whether the server tells by reflection which calls it has, to callers without a credential
        /// too.
        reflection: bool = "true", switch();
    }
    "Events" {
        /// A file that says which URLs get the events. See docs/events.md.
        webhooks: Option<PathBuf> = "none", file_or_none();
    }
    "Storing" {
        /// Where sessions are stored so that they outlive the process; the folder is made if it is not
        /// there.
        store: Option<PathBuf> = "none", folder_or_none();
        /// How far what is stored of an ASYNC session may be behind what it shows.
        store_interval: Duration = "200ms", duration("10ms..10s");
        /// Durability of sessions that do not choose their own; auto is async with a store or in a cluster,
        /// and none without.
        durability: Option<Durability> = "auto", durability();
        /// Most bytes that the store may take. 64 MiB below that writes are refused, as if the disk was
        /// full.
        max_store_bytes: usize = "1048576MiB", bytes("128MiB..1073741824MiB");
    }
    "Passwords" {
        /// Threads that check passwords, at the lowest priority and apart from those that serve; each
        /// takes a core and 19 MiB while there are passwords to check.
        password_threads: usize = "1", count("1..64");
    }
    "Logging" {
        /// Shape of a log line on stderr.
        log_format: logging::Format = "text", format();
        /// Which log lines are written. Libraries (h2, tonic, tower) write errors only, and async_nats
        /// writes nothing, unless they are named: info,h2=debug.
        log_filter: String = "info", filter();
    }
    "Timing" {
        /// Tick of sessions that do not choose their own.
        tick_interval: Duration = "10ms", duration("1ms..60s");
        /// Longest silence on a stream before a heartbeat is sent.
        heartbeat_interval: Duration = "15s", duration("1s..1h");
        /// A client that can be sent nothing for so long does not read: its call, or its connection if
        /// nothing at all goes out, is ended.
        slow_limit: Duration = "60s", duration("1s..1h");
        /// A call whose first message has not come whole by then is ended.
        first_message_timeout: Duration = "30s", duration("1s..10m");
        /// A stream of this age, less up to 10% at random, is ended for its client to reconnect;
        /// 0 lets streams live for ever.
        stream_max_age: Option<Duration> = "1h", duration_or_none("10s..7d");
        /// A tied member that has opened no stream for so long after joining leaves.
        join_timeout: Duration = "15s", duration("1s..1h");
        /// A user without a membership and a stream is forgotten after this long.
        user_ttl: Duration = "60s", duration("1s..24h");
        /// On a stop, how long before the end gateways get notice, if there are any; everything goes on
        /// meanwhile.
        drain_notice: Duration = "1s", duration("0s..5m");
        /// Longest a stop may take; what has not ended by then is cut off.
        drain_timeout: Duration = "20s", duration("0s..10m");
        /// On a stop, the delays that clients get for coming back are spread over this long.
        drain_spread: Duration = "2s", duration("0s..5m");
        /// How long a session remembers removals and departures, so that deltas can name them.
        removal_memory: Duration = "5m", duration("1s..1h");
        /// How long the log of a session stays when nobody subscribes with ALL delivery any more.
        log_memory: Duration = "60s", duration("1s..1h");
    }
    "Permissions" {
        /// Whether any user may open a private session that shows it another user's props, by
        /// SubscribeToUser or OpenPrivateSession. If not, the source opens it, or a backend does; auto is
        /// true where every caller is believed.
        open_subscriptions: Option<bool> = "auto", switch_or_auto();
        /// A file of rules and hooks: what must be true of what users ask for, and which backends have
        /// a say in it. See docs/hooks.md.
        policy: Option<PathBuf> = "none", file_or_none();
    }
    "Limits" {
        /// A file that says how far single apps are limited; it is read again when it changes. Without it
        /// the limits of the server are for all apps together. See docs/limits.md.
        apps: Option<PathBuf> = "none", file_or_none();
        /// Largest request message.
        max_request_bytes: usize = "64KiB", bytes("1KiB..16MiB");
        /// Largest request message of a gateway.
        max_gateway_request_bytes: usize = "1MiB", bytes("1KiB..16MiB");
        /// Most users that a gateway has attached.
        max_gateway_users: usize = "100000", count("1..10000000");
        /// Longest key of a prop.
        max_key_bytes: usize = "128", bytes("1..1024");
        /// Largest value of a prop.
        max_value_bytes: usize = "16KiB", bytes("16..512KiB");
        /// Deepest nesting of lists and maps in a value.
        max_nesting: usize = "8", count("1..32");
        /// Most props of a user in a session.
        max_props_per_user: usize = "256", count("1..4096");
        /// Most members of a session.
        max_members: usize = "10000", count("1..100000");
        /// Most removals and departures a session remembers, so that deltas can name them.
        max_removals: usize = "1024", count("0..1000000");
        /// Most updates in the log of a session, from which ALL delivery reads.
        max_log_updates: usize = "4096", count("1..1000000");
        /// Largest log of a session.
        max_log_bytes: usize = "1MiB", bytes("1KiB..64MiB");
        /// Most bytes of the logs of all sessions on this node, in a cluster of each partition; what does not
        /// fit makes logs shorter.
        max_logs_bytes: usize = "256MiB", bytes("1KiB..65536MiB");
        /// Most events in the journal of an app, from which WatchEvents and webhooks read.
        max_journal_events: usize = "10000", count("1..10000000");
        /// Largest journal of an app.
        max_journal_bytes: usize = "8MiB", bytes("16KiB..1024MiB");
        /// Most bytes of the journals of all apps on this node, in a cluster of each partition; what does
        /// not fit makes journals shorter.
        max_journals_bytes: usize = "64MiB", bytes("64KiB..65536MiB");
        /// Most streams that watch the events of an app.
        max_event_watchers: usize = "32", count("1..10000");
        /// Most sessions on this node, in a cluster of each partition.
        max_sessions: usize = "1000000", count("1..10000000");
        /// Most users on this node, in a cluster of each partition.
        max_users: usize = "1000000", count("1..10000000");
        /// Most sessions a user may be in at a time.
        max_sessions_per_user: usize = "1000", count("1..100000");
        /// Most private sessions in which a user may be the source.
        max_listeners_per_user: usize = "1000", count("1..100000");
        /// Most updates a user may write in a second, in bursts of up to one second's worth.
        max_updates_per_second: usize = "200", count("1..1000000");
        /// Most changes of sessions and members that a user may make in a second: openings, joins, roles,
        /// kicks, bans, settings, resets, seats, hosts. In bursts of up to one second's worth, or as many as
        /// max-sessions-per-user.
        max_changes_per_second: usize = "20", count("1..1000000");
        /// Most bytes of replies that are remembered for requests with an id, each for two minutes, in a
        /// cluster of each partition.
        max_replay_bytes: usize = "256MiB", bytes("1MiB..16384MiB");
        /// Most object streams on this node, in a cluster of each partition; also the most functions of them.
        max_object_streams: usize = "10000", count("1..1000000");
        /// Most connections at a time. When there is no room, those without a stream go first.
        max_connections: usize = "50000", count("1..1000000");
        /// Most connections at a time from one address; 0 is no limit, which is right behind a load
        /// balancer that is no trusted proxy: there all clients have its address.
        max_connections_per_address: usize = "0", count("0..1000000");
        /// Most new connections from one address in a second, in bursts of up to one second's worth;
        /// what comes over it is closed at once. 0 is no limit.
        max_new_connections_per_address: usize = "0", count("0..1000000");
        /// Most calls from one address in a second that are refused for their credentials; over it they
        /// get RESOURCE_EXHAUSTED and a time to wait. Calls with valid credentials go on. 0 is no
        /// limit.
        max_refused_calls_per_address: usize = "1000", count("0..1000000");
        /// Most streams open at a time from one address; 0 is no limit.
        max_streams_per_address: usize = "0", count("0..100000000");
        /// Most connections from one address that have not finished their handshake; 0 is no limit.
        max_handshakes_per_address: usize = "0", count("0..1000000");
        /// Most handshakes of TLS at a time; over it the one makes room that takes longest.
        max_tls_handshakes: usize = "1000", count("1..100000");
        /// Most streams open on a connection at a time; the client holds back the next.
        max_streams_per_connection: usize = "1000", count("1..100000");
        /// Most bytes of replies and updates that wait for the client of a connection; over it nothing
        /// more is made for that client.
        max_unsent_bytes: usize = "1MiB", bytes("64KiB..1024MiB");
        /// Most bytes that wait on all connections; over it the connections on which most waits are ended.
        max_unsent_total: usize = "1024MiB", bytes("1MiB..1048576MiB");
    }
    "Connections" {
        /// A connection that has not finished its handshake by then is closed, and so is one that
        /// leaves the headers of a call unfinished for so long.
        handshake_timeout: Duration = "10s", duration("1s..5m");
        /// A connection that has had no stream for so long is closed; its client opens another when it
        /// needs one. 0 leaves it open.
        idle_timeout: Option<Duration> = "5m", duration_or_none("1s..7d");
        /// A client from which nothing came for so long, or for half the slow-limit, is sent a PING.
        keepalive_interval: Duration = "20s", duration("1s..1h");
        /// A client that has not answered a PING for so long is gone: its connection is closed.
        keepalive_timeout: Duration = "10s", duration("1s..5m");
    }
}

/// One setting as an operator meets it.
#[derive(Debug)]
pub struct Setting {
    /// The key in the file, and the flag without its dashes: `tick-interval`.
    pub name: String,
    /// The environment variable: `SESSIOND_TICK_INTERVAL`.
    pub env: String,
    /// The group it is listed under.
    pub heading: &'static str,
    /// What it does, in a sentence or two.
    pub help: String,
    /// The default as it would be written in the file.
    pub default: String,
    /// The word that stands for its value in the help: `DURATION`.
    pub value_name: &'static str,
    /// What it takes, in words: `a duration in 1ms..60s`.
    pub takes: String,
    /// The least and the most it may be, both allowed, for settings that are numbers: `1ms..60s`.
    pub range: Option<&'static str>,
}

/// Every setting, in the order of the help.
pub fn settings() -> &'static [Setting] {
    static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(declared);
    &SETTINGS
}

impl Default for Config {
    fn default() -> Self {
        let mut faults = Vec::new();
        let config = Config::read(&Values::default(), &mut faults);
        config.unwrap_or_else(|| panic!("every default is within its range: {faults:?}"))
    }
}

fn name_of(field: &str) -> String {
    field.replace('_', "-")
}

fn host_name() -> String {
    let host = gethostname::gethostname().into_string().ok();
    host.filter(|host| (node_name().read)(host).is_some()).unwrap_or_else(|| "sessiond".to_owned())
}

fn available_cores() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.min(256).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn the_defaults_are_typed_and_valid() {
        let config = Config::default();
        assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 7000)).into());
        assert_eq!(config.tick_interval, Duration::from_millis(10));
        assert_eq!(config.stream_max_age, Some(Duration::from_secs(3600)));
        assert_eq!(config.max_request_bytes, 65_536);
        assert!((1..=256).contains(&config.threads));
        assert!(!config.node.is_empty());
    }

    #[test]
    fn no_variable_is_one_that_kubernetes_sets() {
        for setting in settings() {
            assert!(!sources::is_of_kubernetes(&setting.env), "{}", setting.env);
        }
    }
}
