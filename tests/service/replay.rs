//! Calls with a request id: done once, then answered from memory.

use crate::support::*;
use prost::Message;
use sessiond::{
    engine::{REMEMBERED_FOR, REMEMBERED_IDS},
    proto::{
        self, JoinOptions, OpenSharedSessionRequest, PropsWrite, SessionSettings,
        SetUserPropsRequest,
    },
};
use tokio::task::JoinSet;
use tonic::Code;

const REUSED: &str = "REQUEST_ID_REUSED";

fn once(write: PropsWrite, id: &str) -> PropsWrite {
    PropsWrite { request_id: id.to_owned(), ..write }
}

/// A write of x in a session, under an id.
fn x_in(session: &str, id: &str, x: i64) -> PropsWrite {
    once(write([("x", int(x))]), id).in_session(session)
}

impl Service {
    /// The x that a room shows of ada.
    async fn x(&self, session: &str) -> String {
        self.tick();
        self.watch(session, "ada").await.rebuilt.props("ada")["x"].clone()
    }
}

#[tokio::test]
async fn other_content_under_the_same_id_is_refused_by_the_field() {
    let service = Service::with_room().await;
    service.try_write("ada", x_in("finals", "a", 1)).await.expect("it is done");
    service.tick();
    let removal = once(removal(&["x"]), "a").in_session("finals");
    let merging = PropsWrite { merge_maps: true, ..x_in("finals", "a", 1) };
    for write in [x_in("finals", "a", 2), removal, merging] {
        let told = refused(service.try_write("ada", write).await);
        told.is(Code::InvalidArgument, REUSED).names(&["write.request_id"]);
    }
    // So is another call.
    let data = proto::SetSessionDataRequest {
        set: props([("x", int(1))]),
        request_id: "a".to_owned(),
        ..data_of("finals", "ada")
    };
    let told = refused(service.try_set_data(data.clone()).await);
    told.is(Code::InvalidArgument, REUSED).names(&["request_id"]);
    // Another user has ids of its own, and so has the app.
    service
        .try_set_data(proto::SetSessionDataRequest { user_id: String::new(), ..data })
        .await
        .expect("done");
    service.join("finals", "bob").await;
    service.try_write("bob", x_in("finals", "a", 7)).await.expect("it is done");
    assert_eq!(service.x("finals").await, "1i");
    // The app that writes for two users means two things by one id.
    let for_user = |user: &str, id: &str| SetUserPropsRequest {
        target_user_id: user.to_owned(),
        write: Some(x_in("finals", id, 5)),
        ..Default::default()
    };
    service.try_set_props(for_user("ada", "b")).await.expect("it is done");
    let told = refused(service.try_set_props(for_user("bob", "b")).await);
    told.is(Code::InvalidArgument, REUSED);
}

#[tokio::test]
async fn each_session_of_a_write_remembers_its_own_part() {
    let service = Service::start().await;
    service.open_room("blue", "ada").await;
    service.open_room("red", "bob").await;
    let write = || x_in("blue", "a", 1).in_session("red");
    let first = service.try_write("ada", write()).await.expect("one took it");
    assert_eq!(first[0].position.as_ref().map(|it| it.revision), Some(2));
    let refusal = first[1].refusal.as_ref().expect("she is not in it");
    assert_eq!(refusal.reason(), proto::ErrorReason::NotAMember);
    service.tick();
    service.set_in("blue", "ada", [("x", int(2))]).await;
    service.join("red", "ada").await;
    let again = service.try_write("ada", write()).await.expect("both took it");
    assert_eq!(again[0], first[0]);
    assert_eq!(again[1].position.as_ref().map(|it| it.revision), Some(2));
    // The part of one session is the same whichever others are named.
    let alone = service.try_write("ada", x_in("red", "a", 1)).await.expect("it is answered");
    assert_eq!(alone, again[1..]);
    assert_eq!((&*service.x("blue").await, &*service.x("red").await), ("2i", "1i"));
}

