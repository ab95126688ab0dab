//! An export of a store that is open.

use super::support::{
    Folder, PARTITION, Stage, bytes, command, everything, make, run, sessiond, sessiond_reading,
};
use sessiond::{
    keeper::export::{Frame, Incoming, SOCKET, serve_export},
    log::{
        AppendError, Content, Entry, Log, NodeId, Seq, Snapshot, Writer,
        redb::{Options, RedbLog},
    },
    session::{settings::Durability, value::Value},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt, net::UnixStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A store that is open and offers its export.
struct Server {
    log: Arc<RedbLog>,
    socket: PathBuf,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(folder: &Folder) -> Self {
        let store = folder.path("store");
        let log = Arc::new(RedbLog::open(&store, Options::default()).unwrap());
        let socket = store.join(SOCKET);
        let stop = CancellationToken::new();
        let serving = {
            let (log, socket, stop) = (log.clone(), socket.clone(), stop.clone());
            tokio::spawn(async move { serve_export(log, &socket, stop).await })
        };
        while !socket.exists() {
            tokio::task::yield_now().await;
        }
        Self { log, socket, stop, serving }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
        assert!(!self.socket.exists());
        Arc::into_inner(self.log).expect("nobody has it any more");
    }
}

#[test]
fn a_store_that_is_open_is_exported_by_its_server() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let before = sessiond(&["store", "export", &folder.text("store")]).well();
    run(async {
        // One that a crash has left.
        fs::write(folder.path("store").join(SOCKET), "").unwrap();
        fs::write(folder.path("store").join("export.socket.new"), "").unwrap();
        fs::remove_file(folder.path("store").join(SOCKET)).unwrap();
        let server = Server::start(&folder).await;
        let mode = fs::metadata(&server.socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let store = folder.text("store");
        let out = tokio::task::spawn_blocking(move || sessiond(&["store", "export", &store]));
        assert_eq!(out.await.unwrap().well(), before);
        let (store, out) = (folder.text("store"), folder.text("history"));
        let history = tokio::task::spawn_blocking(move || {
            sessiond(&["store", "export", &store, "--session", "games/race", "--out", &out])
        });
        history.await.unwrap().well();
        server.stop().await;
    });
    let after = sessiond(&["store", "export", &folder.text("store")]).well();
    assert_eq!(after, before);
    assert!(fs::read_to_string(folder.path("history")).unwrap().contains("\"join\""));
}

/// A writer that never stops: records, snapshots and trims as fast as they go.
async fn write(log: Arc<RedbLog>, stop: Arc<AtomicBool>) -> u64 {
    let mut writer = log.claim(PARTITION, NodeId(2)).await.unwrap();
    let mut stages = ["a", "b", "c", "d"].map(|name| Stage::open(name, Durability::Async));
    let first: Vec<_> = stages.iter_mut().map(Stage::record).collect();
    writer.append(bytes(&first).into()).await.unwrap();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let text = Value::Text("x".repeat(4000).into());
        let mut records = Vec::new();
        for stage in &mut stages {
            stage.set("ada", "number", Value::Integer(number));
            stage.set("ada", "text", text.clone());
            stage.set_data("number", Value::Integer(number));
            stage.flush();
            records.push(stage.record());
        }
        // All of them change at once: whoever sees two numbers sees two points of the log.
        let place = writer.append(bytes(&records).into()).await.unwrap();
        if number % 5 == 0 {
            let snapshots: Vec<Snapshot> = stages.iter_mut().map(Stage::snapshot).collect();
            writer.snapshot(snapshots).await.unwrap();
            trim(&mut writer, place).await.unwrap();
        }
    }
    u64::try_from(number).unwrap()
}

async fn trim(writer: &mut impl Writer, place: Seq) -> Result<(), AppendError> {
    writer.trim(Seq(place.0.saturating_sub(20))).await
}

#[test]
fn an_export_under_writes_is_the_state_as_of_one_point() {
    let folder = Folder::new();
    let numbers = run(async {
        let server = Server::start(&folder).await;
        let stop = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn(write(server.log.clone(), stop.clone()));
        while server.log.counters().entries < 2 {
            tokio::task::yield_now().await;
        }
        let mut numbers = Vec::new();
        for turn in 0..6 {
            let (store, name) = (folder.text("store"), format!("file {turn}"));
            let (out, copy) = (folder.text(&name), folder.text(&format!("copy {turn}")));
            let file = folder.path(&name);
            let shown = tokio::task::spawn_blocking(move || {
                sessiond(&["store", "export", &store, "--out", &out]).well();
                sessiond_reading(&["store", "import", &copy], &file).well();
                sessiond(&["store", "check", &copy]).well();
                ["a", "b", "c", "d"].map(|name| {
                    let name = format!("games/{name}");
                    let shown =
                        sessiond(&["store", "show", &copy, &name, "--format", "json"]).well();
                    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
                    let number = |of: &serde_json::Value| of["number"]["integer"].clone();
                    assert_eq!(number(&shown["data"]), number(&shown["members"][0]["props"]));
                    number(&shown["data"]).as_str().map_or(0, |it| it.parse::<u64>().unwrap())
                })
            });
            numbers.push(shown.await.unwrap());
        }
        stop.store(true, Ordering::Relaxed);
        let last = writing.await.unwrap();
        server.stop().await;
        assert!(numbers.iter().flatten().all(|number| *number <= last));
        numbers
    });
    for of_one in &numbers {
        assert!(of_one.iter().all(|number| number == &of_one[0]), "{numbers:?}");
    }
    assert!(numbers.is_sorted() && numbers[0] < numbers[5], "{numbers:?}");
}

