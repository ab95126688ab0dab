//! What is wrong with the settings of a cluster, as far as that shows before anything is opened.

use crate::{
    config::{Config, Listen},
    identity::file::{self, Privacy},
    server::{StartError, tls},
};

/// Refuses settings that do not fit each other, and files that cannot be used: all of them.
pub fn check(config: &Config) -> Result<(), StartError> {
    let mut faults = Vec::new();
    let Config { cluster, cluster_credentials, cluster_ca, node_address, .. } = config;
    if cluster.is_none() {
        faults.extend(without_cluster(config));
    } else {
        if config.store.is_some() {
            faults
                .push("a node of a cluster stores in NATS: leave out --store, or --cluster".into());
        }
        if !matches!(config.cluster_replicas, 1 | 3 | 5) {
            let replicas = config.cluster_replicas;
            faults.push(format!("cluster-replicas is {replicas}: expected 1, 3 or 5"));
        }
        match (&config.node_listen, node_address) {
            (None, _) => faults.push(
                "a node of a cluster needs a port for the other nodes: give one with --node-listen"
                    .into(),
            ),
            (Some(listen), None) if is_everywhere(listen) => faults.push(format!(
                "the port of nodes at {listen} is on all interfaces: say with --node-address where \
                 other nodes reach it"
            )),
            _ => {}
        }
        let credentials = cluster_credentials.as_deref();
        let credentials = credentials.map(|path| file::read_text(path, Privacy::Secret));
        faults.extend(credentials.and_then(Result::err));
        faults.extend(cluster_ca.as_deref().and_then(|path| tls::authorities(path).err()));
    }
    if faults.is_empty() { Ok(()) } else { Err(StartError::ClusterSettings(faults)) }
}

/// The settings that say nothing without a cluster and are given all the same. Those of the port of nodes
/// alone are not among them.
fn without_cluster(config: &Config) -> Option<String> {
    let Config { cluster_name, cluster_partitions, cluster_replicas, cluster_log_bytes, .. } =
        config;
    let unset = Config::default();
    let given = [
        ("cluster-name", *cluster_name != unset.cluster_name),
        ("cluster-partitions", *cluster_partitions != unset.cluster_partitions),
        ("cluster-replicas", *cluster_replicas != unset.cluster_replicas),
        ("cluster-log-bytes", *cluster_log_bytes != unset.cluster_log_bytes),
        ("cluster-credentials", config.cluster_credentials.is_some()),
        ("cluster-ca", config.cluster_ca.is_some()),
        ("node-address", config.node_address.is_some()),
    ];
    let names: Vec<_> = given.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    let (last, others) = names.split_last()?;
    Some(match others {
        [] => format!("{last} is given without cluster: give that too, or leave it out"),
        _ => {
            let others = others.join(", ");
            format!(
                "{others} and {last} are given without cluster: give that too, or leave them out"
            )
        }
    })
}

fn is_everywhere(listen: &Listen) -> bool {
    match listen {
        Listen::At(address) => address.ip().is_unspecified(),
        Listen::Everywhere(_) => true,
        Listen::Named(..) => false,
    }
}
