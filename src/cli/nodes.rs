//! `sessiond nodes` and `sessiond partitions`: who is in a cluster, and who owns what.

use super::{
    Result, block_on, print,
    server::{Server, ServerArgs, told},
    store::Format,
    text::{count, moment, plain, second, table},
};
use crate::{
    proto::{
        ListNodesRequest, ListPartitionsRequest, MovePartitionRequest, Node, NodeState, Partition,
        PartitionState, admin_service_client::AdminServiceClient,
    },
    session::limits::{Micros, SECOND},
};
use serde_json::{Value as Json, json};
use std::process::ExitCode;

/// Which cluster to ask about its nodes.
#[derive(Debug, clap::Args)]
pub struct NodesArgs {
    /// Any node of it.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// Which cluster to ask about its partitions.
#[derive(Debug, clap::Args)]
pub struct PartitionsArgs {
    /// Any node of it.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Move a partition to a node first, such as 3=node-b; may be given several times
    #[arg(long = "move", value_name = "PARTITION=NODE", value_parser = read_move)]
    pub moves: Vec<(u32, String)>,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

fn read_move(text: &str) -> std::result::Result<(u32, String), String> {
    let (partition, node) = text.split_once('=').unwrap_or((text, ""));
    match partition.parse() {
        Ok(partition) if !node.is_empty() => Ok((partition, node.to_owned())),
        _ => Err("expected the number of a partition, = and the name of a node".to_owned()),
    }
}

/// Prints the nodes.
pub fn nodes(arguments: &NodesArgs) -> Result<ExitCode> {
    block_on(async {
        let server = arguments.server.connect().await?;
        let request = server.request(ListNodesRequest {});
        let reply = client(&server).list_nodes(request).await.map_err(|status| told(&status))?;
        let nodes = reply.into_inner().nodes;
        let text = match arguments.format {
            Format::Text => text_of_nodes(&nodes),
            Format::Json => {
                format!("{:#}\n", Json::Array(nodes.iter().map(json_of_node).collect()))
            }
        };
        print(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Moves what is to be moved, and prints the partitions.
pub fn partitions(arguments: &PartitionsArgs) -> Result<ExitCode> {
    block_on(async {
        let server = arguments.server.connect().await?;
        for (partition, node) in &arguments.moves {
            let request = MovePartitionRequest { partition: Some(*partition), node: node.clone() };
            let moved = client(&server).move_partition(server.request(request)).await;
            moved.map_err(|status| format!("{partition}={node}: {}", told(&status)))?;
        }
        let request = server.request(ListPartitionsRequest {});
        let reply =
            client(&server).list_partitions(request).await.map_err(|status| told(&status))?;
        let partitions = reply.into_inner().partitions;
        let text = match arguments.format {
            Format::Text => text_of_partitions(&partitions),
            Format::Json => {
                format!("{:#}\n", Json::Array(partitions.iter().map(json_of_partition).collect()))
            }
        };
        print(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    })
}

fn client(server: &Server) -> AdminServiceClient<tonic::transport::Channel> {
    AdminServiceClient::new(server.channel.clone())
}

/// The word for a value, without what all values of its kind begin with.
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}

fn state_of_node(node: &Node) -> String {
    word(node.state().as_str_name(), "NODE_STATE_")
}

fn state_of_partition(partition: &Partition) -> String {
    word(partition.state().as_str_name(), "PARTITION_STATE_")
}

fn started_at(node: &Node) -> Option<Micros> {
    let at = node.started_at.as_ref()?;
    Some(at.seconds.max(0) as Micros * SECOND + at.nanos.max(0) as Micros / 1_000)
}

fn silent_for(node: &Node) -> f64 {
    let span = node.silent_for.unwrap_or_default();
    span.seconds as f64 + f64::from(span.nanos) / 1e9
}

fn text_of_nodes(nodes: &[Node]) -> String {
    let columns = [
        ("NODE", false),
        ("STATE", false),
        ("PARTITIONS", true),
        ("HEARD", true),
        ("ADDRESS", false),
        ("VERSION", false),
        ("STARTED", false),
    ];
    let row = |node: &Node| {
        let mark = if node.is_this_node { " *" } else { "" };
        [
            format!("{}{mark}", plain(&node.name)),
            state_of_node(node),
            node.partition_count.to_string(),
            format!("{:.1}s ago", silent_for(node)),
            plain(&node.address),
            plain(&node.version),
            started_at(node).map(second).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    let alive = nodes.iter().filter(|node| node.state() == NodeState::Alive).count();
    let all = count(nodes.len() as u64, "node", "nodes");
    format!("{}\n{all}, {alive} alive; * has answered\n", table(&columns, &rows))
}

fn json_of_node(node: &Node) -> Json {
    json!({
        "node": node.name, "process_id": node.process_id, "state": state_of_node(node),
        "partition_count": node.partition_count, "silent_for_seconds": silent_for(node),
        "address": node.address, "version": node.version, "record_format": node.record_format,
        "started_at": started_at(node).map(moment), "is_this_node": node.is_this_node,
    })
}

fn text_of_partitions(partitions: &[Partition]) -> String {
    let columns = [("PARTITION", true), ("STATE", false), ("NODE", false), ("MOVED", false)];
    let row = |partition: &Partition| {
        [
            partition.partition.to_string(),
            state_of_partition(partition),
            plain(&partition.node),
            if partition.moved { "here by an admin" } else { "" }.to_owned(),
        ]
    };
    let rows: Vec<_> = partitions.iter().map(row).collect();
    let serving = partitions.iter().filter(|it| it.state() == PartitionState::Serving).count();
    let all = count(partitions.len() as u64, "partition", "partitions");
    format!("{}\n{all}, {serving} serving\n", table(&columns, &rows))
}

fn json_of_partition(partition: &Partition) -> Json {
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "partition": partition.partition, "state": state_of_partition(partition),
        "node": named(&partition.node), "process_id": named(&partition.process_id),
        "moved": partition.moved,
    })
}