#[tokio::test]
async fn a_write_on_the_user_is_remembered_of_the_user() {
    let service = Service::start().await;
    service.open_room("blue", "ada").await;
    let write = || once(write([("x", int(1))]), "a");
    let first = service.try_write("ada", write()).await.expect("it is done");
    assert_eq!(first.len(), 1);
    service.open_room("red", "ada").await;
    service.set("ada", [("x", int(2))]).await;
    assert_eq!(service.try_write("ada", write()).await.expect("it is answered"), first);
    assert_eq!((&*service.x("blue").await, &*service.x("red").await), ("2i", "2i"));
    let told = refused(service.try_write("ada", once(removal(&["x"]), "a")).await);
    told.is(Code::InvalidArgument, REUSED);
    // In a session the same id is another one's.
    service.try_write("ada", x_in("red", "a", 3)).await.expect("it is done");
}

#[tokio::test]
async fn a_stream_and_a_call_share_what_is_remembered() {
    let service = Service::with_room().await;
    let first = service.try_write("ada", x_in("finals", "a", 1)).await.expect("it is done");
    service.tick();
    let mut stream = service.stream("finals", "ada").await;
    let seq = stream.write(write([("x", int(2))]).in_session("finals"));
    stream.until_acked(&service, seq).await;
    let seq = stream.write(x_in("finals", "a", 1));
    stream.until_acked(&service, seq).await;
    assert_eq!(stream.refusals.len(), 0);
    assert_eq!(stream.rebuilt.props("ada"), shown([("x", int(2))]));
    let seq = stream.write(x_in("finals", "a", 3));
    stream.until_acked(&service, seq).await;
    let told = &stream.refusals[0];
    assert_eq!(told.reason(), proto::ErrorReason::RequestIdReused);
    assert_eq!((told.seq, &*told.fields[0].field), (seq, "write.request_id"));
    let seq = stream.write(x_in("finals", "b", 4));
    stream.until_acked(&service, seq).await;
    assert_eq!(stream.rebuilt.props("ada"), shown([("x", int(4))]));
    service.set_in("finals", "ada", [("x", int(5))]).await;
    let again = service.try_write("ada", x_in("finals", "b", 4)).await.expect("it is answered");
    assert!(revision_of(&again) > revision_of(&first));
    assert_eq!(service.x("finals").await, "5i");
}

#[tokio::test]
async fn nan_is_the_same_content_as_nan() {
    let service = Service::with_room().await;
    let write = |x| once(write([("x", num(x)), ("y", list(vec![num(f64::NAN)]))]), "a");
    let first = service.try_write("ada", write(f64::NAN).in_session("finals")).await;
    service.tick();
    let again = service.try_write("ada", write(f64::NAN).in_session("finals")).await;
    assert_eq!(again.expect("it is answered"), first.expect("it is done"));
    let told = refused(service.try_write("ada", write(0.0).in_session("finals")).await);
    told.is(Code::InvalidArgument, REUSED);
}

#[tokio::test]
async fn an_id_is_remembered_for_two_minutes() {
    assert_eq!(REMEMBERED_FOR, 120_000_000);
    let service = Service::with_room().await;
    let first = service.try_write("ada", x_in("finals", "a", 1)).await.expect("it is done");
    service.advance(119_999);
    let again = service.try_write("ada", x_in("finals", "a", 1)).await.expect("it is answered");
    assert_eq!(again, first, "an answer from memory is not a new success");
    service.advance(1);
    let later = service.try_write("ada", x_in("finals", "a", 2)).await.expect("it is done");
    assert!(revision_of(&later) > revision_of(&first));
    assert_eq!(service.x("finals").await, "2i");
}

