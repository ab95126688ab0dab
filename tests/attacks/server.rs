//! The server that is attacked: a process of its own, seen from outside.

use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use sessiond::proto::{
    GetSessionInfoRequest, JoinOptions, JoinSessionRequest, Member, OpenSharedSessionRequest,
    SessionSettings, Value, session_service_client::SessionServiceClient, session_update::Body,
    value::Kind,
};
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tonic::{Request, Status, metadata::MetadataValue, transport::Channel};

use crate::{line, wire::Peer};

/// How long a test waits for what must come soon, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A client of the service for unary calls.
pub type Client = SessionServiceClient<Channel>;

/// A running server; killed when dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    logged: Arc<Logged>,
    /// Figures of two attacks at a time would say nothing about either.
    _alone: MutexGuard<'static, ()>,
}

/// What the server has logged so far.
#[derive(Debug, Default)]
struct Logged {
    bytes: AtomicU64,
    lines: AtomicU64,
    last: Mutex<String>,
}

impl Server {
    /// Starts it with these settings, each `--name=value`.
    pub fn start(settings: &[&str]) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock();
        let mut child = Command::new(program())
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--threads", "2"])
            .args(settings.iter().filter(|setting| is_known(setting)))
            .args(line::settings())
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let address = listening(&mut log);
        let logged = Arc::new(Logged::default());
        let counts = logged.clone();
        thread::spawn(move || count(log, &counts));
        Self { address, child, logged, _alone: alone }
    }

    /// Bytes of memory that it holds.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    /// The most memory that it has held since [`Server::forget_peak`].
    pub fn peak(&self) -> u64 {
        self.status("VmHWM:") * 1024
    }

    /// From now on only what comes counts for the peak.
    pub fn forget_peak(&self) {
        fs::write(self.proc("clear_refs"), "5").expect("its own user may do that");
    }

    /// Its threads.
    pub fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    /// Its open files, sockets among them.
    pub fn open_files(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("it runs").count()
    }

    /// The CPU time that it has used.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).expect("it runs");
        let fields = stat.rsplit_once(')').expect("the name is in brackets").1;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|it| it.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Bytes and lines that it has logged since it listens, and the last line.
    pub fn logged(&self) -> (u64, u64, String) {
        let Logged { bytes, lines, last } = &*self.logged;
        (bytes.load(Ordering::Relaxed), lines.load(Ordering::Relaxed), last.lock().clone())
    }

    fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.child.id()).into()
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|it| it.parse().ok()).expect("a number")
    }

    /// Tells it to stop.
    pub fn terminate(&self) {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(kill.expect("there is a kill").success());
    }

    /// How it ended, if it has by then.
    pub fn exit_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut exit = None;
        eventually(limit, || {
            exit = self.child.try_wait().expect("a child");
            exit.is_some()
        });
        exit
    }

    /// Makes a call over a connection of its own.
    pub fn ask<T>(
        &self,
        call: impl AsyncFnOnce(Client) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .expect("a runtime")
            .block_on(async {
                let channel = line::endpoint(self.address).connect().await;
                let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
                let answer = tokio::time::timeout(PATIENCE, call(Client::new(channel))).await;
                answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
            })
            .map(tonic::Response::into_inner)
    }

    /// Opens a room that stays when it is empty.
    pub fn open_room(&self, session_id: &str, settings: SessionSettings) {
        let stays = Duration::from_secs(3600).try_into().expect("a short time");
        let settings = Some(SessionSettings { empty_ttl: Some(stays), ..settings });
        let session_id = session_id.to_owned();
        let opening = OpenSharedSessionRequest { session_id, settings, ..Default::default() };
        self.ask(async |mut client| client.open_shared_session(as_app(opening)).await)
            .expect("a new room");
    }

    /// Opens a room of 20 members with 47 KB of props each: a snapshot just fits one message.
    pub fn open_vast_room(&self, session_id: &str) {
        self.open_room(session_id, SessionSettings::default());
        let value = || Value { kind: Some(Kind::Text("v".repeat(15_700))) };
        let joins = (0..20).map(|number| {
            let props = ["a", "b", "c"].map(|key| (key.to_owned(), value()));
            let join = JoinOptions { props: BTreeMap::from(props), ..Default::default() };
            let join = Some(join);
            JoinSessionRequest { join, omit_snapshot: true, ..joining(session_id, &member(number)) }
        });
        Peer::connect(self).make_calls("SessionService/JoinSession", &[], joins);
        assert!(eventually(PATIENCE, || self.props_of(session_id, &member(19)).len() == 3));
    }

    /// The members of a session, as the app sees them.
    pub fn members(&self, session_id: &str) -> Vec<Member> {
        let session_id = session_id.to_owned();
        let request = GetSessionInfoRequest { session_id, ..Default::default() };
        self.ask(async |mut client| client.get_session_info(as_app(request)).await)
            .expect("the session is there")
            .members
    }

    /// Whether a member is shown as connected.
    pub fn shows_connected(&self, session_id: &str, user_id: &str) -> bool {
        let members = self.members(session_id);
        members.iter().any(|member| member.user_id == user_id && !member.disconnected)
    }

    /// What a newcomer is shown of a member's props.
    pub fn props_of(&self, session_id: &str, user_id: &str) -> BTreeMap<String, f64> {
        use sessiond::proto::named_value::Kind as Named;
        let mut request = joining(session_id, "newcomer");
        request.join = Some(JoinOptions { spectator: true, ..Default::default() });
        let joined = self.ask(async |mut client| client.join_session(request).await);
        let snapshot = joined.expect("a newcomer may join").snapshot.and_then(|it| it.body);
        let Some(Body::Snapshot(snapshot)) = snapshot else { return BTreeMap::new() };
        let members = snapshot.state.expect("it has a state").members;
        let member = members.into_iter().find(|member| member.user_id == user_id);
        let props = member.map(|member| member.props).unwrap_or_default();
        let number = |kind| match kind {
            Some(Named::Number(number)) => number,
            _ => f64::NAN,
        };
        props.into_iter().map(|prop| (prop.name, number(prop.kind))).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A member of a vast room.
pub fn member(number: usize) -> String {
    format!("member-{number:02}")
}

/// A request of the app itself, which its metadata says.
pub fn as_app<T: Message>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("sessiond-as", MetadataValue::from_static("app"));
    request
}

