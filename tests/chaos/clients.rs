//! Clients as processes of their own, which can be frozen or be in a network of their own. Their program is this one
//! again, with [`child`] as its only test.

use crate::{
    in_time,
    rebuilt::Rebuilt,
    runtime,
    server::{endpoint, signal},
    values::{int, write},
};
use sessiond::proto::{
    self, JoinOptions, StreamUserPropsRequest, delivery_service_client::DeliveryServiceClient,
    session_service_client::SessionServiceClient, stream_user_props_request::Message as Up,
};
use std::{
    io::Write,
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::mpsc,
};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// What a process is to do: its role, the address, the session, the user and, of an observer, whom it watches.
const TASK: &str = "CHAOS_CHILD";

/// What stands before a line that is meant for the parent.
const MARK: &str = "child says ";

/// A client that runs.
pub struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    /// A member that joins by its stream and reads it; it opens the hosted session that is missing.
    pub async fn member(within: &[String], address: SocketAddr, session: &str, user: &str) -> Self {
        Self::start(within, &format!("member {address} {session} {user}")).await
    }

    /// Somebody who tells when a member is shown as disconnected and who is host. A busy one writes all the time.
    pub async fn observer(
        within: &[String],
        address: SocketAddr,
        session: &str,
        member: &str,
        is_busy: bool,
    ) -> Self {
        let role = if is_busy { "busy-observer" } else { "observer" };
        Self::start(within, &format!("{role} {address} {session} observer-{session} {member}"))
            .await
    }

    /// Starts it by the command that it runs within, and waits until it is there.
    async fn start(within: &[String], task: &str) -> Self {
        let program = std::env::current_exe().expect("it runs");
        let program = program.to_str().expect("a path").to_owned();
        let child = ["--exact", "clients::child", "--ignored", "--nocapture"].map(str::to_owned);
        let words = [within, &[program], &child].concat();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env(TASK, task)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut client = Self { child, lines };
        client.says("ready", Duration::from_secs(10)).await.expect("it gets there");
        client
    }

    /// How long it takes from now until it says this.
    pub async fn says(&mut self, what: &str, limit: Duration) -> Option<Duration> {
        let start = Instant::now();
        let said = async {
            loop {
                let line = self.lines.next_line().await.expect("text").expect("it goes on");
                if line.split_once(MARK).is_some_and(|(_, said)| said == what) {
                    return start.elapsed();
                }
            }
        };
        in_time(limit, said).await
    }

    /// Stops the process where it is, sockets open.
    pub fn freeze(&self) {
        signal("-STOP", self.child.id().expect("it runs"));
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        signal("-CONT", self.child.id().expect("it runs"));
    }
}

fn say(what: &str) {
    println!("{MARK}{what}");
    std::io::stdout().flush().expect("somebody listens");
}

#[test]
#[ignore = "the client that other tests start as a process"]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let words: Vec<&str> = task.split(' ').collect();
    let (role, address) = (words[0], words[1].parse().expect("an address"));
    match (role, &words[2..]) {
        ("member", [session, user]) => runtime().block_on(follow(address, session, user)),
        ("observer" | "busy-observer", [session, user, member]) => {
            runtime().block_on(observe(address, session, user, member, role == "busy-observer"));
        }
        other => panic!("nobody knows {other:?}"),
    }
}

async fn follow(address: SocketAddr, session: &str, user: &str) {
    let channel = endpoint(address).connect().await.expect("it accepts connections");
    let open = proto::OpenSharedSessionRequest {
        user_id: user.to_owned(),
        session_id: session.to_owned(),
        kind: proto::SessionKind::Hosted.into(),
        join: Some(JoinOptions { presence: proto::Presence::Tied.into(), ..Default::default() }),
        ..Default::default()
    };
    SessionServiceClient::new(channel.clone()).open_shared_session(open).await.expect("it opens");
    let (up, outbox) = mpsc::unbounded_channel();
    let open = proto::StreamOpen {
        user_id: user.to_owned(),
        subscriptions: vec![proto::SessionSubscription {
            session_id: session.to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let _ = up.send(StreamUserPropsRequest { seq: 1, message: Some(Up::Open(open)) });
    let mut delivery = DeliveryServiceClient::new(channel);
    let down = delivery.stream_user_props(UnboundedReceiverStream::new(outbox)).await;
    let mut down = down.expect("it opens").into_inner();
    down.message().await.expect("it goes on").expect("it goes on");
    say("ready");
    while let Ok(Some(_)) = down.message().await {}
    say("over");
}

async fn observe(address: SocketAddr, session: &str, user: &str, member: &str, is_busy: bool) {
    let channel = endpoint(address).connect().await.expect("it accepts connections");
    let request = proto::SubscribeToSessionRequest {
        user_id: user.to_owned(),
        session_id: session.to_owned(),
        join: Some(JoinOptions::default()),
        ..Default::default()
    };
    let mut delivery = DeliveryServiceClient::new(channel.clone());
    let down = delivery.subscribe_to_session(request).await;
    let mut down = down.expect("it opens").into_inner();
    let mut copy = Rebuilt::default();
    let mut last = told(&copy, member);
    say("ready");
    let write = |count| proto::SetUserPropsRequest {
        user_id: user.to_owned(),
        write: Some(write([("count", int(count))])),
        ..Default::default()
    };
    let mut calls = SessionServiceClient::new(channel);
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let mut count = 0;
    loop {
        let message = tokio::select! {
            message = down.message() => message.expect("it goes on").expect("it goes on"),
            _ = ticks.tick(), if is_busy => {
                count += 1;
                calls.set_user_props(write(count)).await.expect("it is written");
                continue;
            }
        };
        let update = message.update.expect("every message has an update");
        let _ = copy.apply(update);
        let now = told(&copy, member);
        for (_, now) in last.iter().zip(&now).filter(|(before, now)| before != now) {
            say(now);
        }
        last = now;
    }
}

/// What an observer tells of a copy when it changes: how the member is, and who is host.
fn told(copy: &Rebuilt, member: &str) -> [String; 2] {
    let host = copy.state.session.as_ref().map_or("", |session| &session.host_id);
    let how = match copy.state.members.get(member) {
        Some(member) if !member.disconnected => "connected",
        _ => "disconnected",
    };
    [how.to_owned(), format!("host {host}")]
}
