//! A session of a server in which a history is played.

use super::{
    Result,
    history::{Change, Owner, Write},
    server::{connect, told},
    text::count,
};
use crate::{
    dial::TlsArgs,
    grpc::{caller::AS_METADATA, convert::to_proto},
    proto::{
        Ack, DeleteSessionRequest, JoinOptions, JoinSessionRequest, LeaveSessionRequest,
        OpenSharedSessionRequest, Presence, PropsWrite, SessionKind, SessionSettings,
        SetRoleRequest, SetSessionDataRequest, SetUserPropsRequest, Value,
        session_service_client::SessionServiceClient,
    },
    session::{self, ids::Key, limits::Micros, role::Role},
};
use serde_json::Value as Json;
use std::{collections::BTreeMap, fmt};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};

/// How long the session lives without members at least, in microseconds: its pace may have pauses.
const EMPTY_TTL: Micros = 600_000_000;

/// A session that is played.
#[derive(Debug)]
pub struct Stage {
    client: SessionServiceClient<Channel>,
    app: String,
    id: String,
    /// The id that is not the recorded one.
    other_id: Option<String>,
    is_open: bool,
    joins: u64,
    leaves: u64,
    writes: u64,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, id, joins, leaves, writes, .. } = self;
        let name = super::contents::session_name(app, id);
        let joins = count(*joins, "join", "joins");
        let leaves = count(*leaves, "leave", "leaves");
        let writes = count(*writes, "write", "writes");
        write!(f, "played session {name}: {joins}, {leaves}, {writes}")
    }
}

impl Stage {
    /// A session that opens at a server when the history says what it is.
    pub async fn at(url: &str, id: Option<&str>, tls: &TlsArgs) -> Result<Self> {
        Ok(Self {
            client: SessionServiceClient::new(connect(url, tls, None).await?),
            app: String::new(),
            id: String::new(),
            other_id: id.map(str::to_owned),
            is_open: false,
            joins: 0,
            leaves: 0,
            writes: 0,
        })
    }

