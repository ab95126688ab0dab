//! `sessiond store compact`: removes what snapshots replace, and gives the space back.

use super::{
    Result, block_on, code,
    contents::Contents,
    source,
    store::{CompactArgs, Reading},
    text::{count, size},
    told_after,
};
use crate::{
    keeper::export::PARTITION,
    log::{Log, NodeId, Seq, Snapshot, Writer},
};
use std::process::ExitCode;

/// Snapshots that are removed at once.
const REMOVED_AT_ONCE: usize = 4096;

/// Does it. What is damaged is left alone.
pub fn run(arguments: &CompactArgs) -> Result<ExitCode> {
    block_on(async {
        let folder = &arguments.folder;
        let before = source::bytes_on_disk(folder);
        let reading = Reading { folder: folder.clone(), salvage: false };
        let contents = source::contents(&reading).await?;
        if let Some(fault) = contents.faults.first() {
            return Err(format!("the store is damaged, `store check` tells more: {fault}"));
        }
        let log = source::open(folder, false)?;
        let node = NodeId(fastrand::u64(1..));
        let mut writer = log.claim(PARTITION, node).await.map_err(source::told)?;
        // A session that is gone and still has a snapshot would come back without its end.
        let gone = contents.subjects.iter().filter(|(_, known)| {
            known.snapshot.is_some() && known.is_gone(contents.greatest_epoch)
        });
        let gone: Vec<_> =
            gone.map(|(key, _)| Snapshot { key: key.clone(), state: None }).collect();
        for some in gone.chunks(REMOVED_AT_ONCE) {
            writer.snapshot(some.to_vec()).await.map_err(|error| error.to_string())?;
        }
        let below = needed(&contents);
        writer.trim(below).await.map_err(|error| error.to_string())?;
        // The last end stays what it was.
        if contents.was_clean {
            writer.release().await.map_err(|error| error.to_string())?;
        }
        log.compact().await.map_err(|error| error.to_string())?;
        drop(log);
        let after = source::contents(&reading).await?;
        // The claim of this process, and its release, are new.
        let added = 1 + u64::from(contents.was_clean);
        let removed = (contents.entries + added).saturating_sub(after.entries);
        let removed = count(removed, "entry", "entries");
        let (before, after) = (size(before), size(source::bytes_on_disk(folder)));
        Ok(code(told_after(&format!("{removed} removed, {before} before, {after} now\n"))))
    })
}

/// The oldest entry that tells what no snapshot does. Everything below may go.
fn needed(contents: &Contents) -> Seq {
    let since = contents
        .subjects
        .values()
        .filter_map(|known| known.since.filter(|_| !known.is_gone(contents.greatest_epoch)));
    since.min().unwrap_or(contents.last.next())
}
