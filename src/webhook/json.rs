//! Events in JSON, as protobuf maps the messages of `event_service.proto` to it.

use crate::{
    engine::AppEvent,
    grpc::convert::event,
    proto::{self, event::What, event_revocation::What as Revoked},
};
use serde_json::{Map, Value, json};

/// A delivery: what a `WatchEventsResponse` with these events has in JSON.
pub fn delivery(process: u64, events: &[impl AsRef<AppEvent>], gap: Option<&Gap>) -> Vec<u8> {
    let events: Vec<Value> =
        events.iter().map(|it| told(event::event(process, it.as_ref()))).collect();
    let mut body = json!({ "events": events });
    if let Some(Gap { reason, missing, app, session }) = gap {
        let mut gap = Map::new();
        gap.insert("reason".to_owned(), reason.as_str_name().into());
        put_number(&mut gap, "missing", *missing);
        put(&mut gap, "app", app);
        put(&mut gap, "sessionId", session);
        body["gap"] = Value::Object(gap);
    }
    body.to_string().into_bytes()
}

/// That events are missing before those of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: proto::EventGapReason,
    /// How many, if that is known, or 0.
    pub missing: u64,
    /// Of which app; empty = of all.
    pub app: String,
    /// Of which session; empty = of all of the app.
    pub session: String,
}

/// What is empty is left out, as protobuf does.
fn put(object: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        object.insert(name.to_owned(), text.into());
    }
}

/// Numbers of 64 bits are texts, as JSON has no such numbers.
fn put_number(object: &mut Map<String, Value>, name: &str, number: u64) {
    if number != 0 {
        object.insert(name.to_owned(), number.to_string().into());
    }
}

fn put_moment(object: &mut Map<String, Value>, name: &str, at: Option<&prost_types::Timestamp>) {
    if let Some(at) = at {
        object.insert(name.to_owned(), at.to_string().into());
    }
}

fn put_texts(object: &mut Map<String, Value>, name: &str, texts: &[String]) {
    if !texts.is_empty() {
        object.insert(name.to_owned(), texts.into());
    }
}

fn told(event: proto::Event) -> Value {
    let mut object = Map::new();
    put(&mut object, "id", &event.id);
    put_number(&mut object, "sequence", event.sequence);
    put_moment(&mut object, "time", event.time.as_ref());
    put(&mut object, "app", &event.app);
    put(&mut object, "sessionId", &event.session_id);
    put(&mut object, "kind", event.kind().as_str_name());
    put(&mut object, "userId", &event.user_id);
    if let Some(actor) = &event.actor {
        object.insert("actor".to_owned(), told_actor(actor));
    }
    if let Some(what) = &event.what {
        let (name, what) = told_what(what);
        object.insert(name.to_owned(), Value::Object(what));
    }
    Value::Object(object)
}

fn told_actor(actor: &proto::EventActor) -> Value {
    let mut object = Map::new();
    put(&mut object, "kind", actor.kind().as_str_name());
    put(&mut object, "userId", &actor.user_id);
    if let Some(credential) = &actor.credential {
        let mut told = Map::new();
        put(&mut told, "kind", credential.kind().as_str_name());
        put(&mut told, "name", &credential.name);
        put(&mut told, "issuer", &credential.issuer);
        put(&mut told, "subject", &credential.subject);
        object.insert("credential".to_owned(), Value::Object(told));
    }
    Value::Object(object)
}

fn told_what(what: &What) -> (&'static str, Map<String, Value>) {
    let mut object = Map::new();
    let told = &mut object;
    let name = match what {
        What::SessionOpened(it) => {
            put(told, "kind", it.kind().as_str_name());
            "sessionOpened"
        }
        What::SessionEnded(it) => {
            put(told, "reason", it.reason().as_str_name());
            "sessionEnded"
        }
        What::UserJoined(it) => {
            put(told, "role", it.role().as_str_name());
            "userJoined"
        }
        What::UserLeft(it) => {
            put(told, "reason", it.reason().as_str_name());
            "userLeft"
        }
        What::RoleChanged(it) => {
            put(told, "from", it.from().as_str_name());
            put(told, "to", it.to().as_str_name());
            "roleChanged"
        }
        What::OwnerChanged(it) => {
            put(told, "fromUserId", &it.from_user_id);
            "ownerChanged"
        }
        What::HostChanged(it) => {
            put(told, "fromUserId", &it.from_user_id);
            put_number(told, "term", it.term);
            "hostChanged"
        }
        What::UserKicked(it) => {
            put(told, "reason", &it.reason);
            "userKicked"
        }
        What::UserBanned(it) => {
            put(told, "reason", &it.reason);
            put_moment(told, "until", it.until.as_ref());
            "userBanned"
        }
        What::UserUnbanned(_) => "userUnbanned",
        What::SettingsChanged(it) => {
            put_texts(told, "names", &it.names);
            "settingsChanged"
        }
        What::SessionReset(it) => {
            if it.new_schema {
                told.insert("newSchema".to_owned(), true.into());
            }
            "sessionReset"
        }
        What::SeatsReserved(it) => {
            put_texts(told, "userIds", &it.user_ids);
            put_moment(told, "until", it.until.as_ref());
            "seatsReserved"
        }
        What::SeatsReleased(it) => {
            put_texts(told, "userIds", &it.user_ids);
            "seatsReleased"
        }
        What::CredentialsRevoked(it) => {
            put_revocation(told, it.revocation.as_ref());
            "credentialsRevoked"
        }
        What::CredentialsRestored(it) => {
            put_revocation(told, it.revocation.as_ref());
            "credentialsRestored"
        }
        What::HookRefused(it) => {
            put(told, "hook", &it.hook);
            put(told, "call", &it.call);
            put(told, "reason", &it.reason);
            "hookRefused"
        }
    };
    (name, object)
}

fn put_revocation(told: &mut Map<String, Value>, revocation: Option<&proto::EventRevocation>) {
    let Some(revocation) = revocation else { return };
    let mut object = Map::new();
    match &revocation.what {
        Some(Revoked::TokenId(id)) => put(&mut object, "tokenId", id),
        Some(Revoked::KeyId(id)) => put(&mut object, "keyId", id),
        Some(Revoked::UserId(id)) => put(&mut object, "userId", id),
        Some(Revoked::IssuedBefore(it)) => {
            let mut before = Map::new();
            put_moment(&mut before, "time", it.time.as_ref());
            put(&mut before, "issuer", &it.issuer);
            put(&mut before, "userId", &it.user_id);
            object.insert("issuedBefore".to_owned(), Value::Object(before));
        }
        None => {}
    }
    told.insert("revocation".to_owned(), Value::Object(object));
}

#[cfg(test)]
mod tests;
