//! StreamUserProps: one user's props up, its session's updates down.

use crate::support::*;
use sessiond::proto::{
    Ack, EndReason, ErrorReason, Heartbeat, PropsWrite, StreamOpen,
    stream_user_props_request::Message as Up,
};
use tonic::Code;

#[tokio::test]
async fn an_ack_comes_with_the_frame_that_holds_the_result() {
    let service = Service::with_room().await;
    let mut ada = service.stream("finals", "ada").await;
    let first = ada.write(write([("x", int(1))]).in_session("finals"));
    let last = ada.write(write([("y", int(1))]).in_session("finals"));
    assert!(first < last);
    while ada.acked_seq < last {
        let down = ada.until_acked(&service, ada.acked_seq + 1).await;
        assert!(down.step.is_some(), "{down:?}");
        let shown = ada.rebuilt.props("ada");
        assert!(shown.contains_key("x"), "{shown:?}");
        assert_eq!(shown.contains_key("y"), down.acked_seq == last);
    }
}

#[tokio::test]
async fn a_silent_write_is_acknowledged_without_update_at_the_end_of_the_tick() {
    let service = Service::with_room().await;
    service.set("ada", [("x", int(1))]).await;
    service.tick();
    let mut ada = service.stream("finals", "ada").await;
    let seq = ada.write(write([("x", int(1))]));
    let down = ada.until_acked(&service, seq).await;
    assert_eq!((down.step, down.refusals), (None, vec![]));
    assert_eq!(service.revision("finals").await, 3);
    let seq = ada.send(Up::Heartbeat(Heartbeat {}));
    let down = ada.until_acked(&service, seq).await;
    assert_eq!((down.step, down.refusals), (None, vec![]));
    assert_eq!(service.revision("finals").await, 3, "a heartbeat changes nothing");
}

#[tokio::test]
async fn a_stream_may_only_send() {
    let service = Service::with_room().await;
    let mut watcher = service.watch("finals", "ada").await;
    let open = StreamOpen { user_id: "ada".to_owned(), ..Default::default() };
    let mut ada = service.open_stream(open).await;
    ada.next_message().await.expect("the first message says whose stream it is");
    assert_eq!(ada.user_id, "ada");
    let seq = ada.write(write([("x", int(1))]));
    ada.until_acked(&service, seq).await;
    service.tick_until(&mut watcher, |it| it.props("ada") == shown([("x", int(1))])).await;
    ada.close();
    assert_eq!(ada.end().await.status.code(), Code::Ok);
}

#[tokio::test]
async fn a_refused_write_is_itemised_and_the_stream_lives_on() {
    let service = Service::with_room().await;
    service.open_room("elsewhere", "bob").await;
    let mut ada = service.stream("finals", "ada").await;
    let bad = PropsWrite {
        remove: vec![String::new()],
        ..write([("", int(1)), ("deep", nested(9)), ("none", no_kind())])
    };
    let bad = ada.write(bad);
    let empty = ada.write(PropsWrite::default());
    let ack = Ack::Durable.into();
    let durable = ada.write(PropsWrite { ack, ..write([("x", int(1))]) });
    let partly = ada.write(write([("x", int(2))]).in_session("finals").in_session("elsewhere"));
    let nowhere = ada.write(write([("x", int(3))]).in_session("elsewhere"));
    let good = ada.write(write([("y", int(4))]));
    ada.until_acked(&service, good).await;

    let seqs: Vec<_> = ada.refusals.iter().map(|it| it.seq).collect();
    assert_eq!(seqs, [bad, empty, durable, partly, nowhere]);
    let [bad, empty, durable, partly, nowhere] = &ada.refusals[..] else { unreachable!() };
    assert_eq!(bad.code, Code::InvalidArgument as i32);
    assert_eq!(bad.reason(), ErrorReason::InvalidFields);
    let mut fields: Vec<_> = bad.fields.iter().map(|it| &*it.field).collect();
    fields.sort();
    let expected = [
        "write.remove[\"\"]",
        "write.set[\"\"]",
        "write.set[\"deep\"][0][0][0][0][0][0][0][0]",
        "write.set[\"none\"]",
    ];
    assert_eq!(fields, expected);
    assert_eq!(empty.reason(), ErrorReason::InvalidFields);
    assert_eq!(empty.fields[0].field, "write");
    assert_eq!(durable.code, Code::FailedPrecondition as i32);
    assert_eq!(durable.reason(), ErrorReason::NoStore);
    for refusal in [partly, nowhere] {
        assert_eq!(refusal.code, Code::FailedPrecondition as i32);
        assert_eq!(refusal.reason(), ErrorReason::NotAMember);
        assert_eq!(refusal.session_id, "elsewhere");
    }
    let props = shown([("x", int(2)), ("y", int(4))]);
    assert_eq!(ada.rebuilt.props("ada"), props, "the session among the two took its part");
    assert_eq!(service.revision("elsewhere").await, 1);
}

#[tokio::test]
async fn the_first_message_must_open_the_stream() {
    let service = Service::with_room().await;
    for first in [
        Some(Up::Write(write([("x", int(1))]))),
        Some(Up::Heartbeat(Heartbeat {})),
        Some(Up::Token("t".to_owned())),
        None,
    ] {
        let mut stream = service.silent_stream().await;
        stream.send_as(1, first);
        let told = stream.refused().await;
        told.is(Code::InvalidArgument, "WRONG_FIRST_MESSAGE").says("acked_seq", "0");
    }
    let mut stream = service.silent_stream().await;
    stream.close();
    stream.refused().await.is(Code::InvalidArgument, "WRONG_FIRST_MESSAGE");
    service.is_fine().await;
}

