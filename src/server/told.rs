//! What the nodes of a cluster tell each other beside who owns what: revocations.

use super::engines::Engines;
use crate::{
    cluster::{Heard, Nodes},
    grpc::{Entrance, Revoking},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long a start waits for what is in force. Without NATS nothing is served anyway.
const PATIENCE: Duration = Duration::from_secs(10);

/// Has everything in force here that the nodes were told, and goes on with what they will be told.
pub async fn follow(
    nodes: Arc<dyn Nodes>,
    entrance: Entrance,
    engines: Engines,
    over: CancellationToken,
) {
    let (tell, is_up_to_date) = oneshot::channel();
    let mut tell = Some(tell);
    tokio::spawn(async move {
        let take = |heard| match heard {
            Heard::UpToDate => drop(tell.take().map(|tell| tell.send(()))),
            // What was in force before is no news.
            Heard::Note(text) => take(&text, &entrance, &engines, tell.is_none()),
        };
        tokio::select! {
            () = nodes.follow(Box::new(take)) => {}
            () = over.cancelled() => {}
        }
    });
    if !matches!(timeout(PATIENCE, is_up_to_date).await, Ok(Ok(()))) {
        tracing::warn!("it is not known yet which credentials the cluster has revoked");
    }
}

fn take(text: &[u8], entrance: &Entrance, engines: &Engines, is_news: bool) {
    let Some(revoking) = Revoking::read(text) else {
        tracing::warn!("a note of a later version of a node is passed over");
        return;
    };
    let all = engines.all();
    let Some(first) = all.first() else { return };
    match revoking.apply(entrance, first.clock().now()) {
        // Each app is with one of them, if it is here.
        Ok(true) if is_news => all.iter().for_each(|engine| revoking.note(engine, entrance)),
        Ok(_) => {}
        Err(full) => tracing::error!(%full, "the cluster has revoked a credential"),
    }
}
