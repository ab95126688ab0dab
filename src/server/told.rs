//! What the nodes of a cluster tell each other beside who owns what: revocations.

use super::engines::Engines;
use crate::{
    cluster::{Heard, Nodes},
    grpc::{Entrance, Revoking},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

/// How often a start says that it waits for what is in force.
const REMINDER: Duration = Duration::from_secs(10);

/// Has everything in force here that the nodes have received, and goes on with what they will receive.
/// It returns when it is in force: a node that served before would let in a credential that is revoked.
pub async fn follow(
    nodes: Arc<dyn Nodes>,
    entrance: Entrance,
    engines: Engines,
    over: CancellationToken,
) {
    let (tell, mut is_up_to_date) = oneshot::channel();
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
    while timeout(REMINDER, &mut is_up_to_date).await.is_err() {
        tracing::warn!("waiting to learn which credentials the cluster has revoked");
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
        Ok(true) if is_news => revoking.note(entrance, |app| engines.with(app)),
        Ok(_) => {}
        Err(full) => tracing::error!(%full, "the cluster has revoked a credential"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::partition_of,
        config::Config,
        engine::{Clock, Engine},
        grpc::encode::Wire,
        identity::Revocation,
        policy::Policy,
        server::{engines::Has, settings},
        session::{
            ids::{AppId, UserId},
            limits::{Micros, SECOND},
        },
    };

    const PARTITIONS: usize = 2;

    #[test]
    fn a_revocation_for_an_app_is_noted_where_the_app_is_and_nowhere_else() {
        let engine = || {
            let settings = settings::engine(&Config::default(), Policy::default().judged());
            Engine::new(settings, Clock::stepped(SECOND), Arc::new(Wire::default()))
        };
        let (here, one, other) = (engine(), engine(), engine());
        let app = AppId::new("games").expect("an id");
        let partition = partition_of("games", PARTITIONS);
        let elsewhere = crate::log::Partition(1 - partition.0);
        let engines = Engines::default();
        let _running = [
            engines.run(&here, Has::None),
            engines.run(&one, Has::Partition(partition, PARTITIONS)),
            engines.run(&other, Has::Partition(elsewhere, PARTITIONS)),
        ];
        let revoke = |app: Option<AppId>| {
            let user = UserId::new("ada").expect("an id");
            let revocation = Revocation::User { app, user };
            let revoking = Revoking { revocation, until: Some(Micros::MAX), by: None };
            revoking.note(&Entrance::new(None, 0), |app| engines.with(app));
        };
        revoke(Some(app));
        let noted = one.event_bytes();
        assert!(noted > 0);
        assert_eq!([here.event_bytes(), other.event_bytes()], [0, 0]);
        revoke(None);
        assert_eq!(one.event_bytes(), 2 * noted, "each app that has a journal is told once");
        assert_eq!([here.event_bytes(), other.event_bytes()], [0, 0]);
    }
}
