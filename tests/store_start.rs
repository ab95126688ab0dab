//! Stores that something is wrong with, as whoever starts a server on them sees it: one clear line and an exit code,
//! or what is lost is counted in the log and the rest is served.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
#[path = "chaos/server.rs"]
mod server;

use redb::{Database, ReadableTable, TableDefinition};
use server::Server;
use sessiond::{
    config::Config,
    engine::{Clock, HashCost},
    log::{
        Log, MAX_BATCH_BYTES, NodeId, Writer,
        redb::{FILE, Options, RedbLog},
    },
    proto::{
        self, Ack, Durability, SessionSettings, SessionUpdate,
        delivery_service_client::DeliveryServiceClient,
        session_service_client::SessionServiceClient, session_update::Body, value::Kind,
    },
    record,
};
use std::{
    fs,
    io::Read,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tonic::{Code, Request, Status, transport::Channel};

const CHAIN: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("chain");
const SNAPSHOTS: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("snapshots");
const STORE: TableDefinition<'_, &str, u64> = TableDefinition::new("store");

/// How long a server has to start or to say why not.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let folder = Folder::filled();
    edit(&folder.0, |transaction| {
        transaction.open_table(STORE).unwrap().insert("format", 2).unwrap();
    });
    expect_refused(&folder.0, "use a newer version");
}

#[test]
fn an_entry_of_a_newer_version_is_refused() {
    let folder = Folder::filled();
    runtime().block_on(async {
        let log = RedbLog::open(&folder.0, Options::default()).unwrap();
        let mut writer = log.claim(sessiond::keeper::PARTITION, NodeId(1)).await.unwrap();
        let mut entry = vec![2, 0];
        entry.extend(crc32fast::hash(&entry).to_le_bytes());
        let batch = [&(entry.len() as u32).to_le_bytes()[..], &entry].concat();
        for piece in record::split(&batch, MAX_BATCH_BYTES) {
            writer.append(piece.into()).await.unwrap();
        }
    });
    expect_refused(&folder.0, "use a newer version of sessiond");
}

#[test]
fn a_file_cut_short_is_refused() {
    let folder = Folder::filled();
    let file = fs::OpenOptions::new().write(true).open(folder.0.join(FILE)).unwrap();
    let length = file.metadata().unwrap().len();
    for length in [length / 2, 5_000, 100, 1] {
        file.set_len(length).unwrap();
        expect_refused(&folder.0, "store");
    }
}

#[test]
fn a_store_whose_file_is_empty_or_gone_is_no_new_one() {
    let folder = Folder::filled();
    fs::write(folder.0.join(FILE), "").unwrap();
    expect_refused(&folder.0, "is gone or empty, although there was a store");
    fs::remove_file(folder.0.join(FILE)).unwrap();
    expect_refused(&folder.0, "is gone or empty, although there was a store");
    assert!(!folder.0.join(FILE).exists());
}

#[test]
fn more_sessions_than_there_may_be_are_served_and_told_and_none_is_opened() {
    let folder = Folder::filled();
    let mut command = Command::new(server::program());
    command.env("SESSIOND_MAX_SESSIONS", "1");
    let (status, log) = run_by(command, &folder.0);
    assert_eq!(status, None, "{log}");
    let is_told = |line: &&str| line.contains("more sessions are stored than max-sessions");
    let told: Vec<_> = log.lines().filter(is_told).collect();
    assert!(told.len() == 1 && told[0].contains("\"WARN\""), "{log}");
    let server = Server::start(&["--store", store(&folder.0), "--max-sessions", "1"]);
    runtime().block_on(async {
        let mut calls = SessionServiceClient::new(server.connect().await);
        for left in [Durability::Sync, Durability::Async] {
            read(&mut calls, left).await.expect("it is served");
            let refused = open(&mut calls, Durability::None).await.expect_err("there are too many");
            assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
            let request = proto::DeleteSessionRequest {
                session_id: format!("{left:?}"),
                user_id: "ada".to_owned(),
                ..Default::default()
            };
            calls.delete_session(request).await.expect("it is hers");
        }
        open(&mut calls, Durability::None).await.expect("there is room");
    });
}