#[tokio::test]
async fn the_latest_256_ids_of_a_user_in_a_session_are_remembered() {
    assert_eq!(REMEMBERED_IDS, 256);
    let service = Service::start_with(|config| config.max_updates_per_second = 100_000).await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    let written = |at: i64| x_in("finals", &format!("id {at}"), at);
    for at in 0..256 {
        service.try_write("ada", written(at)).await.expect("it is done");
        service.try_write("bob", written(at)).await.expect("his are his own");
    }
    service.tick();
    let first = service.try_write("ada", written(0)).await.expect("it is answered");
    assert_eq!(revision_of(&first), 2);
    service.try_write("ada", written(256)).await.expect("it is done");
    let second = service.try_write("ada", written(1)).await.expect("it is answered");
    assert_eq!(revision_of(&second), 2);
    let first = service.try_write("ada", written(0)).await.expect("it is done again");
    assert_eq!(revision_of(&first), 3);
    let of_bob = service.try_write("bob", written(0)).await.expect("it is answered");
    assert_eq!(revision_of(&of_bob), 2);
}

#[tokio::test]
async fn an_opening_with_generated_ids_is_replayed_with_them() {
    let service = Service::start().await;
    let named = |user: &str, id: &str| OpenSharedSessionRequest {
        user_id: user.to_owned(),
        join: Some(JoinOptions::default()),
        request_id: id.to_owned(),
        ..Default::default()
    };
    for user in ["ada", ""] {
        let first = service.try_open(named(user, "a")).await.expect("it opens");
        service.tick();
        let again = service.try_open(named(user, "a")).await.expect("it is answered");
        assert_eq!(again.encode_to_vec(), first.encode_to_vec());
        assert!(!first.user_id.is_empty() && !again.existed);
        let other = service.try_open(named(user, "b")).await.expect("it opens another");
        let id = |open: &proto::OpenSharedSessionResponse| {
            open.session.as_ref().map(|session| session.session_id.clone())
        };
        assert_ne!(id(&other), id(&first));
        let settings = Some(SessionSettings { capacity: Some(7), ..Default::default() });
        let told = refused(
            service.try_open(OpenSharedSessionRequest { settings, ..named(user, "a") }).await,
        );
        told.is(Code::InvalidArgument, REUSED).names(&["request_id"]);
    }
}

#[tokio::test]
async fn an_opening_under_a_given_id_is_remembered_as_long_as_the_session() {
    let service = Service::start().await;
    let open = || OpenSharedSessionRequest {
        request_id: "a".to_owned(),
        ..opening("finals", "ada", SessionSettings::default())
    };
    let first = service.try_open(open()).await.expect("it opens");
    let again = service.try_open(open()).await.expect("it is answered");
    assert_eq!(again, first);
    let told =
        refused(service.try_open(opening("finals", "ada", SessionSettings::default())).await);
    told.is(Code::AlreadyExists, "SESSION_EXISTS");
    service.try_delete("finals", "ada").await.expect("it is deleted");
    let anew = service.try_open(open()).await.expect("it opens anew");
    assert!(anew.position.map(|it| it.epoch) > first.position.map(|it| it.epoch));
}