/// A user's request to join a session.
pub fn joining(session_id: &str, user_id: &str) -> JoinSessionRequest {
    JoinSessionRequest {
        session_id: session_id.to_owned(),
        user_id: user_id.to_owned(),
        ..Default::default()
    }
}

/// Asks again and again, until it is so or the time is over.
pub fn eventually(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

const OTHER_PROGRAM: &str = "SESSIOND_BIN";

fn program() -> String {
    env::var(OTHER_PROGRAM).unwrap_or_else(|_| env!("CARGO_BIN_EXE_sessiond").to_owned())
}

/// Whether the program has this setting: another one may be older than these tests.
fn is_known(setting: &str) -> bool {
    if env::var(OTHER_PROGRAM).is_err() {
        return true;
    }
    let name = setting.split('=').next().unwrap_or(setting);
    let help = Command::new(program()).args(["serve", "--help"]).output().expect("it runs");
    String::from_utf8_lossy(&help.stdout).contains(&format!("{name} "))
}

/// Reads a log up to the line that says where the server listens.
fn listening(log: &mut BufReader<ChildStderr>) -> SocketAddr {
    let mut told = String::new();
    while log.read_line(&mut told).expect("it logs") > 0 {
        let line = told.lines().next_back().unwrap_or_default();
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let fields = line.get("fields").unwrap_or(&line);
        if fields.get("message").is_some_and(|message| message == "listening") {
            let address = fields["address"].as_str().expect("the line has the address");
            return address.parse().expect("an address");
        }
    }
    panic!("it does not listen: {told}");
}

/// Counts what is logged.
fn count(mut log: BufReader<ChildStderr>, logged: &Logged) {
    let mut line = Vec::new();
    while log.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        logged.bytes.fetch_add(line.len() as u64, Ordering::Relaxed);
        logged.lines.fetch_add(1, Ordering::Relaxed);
        *logged.last.lock() = String::from_utf8_lossy(&line).into_owned();
        line.clear();
    }
}