#[test]
fn a_clock_that_went_back_is_told_and_the_store_is_served() {
    let folder = Folder::new();
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let tomorrow = tomorrow.duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let settings = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        store: Some(folder.0.clone()),
        threads: 1,
        ..Config::default()
    };
    runtime().block_on(async {
        let clock = Clock::stepped(tomorrow);
        let server = sessiond::server::Server::start_with(settings, clock, HashCost::LEAST);
        server.await.expect("it starts").stop().await;
    });
    let (status, log) = run(&folder.0);
    let told: Vec<_> =
        log.lines().filter(|line| line.contains("the clock has gone back")).collect();
    assert!(status.is_none() && told.len() == 1 && told[0].contains("\"WARN\""), "{log}");
    // Else there is nothing to tell.
    let (status, log) = run(&Folder::filled().0);
    assert!(status.is_none() && !log.contains("the clock has gone back"), "{log}");
}

#[test]
fn a_folder_that_cannot_be_had_is_refused() {
    let folder = Folder::filled();
    expect_refused(&folder.0.join(FILE), FILE);
    let is_root = fs::write("/proc/self/comm", "root").is_ok()
        && fs::metadata("/root").is_ok_and(|it| it.permissions().mode() & 0o077 == 0)
        && fs::read_dir("/root").is_ok();
    if !is_root {
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o000)).unwrap();
        expect_refused(&folder.0, "denied");
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_second_server_on_a_store_is_refused() {
    let folder = Folder::filled();
    let _server = start(&folder.0);
    expect_refused(&folder.0, "is in use by another process");
}

#[test]
fn a_bit_flipped_in_any_entry_loses_what_is_told_there_and_says_so() {
    let folder = Folder::filled();
    let mut places = Vec::new();
    edit(&folder.0, |transaction| {
        let tables = [CHAIN, SNAPSHOTS].map(|table| transaction.open_table(table).unwrap());
        for (nth, table) in tables.iter().enumerate() {
            let keys = table.iter().unwrap().map(|entry| entry.unwrap().0.value());
            places.extend(keys.map(|key| (nth, key)));
        }
    });
    assert!(places.len() >= 5, "a claim, batches and a release: {places:?}");
    for (nth, key) in places {
        let damaged = folder.copied();
        edit(&damaged.0, |transaction| {
            let table = [CHAIN, SNAPSHOTS][nth];
            let mut table = transaction.open_table(table).unwrap();
            let mut bytes = table.remove(key).unwrap().unwrap().value().to_vec();
            let at = fastrand::usize(..bytes.len());
            bytes[at] ^= 1 << fastrand::u8(..8);
            table.insert(key, &bytes[..]).unwrap();
        });
        let (status, log) = run(&damaged.0);
        assert!(!log.contains("panicked"), "{nth} {key:?}: {log}");
        let is_counted = log.contains("is damaged") || log.contains("a session is lost");
        match status {
            // It was served.
            None => assert!(is_counted, "{nth} {key:?} says nothing: {log}"),
            Some(code) => assert!(code == 2 && reasons(&log) == 1, "{nth} {key:?}: {code} {log}"),
        }
    }
}

#[test]
fn a_bit_flipped_anywhere_in_the_file_never_panics() {
    let folder = Folder::filled();
    let whole = fs::read(folder.0.join(FILE)).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut served, mut refused) = (0, 0);
    for _ in 0..25 {
        let damaged = folder.copied();
        let mut bytes = whole.clone();
        let at = fastrand::usize(..=used);
        bytes[at] ^= 1 << fastrand::u8(..8);
        fs::write(damaged.0.join(FILE), bytes).unwrap();
        let (status, log) = run(&damaged.0);
        assert!(!log.contains("panicked"), "byte {at}: {log}");
        match status {
            None => served += 1,
            Some(code) => {
                assert!(code == 2 && reasons(&log) == 1, "byte {at}: {code} {log}");
                refused += 1;
            }
        }
    }
    eprintln!("25 flipped bits: {served} served, {refused} refused");
}