fn joining(user: &str) -> proto::JoinSessionRequest {
    proto::JoinSessionRequest {
        session_id: "finals".to_owned(),
        user_id: user.to_owned(),
        request_id: "a".to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_join_is_replayed_with_its_user_and_the_snapshot_of_the_moment() {
    let service = Service::start().await;
    let settings = SessionSettings { name: "the finals".to_owned(), ..Default::default() };
    service.open_room_with("finals", "ada", settings).await;
    let by_name = |user: &str| proto::JoinSessionRequest {
        session_id: String::new(),
        name: "the finals".to_owned(),
        ..joining(user)
    };
    for request in [joining("bob"), joining(""), by_name("kim"), by_name("")] {
        let join = || async {
            let answer = in_time(service.sessions().join_session(request.clone())).await;
            answer.expect("it joins").into_inner()
        };
        let first = join().await;
        let members = service.info("finals", "ada").await.members.len();
        service.tick();
        let mut again = join().await;
        let shows = again.snapshot.take().expect("it has one").to_revision;
        assert!(shows >= first.position.expect("it has one").revision);
        assert_eq!(again, proto::JoinSessionResponse { snapshot: None, ..first });
        service.tick();
        assert_eq!(service.info("finals", "ada").await.members.len(), members + 1);
    }
    // Who has left in between is told what it was told, and shown nothing any more.
    service.leave("finals", "bob").await;
    let again = in_time(service.sessions().join_session(joining("bob"))).await;
    let again = again.expect("it is answered").into_inner();
    assert!(again.snapshot.is_none() && again.snapshot_omitted);
    service.tick();
    let members = service.info("finals", "ada").await.members;
    assert!(members.iter().all(|member| member.user_id != "bob"));
}

#[tokio::test]
async fn a_join_that_opened_is_not_done_twice_even_if_another_session_would_be_found_now() {
    let service = Service::start().await;
    let request = |id: &str| proto::JoinSessionRequest {
        newest: true,
        user_id: "ada".to_owned(),
        request_id: id.to_owned(),
        open_if_missing: Some(OpenSharedSessionRequest::default()),
        ..Default::default()
    };
    let join = |id: &str| {
        let request = request(id);
        async { in_time(service.sessions().join_session(request)).await }
    };
    let first = join("a").await.expect("it opens").into_inner();
    assert!(first.opened);
    service.advance(1000);
    service.open_room("later", "bob").await;
    let again = join("a").await.expect("it is answered").into_inner();
    assert_eq!(again, proto::JoinSessionResponse { snapshot: again.snapshot.clone(), ..first });
    let other = join("b").await.expect("it joins").into_inner();
    assert_eq!((&*other.session_id, other.opened), ("later", false));
    let changed = proto::JoinSessionRequest { open_if_missing: None, ..request("a") };
    let told = refused(service.sessions().join_session(changed).await);
    told.is(Code::InvalidArgument, REUSED).names(&["request_id"]);
}

#[tokio::test]
async fn of_calls_that_come_at_the_same_time_one_acts_and_all_are_answered_by_it() {
    let service = Service::with_room().await;
    let mut opens = JoinSet::new();
    let mut writes = JoinSet::new();
    for at in 0..40 {
        // From several connections, so that several threads serve them.
        let channel = if at % 2 == 0 { service.channel() } else { service.connect().await };
        let mut sessions = proto::session_service_client::SessionServiceClient::new(channel);
        let mut other = sessions.clone();
        opens.spawn(async move {
            let open = OpenSharedSessionRequest {
                join: Some(JoinOptions::default()),
                request_id: "a".to_owned(),
                ..Default::default()
            };
            sessions.open_shared_session(sent(open)).await.expect("it is answered").into_inner()
        });
        writes.spawn(async move {
            let write = SetUserPropsRequest {
                user_id: "ada".to_owned(),
                write: Some(x_in("finals", "a", 1)),
                ..Default::default()
            };
            other.set_user_props(sent(write)).await.expect("it is answered").into_inner()
        });
    }
    let opened = in_time(opens.join_all()).await;
    assert!(opened.iter().all(|open| *open == opened[0]));
    let written = in_time(writes.join_all()).await;
    assert!(written.iter().all(|write| *write == written[0]));
    let listed = service.try_list(proto::ListSessionsRequest::default()).await.expect("a page");
    assert_eq!(listed.sessions.len(), 2, "the room and one more");
}

#[tokio::test]
async fn a_request_id_is_bounded_like_all_ids() {
    let service = Service::with_room().await;
    service.try_write("ada", x_in("finals", &"i".repeat(128), 1)).await.expect("it fits");
    for wrong in [&*"i".repeat(129), "a\nb"] {
        let told = refused(service.try_write("ada", x_in("finals", wrong, 1)).await);
        told.blames(&["write.request_id"]);
        let open = OpenSharedSessionRequest {
            request_id: wrong.to_owned(),
            ..opening("a\nb", "ada", SessionSettings::default())
        };
        refused(service.try_open(open).await).blames(&["session_id", "request_id"]);
        let join = proto::JoinSessionRequest { request_id: wrong.to_owned(), ..joining("bob") };
        refused(service.sessions().join_session(join).await).blames(&["request_id"]);
        let data = proto::SetSessionDataRequest {
            set: props([("x", int(1))]),
            request_id: wrong.to_owned(),
            ..data_of("finals", "ada")
        };
        refused(service.try_set_data(data).await).blames(&["request_id"]);
        let ban = proto::BanUserRequest {
            request_id: wrong.to_owned(),
            ..ban_of("finals", "ada", "bob")
        };
        refused(service.try_ban_with(ban).await).blames(&["request_id"]);
    }
}

#[tokio::test]
async fn what_is_remembered_has_a_bound_and_is_forgotten_in_time() {
    let service = Service::start_with(|config| config.max_replay_bytes = 1024 * 1024).await;
    let large = |id: &str| OpenSharedSessionRequest {
        settings: Some(SessionSettings {
            metadata: (0..4).map(|at| (format!("k{at}"), data(15_000))).collect(),
            empty_ttl: Some(ms(600_000)),
            ..Default::default()
        }),
        request_id: id.to_owned(),
        ..Default::default()
    };
    let mut opened = 0;
    let told = loop {
        match service.try_open(large(&format!("id {opened}"))).await {
            Ok(_) => opened += 1,
            Err(status) => break refused(Err::<(), _>(status)),
        }
    };
    let told = told.is(Code::ResourceExhausted, "LIMIT_REACHED");
    told.says("limit", "max-replay-bytes").says("most", &(1024 * 1024).to_string());
    assert!((17..=18).contains(&opened), "{opened} of 60,000 bytes");
    service.try_open(large("id 0")).await.expect("what is remembered is answered");
    service.try_open(large("")).await.expect("without an id there is nothing to remember");
    let mut page = proto::ListSessionsRequest { page_size: 10, ..Default::default() };
    let mut listed = 0;
    loop {
        let answer = service.try_list(page.clone()).await.expect("a page");
        listed += answer.sessions.len();
        page.page_token = answer.next_page_token;
        if page.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, opened + 1, "what is refused is not done");
    service.advance(120_000);
    service.try_open(large("another")).await.expect("there is room again");
}

#[tokio::test]
async fn a_stop_answers_what_is_remembered_and_does_nothing_new() {
    let service = Service::with_room().await;
    let first = service.try_write("ada", x_in("finals", "a", 1)).await.expect("it is done");
    service.drain();
    let again = service.try_write("ada", x_in("finals", "a", 1)).await.expect("it is answered");
    assert_eq!(again, first);
    for _ in 0..2 {
        let told = refused(service.try_write("ada", x_in("finals", "b", 1)).await);
        told.is(Code::Unavailable, "DRAINING");
    }
}

/// The calls of the contract whose requests have a request_id.
fn calls_with_request_id() -> impl Iterator<Item = Call> {
    let has_id = |message: &prost_types::DescriptorProto| {
        message.field.iter().any(|field| field.name() == "request_id")
    };
    let messages = descriptors().into_iter().flat_map(|file| file.message_type);
    let messages: Vec<_> = messages.filter(has_id).map(|it| it.name().to_owned()).collect();
    calls().into_iter().filter(move |call| {
        let is_write = call.name == "SetUserProps";
        !call.is_stream && (is_write || messages.contains(&format!("{}Request", call.name)))
    })
}

/// Opens the session and sets the object stream that repeatable requests are about, as far as they
/// are not there.
async fn set_up(service: &Service) {
    let mut finals = opening("finals", "ada", SessionSettings::default());
    finals.kind = proto::SessionKind::Hosted.into();
    finals.get_if_exists = true;
    service.try_open(finals).await.expect("it is there");
    for user in ["ada", "target"] {
        let _ = service.try_join("finals", user, JoinOptions::default()).await;
    }
    let path = "/sessiond.v1.ObjectStreamService/SetStream";
    let request = request_of("SetStream", "finals", "ada", "");
    service.call_raw(path, request).await.expect("it is set");
    service.tick();
}

/// All that the app sees.
async fn all_there_is(service: &Service) -> String {
    let sessions = service.try_list(Default::default()).await.expect("it lists").sessions;
    let mut seen = Vec::new();
    for session in sessions {
        seen.push(format!("{:?}", service.info(&session.session_id, "").await));
    }
    let request =
        proto::GetAllStreamUpdatesRequest { cursor: "0".to_owned(), ..Default::default() };
    let path = "/sessiond.v1.ObjectStreamService/GetAllStreamUpdates";
    let streams = service.call_raw_as(Some("app"), path, request.encode_to_vec()).await;
    let streams = proto::GetAllStreamUpdatesResponse::decode(streams.expect("it is read"));
    format!("{seen:#?} {:#?}", streams.expect("it is a reply").updates)
}

#[tokio::test]
async fn every_request_with_an_id_is_done_once_and_then_answered() {
    let mut tried = 0;
    for Call { name, path, .. } in calls_with_request_id() {
        let service = Service::start().await;
        set_up(&service).await;
        service.try_ban("finals", "ada", "banned").await.expect("it is banned");
        // Who joins is new, and so is the object stream that is set.
        let user = if name == "JoinSession" { "kim" } else { "ada" };
        let about = if name == "SetStream" { "" } else { "finals" };
        let request = request_of(&name, about, user, "again");
        let first = service.call_raw(&path, request.clone()).await.expect("it is done");
        // What was done is undone by others, so that it would show if it were done again.
        if !["SetStream", "UpdateStreamData"].contains(&&*name) {
            set_up(&service).await;
        }
        service.tick();
        let before = all_there_is(&service).await;
        let again = service.call_raw(&path, request).await.expect("it is answered");
        assert_eq!(again, first, "{name}");
        service.tick();
        assert_eq!(all_there_is(&service).await, before, "{name} is not done again");
        tried += 1;
    }
    assert_eq!(tried, 19, "the calls that have a request_id");
}

#[tokio::test]
async fn who_ends_a_session_by_leaving_or_deleting_it_is_answered_after_it_is_gone() {
    let service = Service::start().await;
    let leave = proto::LeaveSessionRequest {
        session_id: "finals".to_owned(),
        user_id: "ada".to_owned(),
        request_id: "leave".to_owned(),
        ..Default::default()
    };
    let delete = proto::DeleteSessionRequest {
        session_id: "finals".to_owned(),
        user_id: "ada".to_owned(),
        request_id: "delete".to_owned(),
        ..Default::default()
    };
    let requests = [
        ("/sessiond.v1.SessionService/LeaveSession", leave.encode_to_vec()),
        ("/sessiond.v1.SessionService/DeleteSession", delete.encode_to_vec()),
    ];
    for (path, request) in requests {
        service.open_room("finals", "ada").await;
        service.tick();
        let first = service.call_raw(path, request.clone()).await.expect("it is done");
        service.tick();
        let gone = refused(service.try_info("finals", "ada").await);
        gone.is(Code::NotFound, "SESSION_NOT_FOUND");
        let again = service.call_raw(path, request.clone()).await.expect("it is answered");
        assert_eq!(again, first);
        // A later session of the same id is another one.
        service.open_room("finals", "ada").await;
        service.call_raw(path, request).await.expect("it is answered");
        service.tick();
        assert_eq!(service.names("finals").await, ["ada"]);
        service.try_delete("finals", "").await.expect("it is deleted");
    }
}
