//! How a stream ends: the one table of ends.

use super::Server;
use crate::{
    engine::End,
    grpc::convert::to_proto,
    proto,
    session::limits::{Micros, SECOND},
};

/// Why a stream ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// What happened in the session.
    Session(End),
    /// The stream is old enough.
    Age,
    /// The client was silent for too long.
    Silent,
    /// The client said nothing at all.
    NoMessage,
    /// The client does not read.
    Slow,
    /// The client wanted an end by then.
    Deadline,
    /// The credential of the caller has expired.
    Expired,
    /// It was revoked.
    Revoked,
    /// Another stream took this one's place.
    TakenOver,
}

impl Why {
    /// How long a client that does not read has to take the last message, before it is done without.
    pub fn patience(&self) -> Micros {
        match self {
            Why::Slow | Why::Deadline | Why::NoMessage => 0,
            Why::Session(End::Draining) => 5 * SECOND,
            Why::Session(_)
            | Why::Age
            | Why::Silent
            | Why::TakenOver
            | Why::Expired
            | Why::Revoked => SECOND * 3 / 4,
        }
    }
}

impl From<End> for Why {
    fn from(end: End) -> Self {
        Why::Session(end)
    }
}

/// The end of a stream as it is sent: in the last message and in the status.
#[derive(Debug, Clone)]
pub struct Ending {
    reason: proto::EndReason,
    text: String,
    banned_until: Option<Micros>,
    delay: Option<Micros>,
    /// The status, which says the same.
    pub status: tonic::Status,
    /// Whether the client caused it, which is what counts as a lost stream.
    pub by_client: bool,
}

impl Ending {
    /// The one table of ends.
    pub fn new(server: &Server, why: Why) -> Self {
        use proto::{EndReason, ErrorReason};
        use tonic::Code;
        let spread = |most: Micros| Some(fastrand::u64(0..=most.max(1)));
        let (reason, code, error, text, delay, by_client) = match &why {
            Why::Session(End::Left) => {
                let none = ErrorReason::Unspecified;
                (EndReason::Left, Code::Ok, none, "the user left the session", None, true)
            }
            Why::Session(End::Kicked { .. }) => {
                let (code, error) = (Code::PermissionDenied, ErrorReason::Kicked);
                (EndReason::Kicked, code, error, "the user was kicked", None, true)
            }
            Why::Session(End::Banned { .. }) => {
                let (code, error) = (Code::PermissionDenied, ErrorReason::Banned);
                (EndReason::Banned, code, error, "the user was banned", None, true)
            }
            Why::Session(End::Deleted) => {
                let none = ErrorReason::Unspecified;
                (EndReason::Deleted, Code::Ok, none, "the session is gone", None, true)
            }
            Why::Slow => {
                let text = "the client did not read for longer than the server's slow-limit";
                let (code, error) = (Code::ResourceExhausted, ErrorReason::Slow);
                (EndReason::Slow, code, error, text, None, false)
            }
            Why::NoMessage => {
                let text = "no first message came within the server's first-message-timeout";
                let (code, error) = (Code::DeadlineExceeded, ErrorReason::Silent);
                (EndReason::Silent, code, error, text, None, true)
            }
            Why::Deadline => {
                let text = "the grpc-timeout of the call has passed";
                let (code, error) = (Code::DeadlineExceeded, ErrorReason::Deadline);
                (EndReason::Deadline, code, error, text, None, true)
            }
            Why::Session(End::ViewLost) => {
                let text = "no attached user may see this view any more";
                let error = ErrorReason::ViewLost;
                (EndReason::ViewLost, Code::FailedPrecondition, error, text, None, true)
            }
            Why::Session(End::TakenOver) => {
                let (code, error) = (Code::Aborted, ErrorReason::TakenOver);
                let text = "the user was attached once more, and the newest attachment wins";
                (EndReason::TakenOver, code, error, text, None, true)
            }
            Why::TakenOver => {
                let (code, error) = (Code::Aborted, ErrorReason::TakenOver);
                let text = "another stream of the same gateway_id took this one's place";
                (EndReason::TakenOver, code, error, text, None, true)
            }
            Why::Session(End::Draining) => {
                let (code, error) = (Code::Unavailable, ErrorReason::Draining);
                let most = server.leaving.spread().unwrap_or(server.streams.drain_spread);
                let delay = spread(most);
                (EndReason::Draining, code, error, "the server is stopping", delay, false)
            }
            Why::Age => {
                let text = "the stream reached its maximum age";
                let (code, error) = (Code::Unavailable, ErrorReason::Age);
                (EndReason::Age, code, error, text, spread(1_000_000), false)
            }
            Why::Expired => {
                let text = "the credential has expired";
                let (code, error) = (Code::Unauthenticated, ErrorReason::TokenExpired);
                (EndReason::TokenExpired, code, error, text, None, false)
            }
            Why::Revoked => {
                let text = "the credential was revoked";
                let (code, error) = (Code::Unauthenticated, ErrorReason::CredentialRevoked);
                (EndReason::CredentialRevoked, code, error, text, None, true)
            }
            Why::Silent => {
                let text = "no message came for longer than the silence_timeout";
                let (code, error) = (Code::DeadlineExceeded, ErrorReason::Silent);
                (EndReason::Silent, code, error, text, None, true)
            }
        };
        let (said, banned_until) = match why {
            Why::Session(End::Kicked { reason }) if !reason.is_empty() => (Some(reason), None),
            Why::Session(End::Banned { until }) => (None, until),
            _ => (None, None),
        };
        let text = said.map_or_else(|| text.to_owned(), |said| format!("{text}: {said}"));
        let status = server.node.end(code, error, &text, delay);
        Self { reason, text, banned_until, delay, status, by_client }
    }

    /// The message that goes before the status.
    pub fn message(&self) -> proto::Ended {
        proto::Ended {
            reason: self.reason.into(),
            message: self.text.clone(),
            banned_until: self.banned_until.map(to_proto::moment),
            reconnect_delay: self.delay.map(to_proto::span),
        }
    }

    /// The same for a stream that carries no session.
    pub fn go_away(&self) -> proto::GoAway {
        self.go_away_by(None)
    }

    /// The same of an end that is yet to come, at the latest then.
    pub fn go_away_by(&self, deadline: Option<Micros>) -> proto::GoAway {
        proto::GoAway {
            reason: self.reason.into(),
            deadline: deadline.map(to_proto::moment),
            reconnect_delay: self.delay.map(to_proto::span),
            message: self.text.clone(),
        }
    }

    /// The same for a user of a gateway.
    pub fn of_handle(&self, handle: u32) -> proto::HandleEnded {
        proto::HandleEnded {
            handle,
            reason: self.reason.into(),
            message: self.text.clone(),
            banned_until: self.banned_until.map(to_proto::moment),
        }
    }
}
