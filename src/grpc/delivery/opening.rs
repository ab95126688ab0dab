//! The opening of a stream whose first message joins a session with a password: the message waits
//! until the password is compared, and nothing more is read meanwhile. A stream that is given up
//! until then has done nothing.

use super::{
    Server,
    hot::{HotStream, Next},
};
use crate::{
    engine::{Peer, SessionKey},
    grpc::passwords::Claim,
    session::{error::Refusal, password::PasswordHash},
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tonic::Status;

/// A stream that may join sessions with its first message.
pub trait Joins: HotStream {
    /// The passwords in a first message that passes the door, given from `peer`.
    fn claims(&self, message: &Bytes, peer: Peer) -> Vec<Claim>;

    /// What came of them, before the message is received.
    fn proven(&mut self, proofs: Proofs);
}

/// What came of the passwords of a message.
#[derive(Debug, Default)]
pub struct Proofs(Vec<(SessionKey, Result<Option<PasswordHash>, Refusal>)>);

impl Proofs {
    /// What came of the password for a session; none was found right if none was given.
    pub fn of(&self, session: Option<&SessionKey>) -> Result<Option<PasswordHash>, Refusal> {
        let known = self.0.iter().find(|(key, _)| Some(key) == session);
        known.map_or(Ok(None), |(_, outcome)| outcome.clone())
    }
}

/// A stream from before its first message on.
pub struct Opening<S> {
    stream: S,
    server: Server,
    peer: Peer,
    state: State,
}

enum State {
    /// No message has come.
    First,
    /// The passwords of the first message are being compared.
    Comparing {
        proofs: Pin<Box<dyn Future<Output = Proofs> + Send>>,
        /// The first message, and what came in the same piece with it.
        messages: VecDeque<Bytes>,
    },
    /// Messages go straight to the stream.
    Open,
}

impl<S: Joins> Opening<S> {
    /// A stream that waits for its first message.
    pub fn new(stream: S, server: Server, peer: Peer) -> Self {
        Self { stream, server, peer, state: State::First }
    }
}

async fn prove(server: Server, claims: Vec<Claim>) -> Proofs {
    let mut proofs = Proofs::default();
    for claim in claims {
        let key = claim.key.clone();
        proofs.0.push((key, claim.prove(&server).await));
    }
    proofs
}

impl<S: Joins> HotStream for Opening<S> {
    fn receive(&mut self, message: Bytes) -> Result<(), Status> {
        match &mut self.state {
            State::Open => return self.stream.receive(message),
            State::Comparing { messages, .. } => {
                messages.push_back(message);
                return Ok(());
            }
            State::First => {}
        }
        let claims = self.stream.claims(&message, self.peer);
        if claims.is_empty() {
            self.state = State::Open;
            return self.stream.receive(message);
        }
        let proofs = Box::pin(prove(self.server.clone(), claims));
        self.state = State::Comparing { proofs, messages: [message].into() };
        Ok(())
    }

    fn is_full(&self) -> bool {
        matches!(self.state, State::Comparing { .. }) || self.stream.is_full()
    }

    fn closed(&mut self) -> Result<(), Status> {
        self.stream.closed()
    }

    fn unreadable(&mut self, refusal: &Refusal) -> Status {
        self.stream.unreadable(refusal)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let State::Comparing { proofs, messages } = &mut self.state {
            let proofs = ready!(proofs.as_mut().poll(cx));
            let messages = std::mem::take(messages);
            self.state = State::Open;
            self.stream.proven(proofs);
            for message in messages {
                if let Err(end) = self.stream.receive(message) {
                    return Poll::Ready(Next::End(end));
                }
            }
            // What came in meanwhile can be read now.
            cx.waker().wake_by_ref();
        }
        self.stream.poll_next(cx)
    }
}
