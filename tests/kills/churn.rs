//! Sessions that are opened and deleted all the time, half of them always under the same id.

use crate::{
    calls::Calls,
    facts::Register,
    values::{int, props},
};
use sessiond::proto::{
    self, DeleteSessionRequest, Durability, OpenSharedSessionRequest, Position, SessionSettings,
    value::Kind,
};
use tonic::Status;

/// One of them. An odd number opens it, the next one deletes it.
#[derive(Debug)]
pub struct Churn {
    pub number: usize,
    pub life: Register,
}

impl Churn {
    pub fn new(number: usize) -> Self {
        Self { number, life: Register::default() }
    }

    fn durability(&self) -> Durability {
        if self.number % 4 < 2 { Durability::Sync } else { Durability::Async }
    }

    /// The id that it has when it is opened for this time, and deleted after that.
    pub fn id(&self, number: u64) -> String {
        let Self { number: churn, .. } = self;
        let is_same = churn.is_multiple_of(2);
        if is_same {
            format!("churn-{churn}")
        } else {
            format!("churn-{churn}-{}", number.div_ceil(2))
        }
    }

    /// The request of this number: the same each time.
    pub fn request(&self, number: u64, app: &str) -> Request {
        // Some by the app, some by a user who owns it.
        let user_id = if self.number.is_multiple_of(3) {
            String::new()
        } else {
            format!("churner-{}", self.number)
        };
        let (session_id, request_id) = (self.id(number), format!("churn-{}-{number}", self.number));
        let app = app.to_owned();
        if number.is_multiple_of(2) {
            let request = DeleteSessionRequest { app, user_id, session_id, request_id };
            return Request::Delete(request);
        }
        Request::Open(Box::new(OpenSharedSessionRequest {
            app,
            user_id,
            session_id,
            request_id,
            settings: Some(SessionSettings {
                durability: self.durability().into(),
                metadata: props([("n", int(number as i64))]),
                empty_ttl: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
                ..Default::default()
            }),
            ..Default::default()
        }))
    }
}

/// To open it, or to delete it.
#[derive(Debug)]
pub enum Request {
    Open(Box<OpenSharedSessionRequest>),
    Delete(DeleteSessionRequest),
}

impl Request {
    /// The position at which it was opened.
    pub async fn make(self, calls: &mut Calls) -> Result<Option<Position>, Status> {
        match self {
            Self::Open(request) if request.user_id.is_empty() => {
                calls.app.open_shared_session(*request).await.map(|it| it.into_inner().position)
            }
            Self::Open(request) => {
                calls.users.open_shared_session(*request).await.map(|it| it.into_inner().position)
            }
            Self::Delete(request) if request.user_id.is_empty() => {
                calls.app.delete_session(request).await.map(|_| None)
            }
            Self::Delete(request) => calls.users.delete_session(request).await.map(|_| None),
        }
    }
}

/// The number of the request that opened it.
pub fn number(info: &proto::GetSessionInfoResponse) -> Option<u64> {
    let settings = info.session.as_ref()?.settings.as_ref()?;
    match settings.metadata.get("n")?.kind.as_ref()? {
        Kind::Integer(number) => Some(*number as u64),
        _ => None,
    }
}