#[test]
fn a_disk_without_space_at_the_start_is_refused() {
    let folder = Folder::new();
    let Some(command) = on_small_disk(&folder.0, "1m") else { return };
    let (status, log) = run_by(command, &folder.0.join("disk/store"));
    assert_eq!((status, reasons(&log)), (Some(2), 1), "{log}");
    assert!(log.contains("there is no space left for the store"), "{log}");
}

#[test]
fn a_limit_on_the_size_of_files_is_as_a_full_disk() {
    let folder = Folder::new();
    let (status, log) = run_by(with_files_up_to(100), &folder.0.join("tiny"));
    assert_eq!((status, reasons(&log)), (Some(2), 1), "{log}");
    assert!(log.contains("there is no space left for the store"), "{log}");

    // Less than what writes have to leave.
    let command = with_files_up_to(60 << 10);
    let mut server = Server::start_by(command, &["--store", store(&folder.0.join("small"))]);
    server.expects_alarms();
    runtime().block_on(async {
        let mut calls = SessionServiceClient::new(server.connect().await);
        let refused = open(&mut calls, Durability::Sync).await.expect_err("it is stored");
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        assert!(String::from_utf8_lossy(refused.details()).contains("STORE_FULL"), "{refused:?}");
        open(&mut calls, Durability::None).await.expect("it is not stored");
    });
}

#[test]
fn a_disk_that_is_full_for_a_while_refuses_writes_and_loses_nothing() {
    let folder = Folder::new();
    let Some(command) = on_small_disk(&folder.0, "160m") else { return };
    let mut server = Server::start_by(command, &["--store", store(&folder.0.join("disk/store"))]);
    server.expects_alarms();
    // The disk as the server sees it.
    let disk = format!("/proc/{}/root{}", server.process(), folder.0.join("disk").display());
    runtime().block_on(async {
        let mut calls = SessionServiceClient::new(server.connect().await);
        for durability in [Durability::Sync, Durability::Async, Durability::None] {
            open(&mut calls, durability).await.unwrap();
            write(&mut calls, durability, 1).await.unwrap();
        }
        let filler = Path::new(&disk).join("filler");
        fill(&filler);
        // What is accepted before the server knows is stored from what was set aside.
        match tokio::time::timeout(Duration::from_secs(2), write(&mut calls, Durability::Sync, 2))
            .await
        {
            Ok(Ok(())) => {}
            outcome => assert_eq!(
                outcome.expect("it is answered").unwrap_err().code(),
                Code::ResourceExhausted
            ),
        }
        let refused = until(|| async {
            let mut calls = calls.clone();
            write(&mut calls, Durability::Sync, 2).await.err()
        });
        let refused = refused.await;
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        assert!(String::from_utf8_lossy(refused.details()).contains("STORE_FULL"), "{refused:?}");
        let refused = soon(write(&mut calls, Durability::Async, 2)).await.expect_err("it is full");
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        soon(write(&mut calls, Durability::None, 2)).await.expect("nothing of it is stored");
        soon(read(&mut calls, Durability::Sync)).await.expect("its frame is stored");
        let position = soon(read(&mut calls, Durability::Async)).await.expect("readers go on");
        assert!(position.revision >= 1);
        fs::remove_file(&filler).unwrap();
        until(|| async {
            let mut calls = calls.clone();
            write(&mut calls, Durability::Sync, 3).await.ok()
        })
        .await;
        soon(write(&mut calls, Durability::Async, 3)).await.expect("there is space again");
    });
}

