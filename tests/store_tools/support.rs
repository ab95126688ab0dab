//! Stores as a server writes them, and the program.

use sessiond::{
    log::{
        Content, Entry, Log, LogError, NodeId, Partition, Reader, Seq, Snapshot, Writer,
        redb::{Options, RedbLog},
    },
    record::{self, Place, Reply, RequestRecord, Subject, UserRecord},
    session::{
        Opening, Session,
        ban::Ban,
        command::{Actor, Command as Ask, Join, Write},
        epoch::Epoch,
        ids::{AppId, SessionId, UserId},
        limits::{Limits, Micros},
        password::PasswordHash,
        record::Mark,
        revision::Revision,
        role::Role,
        settings::{Durability, Keys, Kind, Setting, Settings},
        value::Value,
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub const PARTITION: Partition = Partition(0);

/// 2024-01-01T00:00:00Z.
pub const START: Micros = 1_704_067_200_000_000;
pub const SECOND: Micros = 1_000_000;

/// What nobody may be shown.
pub const HASH: &[u8] = b"$argon2id$not-for-you";

/// A folder for one test, empty at first and removed at the end.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("store-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub fn app(name: &str) -> AppId {
    AppId::new(name).unwrap()
}

pub fn id(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// A session that is recorded.
pub struct Stage {
    pub session: Session,
    pub mark: Mark,
    pub now: Micros,
}

impl Stage {
    pub fn open(name: &str, durability: Durability) -> Self {
        let settings = Settings {
            name: Some(format!("The {name}").into()),
            durability,
            propnames: Keys::default(),
            ..Settings::new(50_000, 8)
        };
        let mut opening = Opening::new(app("games"), id(name), Kind::Room, settings);
        opening.opener = Some((user("ada"), Join::default()));
        opening.password = Some(PasswordHash::new(HASH));
        let mut session =
            Session::open(opening, Arc::new(Limits::default()), START, Epoch::default()).unwrap();
        session.flush(START);
        Self { mark: Mark { revision: Revision::NONE, ..session.mark() }, session, now: START }
    }

    pub fn ask(&mut self, actor: &Actor, ask: Ask) {
        self.session.apply(self.now, actor, ask).unwrap();
    }

    pub fn join(&mut self, name: &str) {
        let join = Join { proven: Some(PasswordHash::new(HASH)), ..Join::default() };
        self.ask(&Actor::of(&user(name)), Ask::Join { user: user(name), join });
    }

    pub fn set(&mut self, name: &str, key: &str, value: Value) {
        let write = Write::of(vec![(key.into(), value)]);
        let set = Ask::SetProps { user: user(name), write, term: 0 };
        self.ask(&Actor::of(&user(name)), set);
    }

    pub fn set_data(&mut self, key: &str, value: Value) {
        let shared = Write::of(vec![(key.into(), value)]);
        self.ask(&Actor::App, Ask::SetData { shared, private: Write::default(), term: 0 });
    }

    pub fn flush(&mut self) {
        self.now += SECOND;
        self.session.flush(self.now);
    }

    /// What changed since the last record.
    pub fn record(&mut self) -> record::Entry {
        let record = self.session.record_since(&self.mark).unwrap();
        self.mark = record.until;
        record::Entry::Session(Box::new(record))
    }

    pub fn snapshot(&mut self) -> Snapshot {
        let record = record::Entry::Session(Box::new(self.session.snapshot().unwrap()));
        snapshot(&[record])
    }
}

pub fn bytes(entries: &[record::Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    entries.iter().for_each(|entry| record::put(&mut bytes, entry));
    bytes
}

/// The snapshot of the subject of these entries.
pub fn snapshot(entries: &[record::Entry]) -> Snapshot {
    let key = Subject::of(&entries[0]).key().into();
    Snapshot { key, state: Some(bytes(entries).into()) }
}

/// Values of every kind that JSON has no word for.
pub fn strange() -> Value {
    let items = [
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Number(f64::NAN),
        Value::Numbers([f64::NEG_INFINITY, -0.0, 0.1].into()),
        Value::Floats([0.1, f32::INFINITY].into()),
        Value::Data([0, 255, 10].into()),
        Value::Text("line\nbreak \u{1b}[31m".into()),
    ];
    let list = Value::List(items.into());
    Value::Map([("a b".into(), list), ("c".into(), Value::Flag(true))].into())
}

/// A store with two sessions that changed, one that is gone, users and requests. Its writer comes
/// back if the end is not to be clean.
pub async fn make(folder: &Path, is_clean: bool) {
    let log = RedbLog::open(folder, Options::default()).unwrap();
    let mut writer = log.claim(PARTITION, NodeId(u64::MAX)).await.unwrap();
    let (mut race, mut quiz) =
        (Stage::open("race", Durability::Async), Stage::open("quiz", Durability::Sync));
    let mut old = Stage::open("old", Durability::Async);
    let known = record::Entry::User(UserRecord {
        app: app("games"),
        user: user("ada"),
        props: vec![("color".into(), Value::Text("red".into()))],
    });
    let request = record::Entry::Request(Box::new(RequestRecord {
        app: app("games"),
        place: Place::Session(id("race")),
        by: Actor::of(&user("ada")),
        id: "once".into(),
        content: u64::MAX,
        at: START,
        reply: Reply::Written(Epoch(START), Revision(1)),
    }));
    let first = [race.record(), quiz.record(), old.record(), known, request];
    writer.append(bytes(&first).into()).await.unwrap();
    race.join("ben");
    race.set("ben", "x", Value::Number(1.5));
    race.set("ben", "y", strange());
    race.set_data("map", Value::Text("hills".into()));
    race.flush();
    writer.append(bytes(&[race.record()]).into()).await.unwrap();
    writer.snapshot(vec![quiz.snapshot(), old.snapshot()]).await.unwrap();
    let (app, id) = (app("games"), id("old"));
    let gone = record::Entry::Gone { app, id, epoch: Epoch(START) };
    let greatest = record::Entry::GreatestEpoch(Epoch(START));
    writer.append(bytes(&[gone, greatest]).into()).await.unwrap();
    race.set("ben", "x", Value::Number(2.5));
    race.ask(&Actor::App, Ask::Update(vec![Setting::Locked(true)]));
    let ban = Ban { reason: "spam".into(), until: Some(START + 3600 * SECOND) };
    race.ask(&Actor::App, Ask::Ban { target: user("eve"), ban });
    race.ask(
        &Actor::App,
        Ask::SetRole { target: user("ben"), role: Role::Moderator, user_props: Vec::new() },
    );
    race.flush();
    quiz.set("ada", "score", Value::Integer(i64::MAX));
    quiz.flush();
    writer.append(bytes(&[race.record(), quiz.record()]).into()).await.unwrap();
    let leave = Ask::Leave { user: user("ben"), keep_role: true };
    race.ask(&Actor::of(&user("ben")), leave);
    race.flush();
    writer.append(bytes(&[race.record()]).into()).await.unwrap();
    if is_clean {
        writer.release().await.unwrap();
    }
}

/// Everything that a store has, but for where it lies.
pub async fn everything(folder: &Path) -> Vec<Content> {
    entries(folder).await.into_iter().map(|entry| entry.content).collect()
}

pub async fn entries(folder: &Path) -> Vec<Entry> {
    let begin = Instant::now();
    let log = loop {
        match RedbLog::open(folder, Options { salvage: true, ..Options::default() }) {
            // A program that another test starts has the locks of this one for a moment.
            Err(LogError::InUse(_)) if begin.elapsed() < Duration::from_secs(5) => {
                thread::yield_now()
            }
            opened => break opened.unwrap(),
        }
    };
    let mut reader = log.read(PARTITION, Seq::START);
    let mut all = Vec::new();
    while let Some(entry) = reader.next().await.unwrap() {
        all.push(entry);
    }
    all
}

/// What the program said.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    /// What it printed, if all is well.
    pub fn well(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// The one line with which it refused.
    pub fn refusal(self) -> String {
        assert_eq!((self.code, self.out.as_str()), (2, ""), "{}", self.err);
        let line = self.err.strip_prefix("sessiond: ").and_then(|line| line.strip_suffix('\n'));
        let line = line.unwrap_or_else(|| panic!("{:?}", self.err));
        assert!(!line.contains('\n') && !line.contains("panic"), "{line}");
        line.to_owned()
    }
}

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessiond"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

pub fn sessiond(arguments: &[&str]) -> Answer {
    answer(&mut command(arguments))
}

/// With a file as its standard input.
pub fn sessiond_reading(arguments: &[&str], input: &Path) -> Answer {
    answer(command(arguments).stdin(fs::File::open(input).unwrap()))
}

fn answer(command: &mut Command) -> Answer {
    let output = command.output().unwrap();
    Answer {
        code: output.status.code().expect("no signal ended it"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
