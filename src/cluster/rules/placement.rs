//! Where a partition belongs: a rank of all nodes for each partition, by a hash of the names that is
//! the same everywhere and for ever. So nodes that know the same nodes agree without a word, and a
//! node that comes or goes moves little.

use super::Partition;
use crate::log::NodeId;
use siphasher::sip::SipHasher13;
use std::{cmp::Reverse, hash::Hasher};

/// The partition of an app, of so many: for ever the same.
pub fn partition_of(app: &str, partitions: usize) -> Partition {
    // SipHash-1-3 with fixed keys: "sessiond" and "the apps".
    let mut hasher = SipHasher13::new_with_keys(0x7365_7373_696f_6e64, 0x7468_6520_6170_7073);
    hasher.write(app.as_bytes());
    // There are at most 256.
    Partition((hasher.finish() % partitions.max(1) as u64) as u8)
}

/// A node that may own partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its process.
    pub id: NodeId,
    /// Its name, which alone decides: a node that is started again gets what it had.
    pub name: &'a str,
}

/// How many of so many partitions one of so many nodes gets at most: its share and one more.
pub fn most_per_node(partitions: usize, nodes: usize) -> usize {
    partitions.div_ceil(nodes.max(1)) + 1
}

/// How well a node suits a partition; the greatest is the best.
fn weight(name: &str, partition: Partition) -> u64 {
    // SipHash-1-3 with fixed keys: "sessiond" and "the rank".
    let mut hasher = SipHasher13::new_with_keys(0x7365_7373_696f_6e64, 0x7468_6520_7261_6e6b);
    hasher.write(name.as_bytes());
    hasher.write(&[0xff, partition.0]);
    hasher.finish()
}

/// Where each partition belongs, from partition 0 on: at the node that ranks best for it and has not
/// its most yet. What is pinned stays where it is and counts. None = there is no node.
pub fn targets(
    nodes: &[Candidate<'_>],
    pinned: impl Fn(Partition) -> Option<NodeId>,
    partitions: usize,
) -> Vec<Option<NodeId>> {
    let most = most_per_node(partitions, nodes.len());
    let pins: Vec<_> = all(partitions).map(pinned).collect();
    let count = |id: NodeId| pins.iter().filter(|pin| **pin == Some(id)).count();
    let mut counts: Vec<usize> = nodes.iter().map(|node| count(node.id)).collect();
    let place = |partition: Partition| {
        let pin = pins[usize::from(partition.0)];
        if pin.is_some_and(|id| nodes.iter().any(|node| node.id == id)) {
            return pin;
        }
        let free = (0..nodes.len()).filter(|at| counts[*at] < most);
        let best = free.max_by_key(|at| rank(&nodes[*at], partition))?;
        counts[best] += 1;
        Some(nodes[best].id)
    };
    all(partitions).map(place).collect()
}

/// The nodes in the order in which they are to claim a partition that nobody owns: the one where it
/// belongs; then those with room, the best first; then the others. `count` says how many each owns.
pub fn preference(
    nodes: &[Candidate<'_>],
    target: Option<NodeId>,
    partition: Partition,
    partitions: usize,
    count: impl Fn(NodeId) -> usize,
) -> Vec<NodeId> {
    let most = most_per_node(partitions, nodes.len());
    let mut order: Vec<_> = nodes.iter().collect();
    order.sort_by_key(|node| {
        let is_target = target == Some(node.id);
        Reverse((is_target, count(node.id) < most, rank(node, partition)))
    });
    order.into_iter().map(|node| node.id).collect()
}

/// Two processes with one name differ by their ids.
fn rank(node: &Candidate<'_>, partition: Partition) -> (u64, NodeId) {
    (weight(node.name, partition), node.id)
}

/// All partitions; there are at most 256.
pub(super) fn all(partitions: usize) -> impl Iterator<Item = Partition> {
    (0..=u8::MAX).map(Partition).take(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_is_the_same_for_ever() {
        // Two versions in one cluster that rank differently would move partitions to and fro.
        let weights = ["node-a", "node-b"].map(|name| weight(name, Partition(3)));
        assert_eq!(weights, [GOLDEN_A, GOLDEN_B]);
    }

    const GOLDEN_A: u64 = 9_791_660_202_305_114_437;
    const GOLDEN_B: u64 = 8_038_431_161_227_353_980;
}