#[test]
fn a_stop_that_cannot_store_everything_says_so_and_tells_readers() {
    let folder = Folder::new();
    let Some(command) = on_small_disk(&folder.0, "160m") else { return };
    let path = folder.0.join("disk/store");
    let flags = ["--store", store(&path), "--drain-timeout", "4s"];
    let mut server = Server::start_by(command, &flags);
    let disk = format!("/proc/{}/root{}", server.process(), folder.0.join("disk").display());
    let disk = Path::new(&disk);
    runtime().block_on(async {
        let channel = server.connect().await;
        let mut calls = SessionServiceClient::new(channel.clone());
        open(&mut calls, Durability::Sync).await.unwrap();
        let mut streams = DeliveryServiceClient::new(channel);
        let mut subscribe = async |user: &str| {
            let request = proto::SubscribeToSessionRequest {
                session_id: "Sync".to_owned(),
                user_id: user.to_owned(),
                ..Default::default()
            };
            let mut request = Request::new(request);
            if user.is_empty() {
                request.metadata_mut().insert("sessiond-as", "app".parse().unwrap());
            }
            let mut stream = streams.subscribe_to_session(request).await?.into_inner();
            let first = stream.message().await?;
            let first = first.and_then(|it| it.update).unwrap_or_default();
            Ok::<_, Status>((stream, first.to_revision))
        };
        let (mut reader, mut shown) = soon(subscribe("")).await.unwrap();
        let (member, _) = soon(subscribe("ada")).await.unwrap();
        fill(&disk.join("filler"));
        fs::remove_file(disk.join("store/reserve")).unwrap();
        fill(&disk.join("more"));
        // That she is gone happens, whether there is space to store it or not.
        drop(member);
        let refused = until(|| async { read(&mut calls.clone(), Durability::Sync).await.err() });
        assert_eq!(refused.await.code(), Code::ResourceExhausted);
        let refused = soon(subscribe("")).await.expect_err("nobody knows when it is shown");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        server.terminate();
        let mut last = None;
        let end = loop {
            match soon(reader.message()).await {
                Ok(Some(message)) => match message.update.unwrap_or_default() {
                    SessionUpdate { to_revision, body: Some(Body::Ended(ended)), .. } => {
                        last = Some((to_revision, ended.reason()));
                    }
                    update => shown = update.to_revision,
                },
                Ok(None) => panic!("it ends without a reason: {last:?}"),
                Err(end) => break end,
            }
        };
        assert_eq!(end.code(), Code::Unavailable, "{end:?}");
        assert_eq!(last, Some((shown, proto::EndReason::Draining)));
    });
    let (code, words) = server.last_words();
    assert_eq!(code, Some(1), "{words:?}");
    let told = words.iter().filter(|line| line.contains("not stored: the last of"));
    let told: Vec<_> = told.collect();
    assert!(told.len() == 1 && told[0].contains("1 session (default/Sync)"), "{words:?}");
}

/// Leaves a disk nothing.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
}

#[track_caller]
fn soon<T>(what: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let outcome = tokio::time::timeout(Duration::from_secs(10), what).await;
        outcome.unwrap_or_else(|_| panic!("it takes too long at {caller}"))
    }
}

