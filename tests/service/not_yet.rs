//! What the contract has and the server does not yet: named, and never ignored.

use crate::support::*;
use prost::Message;
use sessiond::proto::{
    self, DeliveryOptions, JoinOptions, PropsWrite, SessionSettings, SubscribeToSessionRequest,
    stream_user_props_request::Message as Up,
};
use tonic::Code;

/// The calls that are served.
const SERVED: &[&str] = &[
    "GetSessionInfo",
    "ListSessions",
    "OpenSharedSession",
    "OpenPrivateSession",
    "UpdateSession",
    "JoinSession",
    "ResetSession",
    "LeaveSession",
    "DeleteSession",
    "SetUserProps",
    "SetSessionData",
    "GetUpdatedUserData",
    "GetFirstMatch",
    "SwapHost",
    "SetRole",
    "KickUser",
    "BanUser",
    "UnbanUser",
    "TransmitSessionUpdates",
    "SubscribeToSession",
    "SubscribeToUser",
    "StreamUserProps",
    "SetStream",
    "RemoveStream",
    "UpdateStreamData",
    "SetStreamFunc",
    "AddStreamFunc",
    "GetStreamUpdate",
    "GetAllStreamUpdates",
    "SubscribeToStreams",
];

#[tokio::test]
async fn every_other_call_of_the_contract_answers_unimplemented_by_its_name() {
    let service = Service::start().await;
    let descriptors = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS)
        .expect("the descriptors are compiled in");
    let mut calls = 0;
    for file in descriptors.file.iter().filter(|file| file.package() == "sessiond.v1") {
        for served in &file.service {
            for method in &served.method {
                calls += 1;
                let path = format!("/sessiond.v1.{}/{}", served.name(), method.name());
                // Garbage, so that a stream that takes an empty request does not go on and on.
                let garbage = if method.server_streaming() { vec![0xff] } else { Vec::new() };
                let answer = service.call_raw(&path, garbage).await;
                let code = answer.as_ref().err().map_or(Code::Ok, tonic::Status::code);
                if SERVED.contains(&method.name()) {
                    assert_ne!(code, Code::Unimplemented, "{path}");
                } else {
                    let told = refused(answer).is(Code::Unimplemented, "NOT_IMPLEMENTED");
                    told.says("field", method.name());
                }
            }
        }
    }
    assert!(calls > SERVED.len());
    for path in ["/sessiond.v1.DeliveryService/Nope", "/sessiond.v1.SessionService/Nope", "/no/pe"]
    {
        refused(service.call_raw(path, Vec::new()).await)
            .is(Code::Unimplemented, "NOT_IMPLEMENTED");
    }
    service.is_fine().await;
}

fn not_yet(told: Refused, field: &str) {
    told.is(Code::Unimplemented, "NOT_IMPLEMENTED").says("field", field);
}

