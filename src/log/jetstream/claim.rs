//! How a partition is claimed: the claim is stored right after everything that is there, or not at
//! all. So it names the last entry before it, and the writer of that is deposed by it.

use super::{
    Shared,
    api::Stored,
    delivery::{Delivery, Outgoing, Undelivered},
    entry::{self, At, Chain, Link, Read, Record},
    writer::Claimed,
};
use crate::log::{LogError, NodeId, Partition, Seq, head::Head};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long it is tried against somebody who writes without rest.
const PATIENCE: Duration = Duration::from_secs(10);

/// After so many tries that came too late, the other writer does not rest. From then on a claim
/// goes where the server said that the stream ends, without a look at what stands there.
const LOOKS: u32 = 4;

/// What is known of the end of a partition.
#[derive(Debug, Clone, Copy, Default)]
struct Tail {
    /// The last place.
    seq: Seq,
    /// The last of the chain, and what it says is trimmed.
    chain: Seq,
    oldest: Seq,
}

/// Stores a claim. Bytes that the partition takes come with it.
pub async fn claim(
    shared: &Arc<Shared>,
    partition: Partition,
    node: NodeId,
) -> Result<(Claimed, u64), LogError> {
    let until = Instant::now() + PATIENCE;
    let (mut tail, used) = look(shared, partition).await?;
    let mut known = tail;
    let mut tries = 0;
    loop {
        tries += 1;
        let is_exact = tail.seq == known.seq;
        let link = match is_exact {
            true => Link { previous: tail.chain, oldest: tail.oldest },
            false => Link { previous: Seq::START, oldest: known.oldest },
        };
        let seq = tail.seq.next();
        let record = Record::Chain(Chain::Claim(node), link);
        let outgoing = Outgoing {
            subject: shared.settings.chain(partition),
            replaces: false,
            payload: entry::write(At { partition, seq, term: seq }, &record),
        };
        let mut delivery = Delivery::new(partition, tail.seq, vec![outgoing]);
        let started = std::time::Instant::now();
        match delivery.deliver(shared).await {
            Ok(()) => {
                if !is_exact {
                    known = walk(shared, partition, known, seq).await?;
                }
                let mut head = Head::found(seq, seq, known.oldest);
                head.claimed();
                shared.count(1, delivery.bytes(), started.elapsed());
                shared.wake(partition);
                let sent = delivery.first_sent().unwrap_or_default();
                return Ok((Claimed { head, sent }, used + delivery.bytes()));
            }
            Err(Undelivered::Behind(_)) if Instant::now() >= until => {
                let stream = shared.settings.stream(partition);
                let problem = "its writer never rests, so no claim comes through".into();
                return Err(LogError::Stream { stream, problem });
            }
            Err(Undelivered::Behind(Some(last))) if tries >= LOOKS && last > tail.seq => {
                tail = Tail { seq: last, ..Tail::default() };
            }
            Err(Undelivered::Behind(_)) => {
                tail = look(shared, partition).await?.0;
                known = tail;
            }
            Err(Undelivered::Full) => return Err(LogError::Full),
            Err(Undelivered::Unknown) => {
                let chain = shared.settings.chain(partition);
                return Err(match shared.api.connection().denied().of(&chain) {
                    Some(what) => LogError::NotPermitted(what),
                    None => LogError::NotReady(
                        format!("{} has no leader", shared.settings.stream(partition)).into(),
                    ),
                });
            }
            Err(Undelivered::Broken(why)) => return Err(LogError::Broken(why)),
        }
    }
}

/// Looks at the end of a partition, and how many bytes it takes.
async fn look(shared: &Shared, partition: Partition) -> Result<(Tail, u64), LogError> {
    let (api, stream) = (&shared.patient, shared.settings.stream(partition));
    let chain = shared.settings.chain(partition);
    // In this order: what comes in between only makes the claim come too late.
    let info = api.stream(&stream).await.map_err(|error| api.told(&error))?;
    let info = info.ok_or_else(|| shared.gone(partition))?;
    let last = api.last(&stream, &chain).await.map_err(|error| api.told(&error))?;
    let mut tail = Tail { seq: Seq(info.state.last_seq), ..Tail::default() };
    if let Some(last) = last {
        let oldest = match oldest_of(partition, &last)? {
            Some(oldest) => oldest,
            None => walk(shared, partition, Tail::default(), last.seq).await?.oldest,
        };
        tail = Tail { seq: tail.seq.max(last.seq), chain: last.seq, oldest };
    }
    Ok((tail, info.state.bytes))
}

/// Finds what is trimmed as of an entry that does not say: whatever one between what is known and it
/// says, and at least what is gone.
async fn walk(
    shared: &Shared,
    partition: Partition,
    known: Tail,
    to: Seq,
) -> Result<Tail, LogError> {
    let (api, stream) = (&shared.patient, shared.settings.stream(partition));
    let chain = shared.settings.chain(partition);
    let mut tail = known;
    loop {
        let next = api.next(&stream, &chain, tail.chain.next()).await;
        let next = next.map_err(|error| api.told(&error))?;
        let Some(next) = next.filter(|next| next.seq < to) else { return Ok(tail) };
        let mut oldest = tail.oldest.max(oldest_of(partition, &next)?.unwrap_or_default());
        if tail.chain == Seq::START && previous_of(partition, &next)? >= oldest {
            oldest = next.seq;
        }
        tail = Tail { seq: next.seq, chain: next.seq, oldest };
    }
}

/// What an entry of the chain says is trimmed; none = it is no entry that can be read, or a claim
/// that was made without a look.
pub fn oldest_of(partition: Partition, stored: &Stored) -> Result<Option<Seq>, LogError> {
    Ok(match entry::read(partition, stored.seq, &stored.payload)? {
        Read::Whole(Record::Chain(Chain::Claim(_), Link { previous: Seq::START, .. }), _)
            if stored.seq > Seq(1) =>
        {
            None
        }
        Read::Whole(Record::Chain(_, link), _) => Some(link.oldest),
        _ => None,
    })
}

fn previous_of(partition: Partition, stored: &Stored) -> Result<Seq, LogError> {
    Ok(match entry::read(partition, stored.seq, &stored.payload)? {
        Read::Whole(Record::Chain(_, link), _) => link.previous,
        _ => Seq::START,
    })
}
