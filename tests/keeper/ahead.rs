//! What is read of a log while its owner still writes it.

use crate::stage::*;
use sessiond::{
    keeper::{self, LoadError, Loaded, ReadAhead},
    log::{Log, LogError, NodeId, Writer, memory::MemoryLog},
    session::{command::Command, limits::Limits, settings::Durability},
};
use std::sync::Arc;

fn limits() -> Arc<Limits> {
    Limits::default().into()
}

/// Everything that is taken over of what is stored.
fn told(loaded: &Loaded) -> Vec<String> {
    let Loaded { restored, lost, unreadable, .. } = loaded;
    assert!(lost.is_empty() && *unreadable == 0, "{loaded:?}");
    let sessions = restored.sessions.iter().map(|it| format!("{:?}", it.snapshot()));
    let users = restored.users.iter().map(|it| format!("{it:?}"));
    let mut all: Vec<String> = sessions.chain(users).collect();
    all.sort();
    all.extend(restored.requests.iter().map(|it| format!("{it:?}")));
    all.push(format!("{:?}, clean: {}", restored.greatest_epoch, restored.is_clean));
    all
}

/// Claims a log; what was read ahead of it, and what is read of it from its beginning.
async fn claimed(
    log: &MemoryLog,
    mut ahead: ReadAhead<<MemoryLog as Log>::Reader>,
    is_read_with_the_claim: bool,
) -> (Result<Loaded, LoadError>, Loaded) {
    let writer = log.claim(keeper::PARTITION, NodeId(9)).await.expect("a claim");
    let term = writer.term();
    let read = match is_read_with_the_claim {
        true => ahead.catch_up().await,
        false => Ok(()),
    };
    let read_ahead = match read {
        Ok(()) => ahead.finish(term).await,
        Err(error) => Err(error),
    };
    let afresh = keeper::read(log, keeper::PARTITION, term, &limits()).await;
    (read_ahead, afresh.expect("it is read"))
}

#[tokio::test]
async fn what_is_read_ahead_is_what_is_read_after_the_claim() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut trimmed = 0;
    for course in 0..100 {
        let mut stage = Stage::trimming(random.usize(2..8) * 1024).await;
        for at in 0..6 {
            let durability = if at % 2 == 0 { Durability::Sync } else { Durability::Async };
            stage.open(&format!("room-{at}"), durability);
        }
        let mut ahead = ReadAhead::begin(&stage.log, keeper::PARTITION, &limits());
        for round in 0..random.u32(0..200) {
            let name = format!("room-{}", random.u32(0..6));
            if let Some(live) = stage.find(&name) {
                stage.write(&live, "ada", f64::from(round)).expect("it may");
                if random.u32(0..40) == 0 {
                    stage.command(&live, Command::Delete);
                }
            } else {
                stage.open(&name, Durability::Sync);
            }
            stage.engine.advance(INTERVAL);
            stage.store().await;
            if random.u32(0..10) == 0 && ahead.catch_up().await.is_err() {
                // It was too far behind: somebody begins again.
                ahead = ReadAhead::begin(&stage.log, keeper::PARTITION, &limits());
            }
        }
        let is_stopped = random.bool();
        let log = stage.log.clone();
        if is_stopped {
            stage.end().await;
        }
        let (read_ahead, afresh) = claimed(&log, ahead, random.bool()).await;
        assert_eq!(afresh.restored.is_clean, is_stopped);
        match read_ahead {
            Ok(loaded) => assert_eq!(told(&loaded), told(&afresh), "course {course}"),
            Err(LoadError::Log(LogError::Trimmed { .. })) => trimmed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(trimmed < 50, "{trimmed} of 100 were of no use");
}

#[tokio::test]
async fn a_log_that_nobody_wrote_is_clean_whether_or_not_the_claim_is_read_ahead() {
    for is_read in [false, true] {
        let log = MemoryLog::default();
        let ahead = ReadAhead::begin(&log, keeper::PARTITION, &limits());
        let (ahead, afresh) = claimed(&log, ahead, is_read).await;
        assert!(ahead.expect("it is read").restored.is_clean && afresh.restored.is_clean);
    }
}