#[tokio::test]
async fn every_field_that_is_not_served_is_refused_by_its_name() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    let mut sessions = service.sessions();

    let request = proto::GetSessionInfoRequest {
        session_id: "finals".to_owned(),
        min_position: Some(proto::Position::default()),
        ..Default::default()
    };
    not_yet(refused(sessions.get_session_info(request).await), "min_position");

    type Change<T> = fn(&mut T);
    let opens: [(&str, Change<proto::OpenSharedSessionRequest>); 3] = [
        ("request_id", |it| it.request_id = "once".to_owned()),
        ("join.password", |it| it.join = Some(password())),
        ("settings.password", |it| settings_of(it).password = Some("secret".to_owned())),
    ];
    for (field, change) in opens {
        let mut request = opening("other", "ada", SessionSettings::default());
        change(&mut request);
        not_yet(refused(service.try_open(request).await), field);
    }

    let joins: [(&str, Change<proto::JoinSessionRequest>); 2] = [
        ("request_id", |it| it.request_id = "once".to_owned()),
        ("join.password", |it| it.join = Some(password())),
    ];
    for (field, change) in joins {
        let mut request = proto::JoinSessionRequest {
            session_id: "finals".to_owned(),
            user_id: "bob".to_owned(),
            ..Default::default()
        };
        change(&mut request);
        not_yet(refused(sessions.join_session(request).await), field);
    }

    let answer = service.try_update("finals", "ada", &["password"], Default::default()).await;
    not_yet(refused(answer), "settings.password");

    let writes: [(&str, Change<PropsWrite>); 2] = [
        ("write.merge_maps", |it| it.merge_maps = true),
        ("write.request_id", |it| it.request_id = "once".to_owned()),
    ];
    for (field, change) in writes {
        let mut write = write([("x", int(1))]).in_session("finals");
        change(&mut write);
        not_yet(refused(service.try_write("ada", write.clone()).await), field);
        let mut stream = service.stream("finals", "ada").await;
        let seq = stream.write(write);
        stream.until_acked(&service, seq).await;
        assert_eq!(stream.refusals[0].code, Code::Unimplemented as i32, "{field}");
    }

    let data: [(&str, Change<proto::SetSessionDataRequest>); 2] = [
        ("merge_maps", |it| it.merge_maps = true),
        ("request_id", |it| it.request_id = "once".to_owned()),
    ];
    for (field, change) in data {
        let mut request = data_of("finals", "ada");
        request.set = props([("x", int(1))]);
        change(&mut request);
        not_yet(refused(service.try_set_data(request).await), field);
    }

    let (session_id, target_user_id) = ("finals".to_owned(), "bob".to_owned());
    let request_id = "once".to_owned();
    let min_position = Some(proto::Position::default());
    let swap = proto::SwapHostRequest {
        session_id: session_id.clone(),
        request_id: request_id.clone(),
        ..Default::default()
    };
    not_yet(refused(sessions.swap_host(swap).await), "request_id");
    let role = proto::SetRoleRequest {
        session_id: session_id.clone(),
        target_user_id: target_user_id.clone(),
        role: proto::Role::Admin.into(),
        request_id: request_id.clone(),
        ..Default::default()
    };
    not_yet(refused(sessions.set_role(role).await), "request_id");
    let ban =
        proto::BanUserRequest { request_id: request_id.clone(), ..ban_of("finals", "", "bob") };
    not_yet(refused(sessions.ban_user(ban).await), "request_id");
    let unban = proto::UnbanUserRequest {
        session_id: session_id.clone(),
        target_user_id: target_user_id.clone(),
        request_id,
        ..Default::default()
    };
    not_yet(refused(sessions.unban_user(unban).await), "request_id");
    let first = proto::GetFirstMatchRequest {
        session_id: session_id.clone(),
        min_position,
        ..Default::default()
    };
    not_yet(refused(sessions.get_first_match(first).await), "min_position");
    let updated = proto::GetUpdatedUserDataRequest {
        session_id,
        target_user_id,
        min_position,
        ..Default::default()
    };
    not_yet(refused(sessions.get_updated_user_data(updated).await), "min_position");

    let options: [(&str, Change<DeliveryOptions>); 3] = [
        ("options.delivery", |it| it.delivery = proto::Delivery::All.into()),
        ("options.encoding", |it| it.encoding = proto::Encoding::Columns.into()),
        ("options.max_rate_hz", |it| it.max_rate_hz = 10),
    ];
    for (field, change) in options {
        let mut options = DeliveryOptions::default();
        change(&mut options);
        let request = SubscribeToSessionRequest {
            options: Some(options.clone()),
            ..subscription("finals", "ada")
        };
        not_yet(service.refused_watch(request).await, field);
        let mut open = stream_open("finals", "ada");
        open.subscriptions[0].options = Some(options);
        let told = service.open_stream(open).await.refused().await;
        not_yet(told, &format!("open.subscriptions[0].{field}"));
    }

    let mut several = stream_open("finals", "ada");
    several.subscriptions.push(several.subscriptions[0].clone());
    not_yet(service.open_stream(several).await.refused().await, "open.subscriptions[1]");
    let mut token = service.stream("finals", "ada").await;
    token.send(Up::Token("t".to_owned()));
    not_yet(token.refused().await, "token");

    service.tick();
    assert_eq!(service.revision("finals").await, 1, "nothing changed");
    service.is_fine().await;
}

fn password() -> JoinOptions {
    JoinOptions { password: "secret".to_owned(), ..Default::default() }
}

fn settings_of(request: &mut proto::OpenSharedSessionRequest) -> &mut SessionSettings {
    request.settings.get_or_insert_default()
}

#[tokio::test]
async fn wrong_fields_are_named_before_those_that_are_not_served() {
    let service = Service::start().await;
    let mut request = opening("a\nb", "ada", SessionSettings::default());
    request.request_id = "once".to_owned();
    refused(service.try_open(request).await).blames(&["session_id"]);
}
