//! A backend over gRPC that does what a test says.

use crate::support::*;
use parking_lot::Mutex;
use sessiond::proto::{
    self, AuthorizeRequest, AuthorizeResponse, JoinOptions, JudgedOperation as Operation,
    hook_service_server::{HookService, HookServiceServer},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, async_trait, transport};

/// What a backend does with a question.
pub enum Act {
    Say(AuthorizeResponse),
    Fail(Code),
    FailWith(Code, String),
    /// Never answers.
    Hang,
    /// Answers once it is let.
    Wait(AuthorizeResponse),
}

pub type Decide = Box<dyn Fn(&AuthorizeRequest) -> Act + Send + Sync>;

/// What a backend has seen, and how it is let go on.
#[derive(Default)]
pub struct Seen {
    pub asked: Mutex<Vec<AuthorizeRequest>>,
    pub under_way: AtomicUsize,
    pub most_under_way: AtomicUsize,
    pub given_up: AtomicUsize,
    pub metadata: Mutex<Option<tonic::metadata::MetadataMap>>,
}

pub struct Lobby {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    pub gate: Arc<Semaphore>,
}

pub struct Serves {
    pub decide: Decide,
    pub seen: Arc<Seen>,
    pub gate: Arc<Semaphore>,
}

/// A call that is under way.
struct UnderWay {
    pub seen: Arc<Seen>,
    is_done: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.seen.under_way.fetch_sub(1, Ordering::SeqCst);
        if !self.is_done {
            self.seen.given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl HookService for Serves {
    async fn authorize(
        &self,
        request: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        let seen = self.seen.clone();
        let under_way = seen.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        let mut call = UnderWay { seen, is_done: false };
        *self.seen.metadata.lock() = Some(request.metadata().clone());
        let request = request.into_inner();
        self.seen.asked.lock().push(request.clone());
        let answer = match (self.decide)(&request) {
            Act::Say(answer) => Ok(Response::new(answer)),
            Act::Fail(code) => Err(Status::new(code, "secret words of the backend")),
            Act::FailWith(code, words) => Err(Status::new(code, words)),
            Act::Hang => std::future::pending().await,
            Act::Wait(answer) => {
                self.gate.acquire().await.expect("it is open").forget();
                Ok(Response::new(answer))
            }
        };
        call.is_done = true;
        answer
    }
}

impl Lobby {
    /// A backend over gRPC.
    pub async fn start(decide: impl Fn(&AuthorizeRequest) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (seen, gate) = (Arc::new(Seen::default()), Arc::new(Semaphore::new(0)));
        let serves = Serves { decide: Box::new(decide), seen: seen.clone(), gate: gate.clone() };
        tokio::spawn(
            transport::Server::builder()
                .add_service(HookServiceServer::new(serves))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { address, seen, gate }
    }

    /// Which users it was asked about, and what for.
    pub fn asked(&self) -> Vec<(Operation, String)> {
        let asked = self.seen.asked.lock();
        asked.iter().map(|it| (it.operation(), it.user_id.clone())).collect()
    }

    pub fn count(&self) -> usize {
        self.seen.asked.lock().len()
    }

    pub fn last(&self) -> AuthorizeRequest {
        self.seen.asked.lock().last().cloned().expect("it was asked")
    }

    /// Lets so many calls that wait be answered.
    pub fn let_go_on(&self, count: usize) {
        self.gate.add_permits(count);
    }

    /// Waits until it has seen something.
    pub async fn until(&self, has_seen: impl Fn(&Seen) -> bool) {
        in_time(async {
            while !has_seen(&self.seen) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// The policy with this hook.
    pub fn policy(&self, on: &str, more: &str) -> String {
        policy(&format!("grpc://{}", self.address), on, more)
    }
}

pub fn policy(url: &str, on: &str, more: &str) -> String {
    format!("[[hooks]]\nname = \"lobby\"\nurl = {url:?}\napps = \"*\"\non = {on}\n{more}\n")
}

pub fn allowed() -> AuthorizeResponse {
    AuthorizeResponse { allowed: true, ..Default::default() }
}

pub fn no(message: &str) -> AuthorizeResponse {
    AuthorizeResponse { message: message.to_owned(), ..Default::default() }
}

/// Refuses bob.
pub fn not_bob(asked: &AuthorizeRequest) -> Act {
    Act::Say(if asked.user_id == "bob" { no("bob stays out") } else { allowed() })
}

pub trait ByHook {
    fn by_no_hook(self) -> Self;
    fn by_hook(self) -> Self;
}

impl ByHook for Refused {
    #[track_caller]
    fn by_no_hook(self) -> Self {
        assert!(self.retry_after.is_some(), "{self:?}");
        self.is(Code::Unavailable, "HOOK_UNAVAILABLE").says("hook", "lobby")
    }

    #[track_caller]
    fn by_hook(self) -> Self {
        self.is(Code::PermissionDenied, "HOOK_REFUSED").says("hook", "lobby")
    }
}

pub async fn try_bob(service: &Service) -> Result<proto::JoinSessionResponse, Status> {
    service.try_join("finals", "bob", JoinOptions::default()).await
}