#[test]
fn two_exports_run_at_a_time() {
    let folder = Folder::new();
    run(async {
        let server = Server::start(&folder).await;
        let mut writer = server.log.claim(PARTITION, NodeId(1)).await.unwrap();
        fill(&mut writer).await;
        let mut busy = Vec::new();
        for _ in 0..2 {
            let mut stream = UnixStream::connect(&server.socket).await.unwrap();
            stream.read_u8().await.unwrap();
            busy.push(stream);
        }
        let mut third = Incoming::connect(&server.socket).await.unwrap();
        let reason = "2 exports are running: try again later";
        assert_eq!(third.next().await.unwrap(), Frame::Refused(reason.to_owned()));
        let store = folder.text("store");
        let refused = tokio::task::spawn_blocking(move || sessiond(&["store", "export", &store]));
        assert_eq!(refused.await.unwrap().refusal(), reason);
        // A reader that is gone makes room.
        busy.pop();
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            let mut next = Incoming::connect(&server.socket).await.unwrap();
            match next.next().await.unwrap() {
                Frame::Entry(_) => break,
                _ => assert!(Instant::now() < patience, "there is no room"),
            }
        }
        server.stop().await;
    });
}

/// More than a socket takes up, so that an export waits for its reader. The place of the last.
async fn fill(writer: &mut impl Writer) -> Seq {
    let mut last = Seq::START;
    for _ in 0..8 {
        last = writer.append(vec![0; 700_000].into()).await.unwrap();
    }
    last
}

/// Begins an export, which then waits for its reader.
async fn begin(server: &Server) -> (Incoming, Entry) {
    let mut incoming = Incoming::connect(&server.socket).await.unwrap();
    match incoming.next().await.unwrap() {
        Frame::Entry(entry) => (incoming, entry),
        other => panic!("{other:?}"),
    }
}

/// What comes from the first entry to the end, and how often it began.
async fn receive((mut incoming, first): (Incoming, Entry)) -> (Vec<Entry>, u32) {
    let (mut entries, mut beginnings) = (vec![first], 1);
    loop {
        match incoming.next().await.unwrap() {
            Frame::Entry(entry) => entries.push(entry),
            Frame::Again => {
                beginnings += 1;
                entries.clear();
            }
            Frame::End(number) => {
                assert_eq!(number, entries.len() as u64);
                return (entries, beginnings);
            }
            Frame::Refused(reason) => panic!("{reason}"),
        }
    }
}

#[test]
fn an_export_whose_log_is_trimmed_away_begins_again() {
    let folder = Folder::new();
    run(async {
        let server = Server::start(&folder).await;
        let mut writer = server.log.claim(PARTITION, NodeId(1)).await.unwrap();
        let last = fill(&mut writer).await;
        let begun = begin(&server).await;
        // What is read next is not there any more.
        writer.trim(last).await.unwrap();
        let (entries, beginnings) = receive(begun).await;
        let places: Vec<_> = entries.iter().map(|entry| entry.seq).collect();
        assert_eq!((places, beginnings), (vec![last], 2));
        server.stop().await;
    });
}

#[test]
fn a_snapshot_that_is_replaced_meanwhile_is_exported_all_the_same() {
    let folder = Folder::new();
    run(async {
        let server = Server::start(&folder).await;
        let mut writer = server.log.claim(PARTITION, NodeId(1)).await.unwrap();
        fill(&mut writer).await;
        let state =
            |state: &'static str| vec![Snapshot { key: "key".into(), state: Some(state.into()) }];
        writer.snapshot(state("old")).await.unwrap();
        let begun = begin(&server).await;
        writer.snapshot(state("new")).await.unwrap();
        let (entries, beginnings) = receive(begun).await;
        let last = entries.last().map(|entry| entry.content.clone());
        let new = Content::Snapshot { key: "key".into(), state: "new".into() };
        assert_eq!((last, beginnings), (Some(new), 1));
        server.stop().await;
    });
}

#[test]
fn an_export_that_ends_early_leaves_no_file() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let _log = RedbLog::open(&folder.path("store"), Options::default()).unwrap();
    let listener =
        std::os::unix::net::UnixListener::bind(folder.path("store").join(SOCKET)).unwrap();
    for sent in [Vec::new(), Frame::Again.encode(), Frame::End(3).encode(), vec![255; 100]] {
        let (store, out) = (folder.text("store"), folder.text("file"));
        let mut export = command(&["store", "export", &store, "--out", &out]);
        let child = export.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, &sent).unwrap();
        drop(stream);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.starts_with("sessiond: the server ") && told.lines().count() == 1, "{told}");
        assert!(!folder.path("file").exists());
    }
}

#[test]
fn what_a_server_exports_is_what_it_has() {
    let folder = Folder::new();
    run(make(&folder.path("store"), false));
    let contents = run(everything(&folder.path("store")));
    run(async {
        let server = Server::start(&folder).await;
        let (entries, _) = receive(begin(&server).await).await;
        let received: Vec<_> = entries.into_iter().map(|entry| entry.content).collect();
        assert_eq!(received, contents);
        server.stop().await;
    });
}