async fn until<T, F: Future<Output = Option<T>>>(mut what: impl FnMut() -> F) -> T {
    let begin = Instant::now();
    loop {
        let outcome = tokio::time::timeout(Duration::from_secs(2), what()).await;
        if let Ok(Some(outcome)) = outcome {
            return outcome;
        }
        assert!(begin.elapsed() < LIMIT, "it takes too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

type Calls = SessionServiceClient<Channel>;

async fn open(calls: &mut Calls, durability: Durability) -> Result<(), Status> {
    let request = proto::OpenSharedSessionRequest {
        session_id: format!("{durability:?}"),
        user_id: "ada".to_owned(),
        settings: Some(SessionSettings { durability: durability.into(), ..Default::default() }),
        ..Default::default()
    };
    calls.open_shared_session(request).await.map(drop)
}

async fn write(calls: &mut Calls, durability: Durability, value: i64) -> Result<(), Status> {
    let is_stored = durability != Durability::None;
    let value = proto::Value { kind: Some(Kind::Integer(value)) };
    let request = proto::SetSessionDataRequest {
        session_id: format!("{durability:?}"),
        user_id: "ada".to_owned(),
        set: [("key".to_owned(), value)].into(),
        ack: if is_stored { Ack::Durable } else { Ack::Accepted }.into(),
        ..Default::default()
    };
    calls.set_session_data(request).await.map(drop)
}

async fn read(calls: &mut Calls, durability: Durability) -> Result<proto::Position, Status> {
    let session_id = format!("{durability:?}");
    let mut request =
        Request::new(proto::GetSessionInfoRequest { session_id, ..Default::default() });
    request.metadata_mut().insert("sessiond-as", "app".parse().unwrap());
    let info = calls.get_session_info(request).await?.into_inner();
    Ok(info.position.unwrap_or_default())
}

fn start(folder: &Path) -> Server {
    Server::start(&["--store", store(folder)])
}

fn store(folder: &Path) -> &str {
    folder.to_str().unwrap()
}

/// Starts a server that must not start, for this reason.
fn expect_refused(folder: &Path, why: &str) {
    let (status, log) = run(folder);
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!((status, reasons(&log)), (Some(2), 1), "{log}");
    let line = log.lines().find(|line| line.starts_with("sessiond: ")).unwrap();
    assert!(line.contains(why), "{line}");
}

/// How many reasons it gives.
fn reasons(log: &str) -> usize {
    log.lines().filter(|line| line.starts_with("sessiond: ")).count()
}

/// Runs a server until it ends, or listens. None = it does.
fn run(folder: &Path) -> (Option<i32>, String) {
    run_by(Command::new(server::program()), folder)
}

fn run_by(mut command: Command, folder: &Path) -> (Option<i32>, String) {
    let child = command
        .args(["serve", "--log-format", "json", "--listen", "127.0.0.1:0", "--store"])
        .arg(folder)
        .env_remove("SESSIOND_BIN")
        .stderr(Stdio::piped())
        .spawn();
    let mut child = Running(child.unwrap());
    let mut stderr = child.0.stderr.take().unwrap();
    let log = thread::spawn(move || {
        let (mut log, mut part) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = stderr.read(&mut part) {
            log.extend(&part[..length]);
            if String::from_utf8_lossy(&log).contains("\"listening\"") {
                break;
            }
        }
        String::from_utf8_lossy(&log).into_owned()
    });
    let begin = Instant::now();
    while !log.is_finished() {
        assert!(begin.elapsed() < LIMIT, "it neither listens nor ends");
        thread::sleep(Duration::from_millis(5));
    }
    let log = log.join().unwrap();
    let status = if log.contains("\"listening\"") { None } else { child.0.wait().unwrap().code() };
    (status, log)
}

/// A process that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that runs a program whose files may have so many KiB.
fn with_files_up_to(kib: usize) -> Command {
    let mut command = Command::new("sh");
    // In units of 512 bytes.
    let blocks = (2 * kib).to_string();
    command.args(["-c", r#"ulimit -f "$0" && exec "$@""#, &blocks]).arg(server::program());
    command
}

/// A command that runs a program with a disk of this size, which it alone sees. It needs the right to make one.
fn on_small_disk(folder: &Path, size: &str) -> Option<Command> {
    let disk = folder.join("disk");
    fs::create_dir_all(&disk).unwrap();
    let mount = |then: &str| {
        let mut command = Command::new("unshare");
        let disk = disk.display();
        let script = format!("mount -t tmpfs -o size={size} tmpfs '{disk}' && {then}");
        command.args(["-m", "sh", "-c", &script, "sh"]);
        command
    };
    let outcome = mount("true").stderr(Stdio::null()).status();
    if !outcome.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: it cannot mount a disk");
        return None;
    }
    let mut command = mount("exec \"$@\"");
    command.arg(server::program());
    Some(command)
}

/// Changes a store behind its back.
fn edit(folder: &Path, edit: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::create(folder.join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    edit(&transaction);
    transaction.commit().unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("store-start-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A store with sessions of every durability, which was closed.
    fn filled() -> Self {
        let folder = Self::new();
        let mut server = start(&folder.0);
        runtime().block_on(async {
            let mut calls = SessionServiceClient::new(server.connect().await);
            for durability in [Durability::Sync, Durability::Async, Durability::None] {
                open(&mut calls, durability).await.unwrap();
                for value in 0..3 {
                    write(&mut calls, durability, value).await.unwrap();
                }
            }
            server.terminate();
            server.exit(LIMIT).await.expect("it stops");
        });
        folder
    }

    fn copied(&self) -> Self {
        let copy = Self::new();
        fs::copy(self.0.join(FILE), copy.0.join(FILE)).unwrap();
        copy
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
