//! Hosted sessions: members see the host, the host sees all.

use crate::support::*;
use sessiond::proto::{SessionSettings, SnapshotReason};
use tonic::Code;

fn show_and_tell() -> SessionSettings {
    SessionSettings {
        propnames: vec!["slide".to_owned(), "mood".to_owned(), "hidden".to_owned()],
        hostprops: vec!["slide".to_owned(), "title".to_owned()],
        ..Default::default()
    }
}

#[tokio::test]
async fn the_old_host_gets_a_snapshot_of_what_it_sees_now() {
    let service = Service::start().await;
    let settings = SessionSettings { rejoin_grace: Some(ms(60_000)), ..show_and_tell() };
    service.open_hosted("lecture", "host", settings).await;
    service.join("lecture", "ada").await;
    service.set_in("lecture", "ada", [("mood", int(3))]).await;
    service.tick();
    let before = service.watch("lecture", "host").await.rebuilt;
    let mut ada = service.watch("lecture", "ada").await;
    drop(service.watch_with(tied("lecture", "host")).await);
    service.tick_until(&mut ada, |it| it.session().host_id == "ada").await;
    let mut host = service.resume(subscription("lecture", "host"), &before).await;
    assert_eq!(host.next_snapshot().await, SnapshotReason::ViewChanged);
    assert_eq!(host.rebuilt.props("ada"), shown([]), "moods are for hosts");
}

#[tokio::test]
async fn host_grace_keeps_the_place_of_a_lost_host() {
    let service = Service::start().await;
    let settings = SessionSettings {
        host_grace: Some(ms(5_000)),
        rejoin_grace: Some(ms(60_000)),
        ..Default::default()
    };
    service.open_hosted("lecture", "host", settings).await;
    service.join("lecture", "ada").await;
    service.tick();
    let mut ada = service.watch("lecture", "ada").await;
    for comes_back in [true, false] {
        drop(service.watch_with(tied("lecture", "host")).await);
        service.tick_until(&mut ada, |it| it.member("host").disconnected).await;
        service.advance(4_980);
        assert_eq!(service.info("lecture", "ada").await.session.map(|it| it.term), Some(1));
        if comes_back {
            service.join("lecture", "host").await;
            service.tick();
            ada.next_changes().await;
            service.advance(10_000);
            assert_eq!(service.info("lecture", "ada").await.session.map(|it| it.term), Some(1));
        }
    }
    service.advance(30);
    assert_eq!(ada.next_snapshot().await, SnapshotReason::ViewChanged);
    let session = ada.rebuilt.session();
    assert_eq!((&*session.host_id, session.term), ("ada", 2));
}

#[tokio::test]
async fn a_write_of_an_older_term_is_refused() {
    let service = Service::start().await;
    service.open_hosted("lecture", "host", SessionSettings::default()).await;
    service.join("lecture", "ada").await;
    service.leave("lecture", "host").await;
    service.tick();
    for (term, is_fine) in [(1, false), (2, true), (3, false), (0, true)] {
        let write = sessiond::proto::PropsWrite { term, ..write([("x", int(term as i64))]) };
        let answer = service.try_write("ada", write.in_session("lecture")).await;
        let of_data = sessiond::proto::SetSessionDataRequest {
            term,
            set: props([("x", int(1))]),
            ..data_of("lecture", "ada")
        };
        let data = service.try_set_data(of_data).await;
        if is_fine {
            answer.expect("the term is right");
            data.expect("the term is right");
        } else {
            let told = refused(answer).is(Code::FailedPrecondition, "STALE_TERM");
            told.says("term", "2");
            refused(data).is(Code::FailedPrecondition, "STALE_TERM");
        }
    }
}
