use super::*;
use crate::{
    engine::{AppWhat, Credential, JudgedRefusal, RefusedBy, Revoked},
    proto::{EventGapReason, EventKind},
    session::{
        command::Actor,
        event::{Ended, What},
        ids::{AppId, SessionId, UserId},
        judging::Operation,
        member::Departure,
        role::Role,
        settings::Kind,
    },
};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use std::{collections::BTreeSet, sync::Arc};

fn user(name: &str) -> UserId {
    UserId::new(name).expect("an id")
}

/// Something of every kind, with every field.
fn everything() -> Vec<AppWhat> {
    let (ada, bob) = (user("ada"), user("bob"));
    let reason: Arc<str> = "because \"of\"\n\u{e4}\u{1f600}".into();
    let until = 1_767_225_600_123_456;
    let in_session = [
        What::Opened(Kind::Hosted),
        What::Ended(Ended::SourceLeft),
        What::Joined { user: ada.clone(), role: Role::Spectator },
        What::Left { user: ada.clone(), departure: Departure::Lost },
        What::RoleChanged { user: ada.clone(), from: Role::Member, to: Role::Owner },
        What::OwnerChanged { from: Some(ada.clone()), to: Some(bob.clone()) },
        What::OwnerChanged { from: None, to: None },
        What::HostChanged { from: Some(ada.clone()), to: Some(bob.clone()), term: u64::MAX },
        What::Kicked { user: ada.clone(), reason: reason.clone() },
        What::Banned { user: ada.clone(), reason: reason.clone(), until: Some(until) },
        What::Banned { user: ada.clone(), reason: "".into(), until: None },
        What::Unbanned { user: ada.clone() },
        What::SettingsChanged { names: vec!["locked", "capacity"] },
        What::Reset { new_schema: true },
        What::Reset { new_schema: false },
        What::SeatsReserved { users: vec![ada.clone(), bob.clone()], until },
        What::SeatsReleased { users: vec![ada.clone()] },
    ];
    let before = |issuer: Option<&str>, user| Revoked::IssuedBefore {
        time: until,
        issuer: issuer.map(Into::into),
        user,
    };
    let revoked = [
        Revoked::Token("a jti".into()),
        Revoked::Key("1f3a9c20".into()),
        Revoked::User(ada.clone()),
        before(Some("tests"), Some(ada)),
        before(None, None),
    ];
    let mut all: Vec<_> = in_session.into_iter().map(AppWhat::InSession).collect();
    for revoked in revoked {
        let of = |is_restored| AppWhat::Credentials { revoked: revoked.clone(), is_restored };
        all.extend([of(false), of(true)]);
    }
    let bys = [
        RefusedBy::Hook { reason: Some("TOO_YOUNG".into()) },
        RefusedBy::Hook { reason: None },
        RefusedBy::Rule { is_faulty: true },
        RefusedBy::Rule { is_faulty: false },
    ];
    all.extend(bys.map(|by| {
        let (name, message) = ("gate".into(), reason.clone());
        AppWhat::Refused(JudgedRefusal { by, name, operation: Operation::Join, message })
    }));
    all
}

fn event(number: u64, what: AppWhat) -> Arc<AppEvent> {
    let token = |id: Option<&str>| Credential::Token {
        issuer: "tests".into(),
        id: id.map(Into::into),
        subject: Some("the lobby".into()),
    };
    let (by, credential) = match number % 4 {
        0 => (None, None),
        1 => (Some(Actor::App), Some(Credential::Key("1f3a9c20".into()))),
        2 => (Some(Actor::of(&user("eve"))), Some(token(Some("a jti")))),
        _ => (Some(Actor::of(&user("eve"))), Some(Credential::Certificate("lobby".into()))),
    };
    Arc::new(AppEvent {
        app: AppId::new("games").expect("an id"),
        journal: 3,
        number,
        // Moments with and without a part of a second.
        at: 1_767_225_600_000_000 + number * 250_000,
        session: number.is_multiple_of(2).then(|| SessionId::new("finals").expect("an id")),
        by,
        credential: credential.map(Arc::new),
        what,
    })
}

#[test]
fn what_is_pushed_is_what_a_stream_is_told_as_protobuf_writes_it_in_json() {
    let events: Vec<_> = (1u64..).zip(everything()).map(|(at, what)| event(at, what)).collect();
    let kinds: BTreeSet<i32> = events.iter().map(|it| event::kind(&it.what).into()).collect();
    let known = (1..).map_while(|kind| EventKind::try_from(kind).ok()).map(i32::from);
    assert_eq!(kinds, known.collect(), "every kind is tried");
    let gap = Gap {
        number: 1,
        reason: EventGapReason::Undelivered,
        missing: 7,
        app: "games".to_owned(),
        session: "finals".to_owned(),
    };
    let body = delivery(9, &events, Some(&gap)).expect("it is written");
    let pool = DescriptorPool::decode(proto::DESCRIPTORS).expect("they are compiled in");
    let response = pool.get_message_by_name("sessiond.v1.EventDelivery").expect("it is there");
    let mut read = serde_json::Deserializer::from_slice(&body);
    let read = DynamicMessage::deserialize(response, &mut read).expect("it is that message");
    let told = proto::EventDelivery {
        events: events.iter().map(|it| event::event(9, it)).collect(),
        gap: Some(proto::EventGap {
            reason: gap.reason.into(),
            missing: 7,
            app: gap.app,
            session_id: gap.session,
        }),
    };
    let read = proto::EventDelivery::decode(&*read.encode_to_vec()).expect("it decodes");
    assert_eq!(read, told);
}