#[tokio::test]
async fn only_the_first_message_may_open_the_stream() {
    let service = Service::with_room().await;
    let mut ada = service.stream("finals", "ada").await;
    let seq = ada.write(write([("x", int(1))]));
    ada.send(Up::Open(stream_open("finals", "ada")));
    let told = ada.refused().await;
    told.is(Code::InvalidArgument, "WRONG_FIRST_MESSAGE").says("acked_seq", &seq.to_string());
    service.tick();
    let again = service.watch("finals", "ada").await;
    assert_eq!(again.rebuilt.props("ada"), shown([("x", int(1))]), "what was applied stays");
}

#[tokio::test]
async fn the_number_of_a_message_must_rise() {
    let service = Service::with_room().await;
    let mut stream = service.silent_stream().await;
    stream.send_as(0, Some(Up::Open(stream_open("finals", "ada"))));
    stream.refused().await.is(Code::InvalidArgument, "SEQ_NOT_RISING").names(&["seq"]);
    for not_rising in [7, 6, 0] {
        let mut ada = service.silent_stream().await;
        ada.send_as(5, Some(Up::Open(stream_open("finals", "ada"))));
        ada.next_snapshot().await;
        ada.send_as(7, Some(Up::Write(write([("x", int(not_rising))]))));
        ada.send_as(not_rising as u64, Some(Up::Write(write([("y", int(1))]))));
        let told = ada.refused().await;
        told.is(Code::InvalidArgument, "SEQ_NOT_RISING").says("acked_seq", "7");
        service.tick();
        let state = service.watch("finals", "ada").await;
        assert_eq!(state.rebuilt.props("ada"), shown([("x", int(not_rising))]));
    }
    let mut ada = service.silent_stream().await;
    ada.send_as(u64::MAX - 1, Some(Up::Open(stream_open("finals", "ada"))));
    ada.next_snapshot().await;
    ada.send_as(u64::MAX, Some(Up::Write(write([("z", int(1))]))));
    ada.until_acked(&service, u64::MAX).await;
    service.is_fine().await;
}

#[tokio::test]
async fn a_message_without_content_ends_the_stream() {
    let service = Service::with_room().await;
    let mut ada = service.stream("finals", "ada").await;
    ada.send_as(2, None);
    ada.refused().await.blames(&["message"]);
}

#[tokio::test]
async fn a_client_may_number_its_only_session() {
    let service = Service::with_room().await;
    let mut open = stream_open("finals", "ada");
    open.subscriptions[0].handle = 7;
    let mut ada = service.open_stream(open).await;
    ada.handle = 7;
    ada.next_snapshot().await;
    let seq = ada.write(write([("x", int(1))]));
    ada.until_acked(&service, seq).await;
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", int(1))]));
    service.try_delete("finals", "ada").await.expect("it is deleted");
    ada.end().await.is_ok(EndReason::Deleted);
}

#[tokio::test]
async fn closing_the_sending_side_ends_the_stream() {
    let service = Service::with_room().await;
    let mut ada = service.stream("finals", "ada").await;
    ada.close();
    assert_eq!(ada.end().await.status.code(), Code::Ok);

    let mut ada = service.stream("finals", "ada").await;
    let seq = ada.write(write([("x", int(1))]));
    ada.close();
    ada.until_acked(&service, seq).await;
    assert_eq!(ada.end().await.status.code(), Code::Ok, "it ends once everything is acked");
}

#[tokio::test]
async fn a_client_that_is_silent_for_longer_than_it_said_is_ended() {
    let service = Service::with_room().await;
    let open = StreamOpen { silence_timeout: Some(ms(2_000)), ..stream_open("finals", "ada") };
    let mut ada = service.open_stream(open).await;
    ada.next_snapshot().await;
    service.advance(1_000);
    let seq = ada.send(Up::Heartbeat(Heartbeat {}));
    ada.until_acked(&service, seq).await;
    service.advance(1_900);
    let seq = ada.send(Up::Heartbeat(Heartbeat {}));
    ada.until_acked(&service, seq).await;
    service.advance(2_000);
    ada.end().await.is(EndReason::Silent, Code::DeadlineExceeded);

    let open = StreamOpen {
        user_id: "ada".to_owned(),
        silence_timeout: Some(ms(1_000)),
        ..Default::default()
    };
    let mut only_sends = service.open_stream(open).await;
    only_sends.next_message().await.expect("the first message");
    service.advance(1_000);
    only_sends.end().await.is(EndReason::Silent, Code::DeadlineExceeded);
    for out_of_range in [ms(999), ms(3_600_001), ms(0)] {
        let open =
            StreamOpen { silence_timeout: Some(out_of_range), ..stream_open("finals", "ada") };
        service.open_stream(open).await.refused().await.blames(&["open.silence_timeout"]);
    }
}

#[tokio::test]
async fn a_stream_that_only_sends_hears_heartbeats_too() {
    let service = Service::start().await;
    let open = StreamOpen { user_id: "ada".to_owned(), ..Default::default() };
    let mut ada = service.open_stream(open).await;
    ada.next_message().await.expect("the first message");
    service.advance(15_000);
    // There is no position to tell: the message itself is the sign of life.
    ada.next_message().await.expect("a sign of life");
    assert_eq!(ada.messages, 2);
}