    /// Does in the session what was recorded. What only the server itself brings about, such as lost
    /// streams, is left out, and so is what is kept about people.
    pub async fn play(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::Session(_) if self.is_open => return Ok(()),
            Change::Session(session) => return self.open(session).await,
            _ if !self.is_open => return Err("nothing says what the session is".to_owned()),
            Change::Join(user, role) => self.join(user, *role).await,
            Change::Leave(user, _) => self.leave(user).await,
            Change::Status(user, role, _) => self.give(user, *role).await,
            Change::Values(Owner::Member(user), write) => self.write_props(user, write).await,
            Change::Values(owner, write) => {
                self.write_data(*owner == Owner::PrivateData, write).await
            }
            Change::Person(_) => Ok(()),
            Change::Ended => self.end().await,
        }
        .map_err(|status| told(&status))
    }

    async fn open(&mut self, session: &Json) -> Result<()> {
        let text = |name: &str| session[name].as_str().unwrap_or_default();
        let settings = &session["settings"];
        let number = |name: &str| settings[name].as_u64().filter(|number| *number > 0);
        let keys = |name: &str| {
            let keys = settings[name].as_array().into_iter().flatten();
            keys.filter_map(|key| key.as_str().map(str::to_owned)).collect()
        };
        let recorded = text("session").to_owned();
        (self.app, self.id) = (text("app").to_owned(), self.other_id.clone().unwrap_or(recorded));
        let kind = match text("kind") {
            "hosted" => SessionKind::Hosted,
            _ => SessionKind::Room,
        };
        let request = OpenSharedSessionRequest {
            app: self.app.clone(),
            session_id: self.id.clone(),
            kind: kind.into(),
            settings: Some(SessionSettings {
                propnames: keys("propnames"),
                hostprops: keys("hostprops"),
                tick_interval: number("tick_us").map(to_proto::span),
                capacity: number("capacity").and_then(|capacity| capacity.try_into().ok()),
                empty_ttl: Some(to_proto::span(
                    number("empty_ttl_us").unwrap_or_default().max(EMPTY_TTL),
                )),
                ..SessionSettings::default()
            }),
            ..OpenSharedSessionRequest::default()
        };
        let opened = self.client.open_shared_session(as_app(request)).await;
        opened.map_err(|status| told(&status))?;
        self.is_open = true;
        Ok(())
    }

    async fn join(&mut self, user: &str, role: Role) -> std::result::Result<(), Status> {
        let request = JoinSessionRequest {
            app: self.app.clone(),
            session_id: self.id.clone(),
            user_id: user.to_owned(),
            join: Some(JoinOptions {
                spectator: role == Role::Spectator,
                // It has no stream.
                presence: Presence::Explicit.into(),
                ..JoinOptions::default()
            }),
            omit_snapshot: true,
            ..JoinSessionRequest::default()
        };
        self.client.join_session(request).await?;
        self.joins += 1;
        if role > Role::Member { self.give(user, role).await } else { Ok(()) }
    }

    async fn leave(&mut self, user: &str) -> std::result::Result<(), Status> {
        let request = LeaveSessionRequest {
            app: self.app.clone(),
            session_id: self.id.clone(),
            user_id: user.to_owned(),
            ..LeaveSessionRequest::default()
        };
        self.client.leave_session(request).await?;
        self.leaves += 1;
        Ok(())
    }

    /// A session that the app opens has no owner: an owner plays as an admin.
    async fn give(&mut self, user: &str, role: Role) -> std::result::Result<(), Status> {
        let request = SetRoleRequest {
            app: self.app.clone(),
            session_id: self.id.clone(),
            target_user_id: user.to_owned(),
            role: to_proto::role(role.min(Role::Admin)).into(),
            ..SetRoleRequest::default()
        };
        self.client.set_role(as_app(request)).await.map(drop)
    }

    async fn write_props(&mut self, user: &str, write: &Write) -> std::result::Result<(), Status> {
        let request = SetUserPropsRequest {
            app: self.app.clone(),
            user_id: user.to_owned(),
            write: Some(PropsWrite {
                set: values(&write.set),
                remove: keys(&write.remove),
                session_ids: vec![self.id.clone()],
                ack: Ack::Accepted.into(),
                ..PropsWrite::default()
            }),
            ..SetUserPropsRequest::default()
        };
        let response = self.client.set_user_props(request).await?.into_inner();
        self.writes += 1;
        match response.results.into_iter().find_map(|result| result.refusal) {
            Some(refusal) => Err(Status::new(Code::from_i32(refusal.code), refusal.message)),
            None => Ok(()),
        }
    }

    async fn write_data(
        &mut self,
        is_private: bool,
        write: &Write,
    ) -> std::result::Result<(), Status> {
        let (set, remove) = (values(&write.set), keys(&write.remove));
        let request = SetSessionDataRequest {
            app: self.app.clone(),
            session_id: self.id.clone(),
            ack: Ack::Accepted.into(),
            ..SetSessionDataRequest::default()
        };
        let request = match is_private {
            true => SetSessionDataRequest { private_set: set, private_remove: remove, ..request },
            false => SetSessionDataRequest { set, remove, ..request },
        };
        self.writes += 1;
        self.client.set_session_data(as_app(request)).await.map(drop)
    }

    /// If the history goes on, it is with a new session of the id.
    async fn end(&mut self) -> std::result::Result<(), Status> {
        self.is_open = false;
        let request = DeleteSessionRequest {
            app: self.app.clone(),
            session_id: self.id.clone(),
            ..DeleteSessionRequest::default()
        };
        self.client.delete_session(as_app(request)).await.map(drop)
    }
}

fn as_app<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(AS_METADATA, MetadataValue::from_static("app"));
    request
}

fn values(values: &[(Key, session::value::Value)]) -> BTreeMap<String, Value> {
    values.iter().map(|(key, value)| (key.to_string(), to_proto::value(value))).collect()
}

fn keys(keys: &[Key]) -> Vec<String> {
    keys.iter().map(|key| key.to_string()).collect()
}
