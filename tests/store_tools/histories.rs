//! The history of a session, and its replay.

use super::support::{Folder, command, make, run, sessiond};
use sessiond::proto::{
    GetSessionInfoRequest, GetUpdatedUserDataRequest, NamedValue, Position, named_value::Kind,
    session_service_client::SessionServiceClient,
};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::{Duration, Instant},
};
use tonic::{Request, metadata::MetadataValue};

const RECORDING: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/examples/air_traffic/recording.jsonl");

/// Where one of its aircraft is in the end.
const LAST_LATITUDE: f64 = 47.8820800781;

/// The history of a session of a store, in a file.
fn history(folder: &Folder, session: &str) -> String {
    let (store, out) = (folder.text("store"), folder.text("history"));
    sessiond(&["store", "export", &store, "--session", session, "--out", &out]).well();
    out
}

#[test]
fn a_history_is_told_line_by_line() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let file = history(&folder, "games/race");
    let out = sessiond(&["replay", &file, "--speed", "0"]).well();
    let told: Vec<_> = out.lines().map(|line| line.split_once("Z  ").unwrap()).collect();
    let second = |at: usize| format!("2024-01-01T00:00:0{at}.000000");
    let strange = r#"{"a b": [null, -9223372036854775808, NaN, [-inf, -0.0, 0.1], [0.1, inf], data:AP8K, "line\nbreak \u{1b}[31m"], "c": true}"#;
    let expected = [
        (0, "session games/race, room".to_owned()),
        (0, "ada joins as owner".to_owned()),
        (0, "kept about ada: owner".to_owned()),
        (1, "ben joins as member".to_owned()),
        (1, format!("ben: x 1.5, y {strange}")),
        (1, "the session data: map \"hills\"".to_owned()),
        (2, "the session: locked true".to_owned()),
        (2, "ben is moderator, connected".to_owned()),
        (2, "ben: x 2.5".to_owned()),
        (2, "kept about ben: moderator".to_owned()),
        (2, "kept about eve: banned until 2024-01-01T01:00:00.000000Z: \"spam\"".to_owned()),
        (3, "ben leaves: left".to_owned()),
    ];
    assert_eq!(told.len(), expected.len(), "{out}");
    for ((at, line), (time, told)) in expected.iter().zip(&told) {
        assert_eq!(second(*at), *time, "{out}");
        assert!(told.starts_with(line), "{told:?} should be {line:?}");
    }
}

#[test]
fn a_history_from_a_snapshot_begins_with_what_was_there() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    sessiond(&["store", "compact", &folder.text("store")]).well();
    let file = history(&folder, "games/quiz");
    let out = sessiond(&["replay", &file, "--speed", "0"]).well();
    assert!(out.contains("session games/quiz, room\n"), "{out}");
    assert!(out.contains("ada: score 9223372036854775807\n"), "{out}");
}

#[test]
fn a_session_that_is_gone_has_a_history_as_long_as_the_log_has_it() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let file = history(&folder, "games/old");
    let out = sessiond(&["replay", &file, "--speed", "0"]).well();
    assert!(out.ends_with("the session ends\n"), "{out}");
}

#[test]
fn the_pace_is_the_recorded_one_times_the_speed() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let file = history(&folder, "games/race");
    let began = Instant::now();
    sessiond(&["replay", &file, "--speed", "10"]).well();
    // Three seconds were recorded.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_bad_history_is_refused_with_its_line() {
    let folder = Folder::new();
    let file = folder.text("file");
    let header = "{\"format\":\"sessiond history\",\"version\":1}\n";
    let at = "\"at\":\"2024-01-01T00:00:00Z\"";
    for (lines, reason) in [
        (String::new(), "line 1: this is not the history of a session"),
        ("{\"format\":\"sessiond store\",\"version\":1}\n".to_owned(), "line 1: this is not the"),
        (format!("{header}nonsense\n"), "line 2: expected ident (at character 2)"),
        (format!("{header}[]\n"), "line 2: it is no object"),
        (format!("{header}{{\"join\":{{}}}}\n"), "line 2: \"at\" is no moment"),
        (format!("{header}{{{at}}}\n"), "line 2: a line has one change"),
        (format!("{header}{{{at},\"join\":{{}}}}\n"), "line 2: there is no user"),
        (format!("{header}{{{at},\"sing\":{{}}}}\n"), "line 2: it is no change that is known here"),
        (
            format!("{header}{{{at},\"props\":{{\"user\":\"a\",\"set\":{{\"x\":1}}}}}}\n"),
            "line 2: what is set is no values",
        ),
        (
            format!("{header}{{\"end\":{{\"lines\":4,\"crc32\":\"00000000\"}}}}\n"),
            "line 2: there should be 4 lines of data, not 0",
        ),
    ] {
        fs::write(&file, lines).unwrap();
        let line = sessiond(&["replay", &file, "--speed", "0"]).refusal();
        assert!(line.starts_with(&format!("{file}: {reason}")), "{line} should be {reason}");
    }
    let nowhere = folder.text("nowhere");
    let line = sessiond(&["replay", &nowhere]).refusal();
    assert!(line.starts_with(&format!("{nowhere}: ")), "{line}");
}

/// A server on a port of its own.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let mut child = command(&["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = log.map_while(Result::ok).find(|line| line.contains("listening")).unwrap();
        let address = line.split("\"address\":\"").nth(1).unwrap().split('"').next().unwrap();
        Self { child, url: format!("http://{address}") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn as_app<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("sessiond-as", MetadataValue::from_static("app"));
    request
}

/// Who is in a session of a server, and the numbers among the props of a user.
async fn state(server: &Server, app: &str, id: &str, user: &str) -> (Vec<String>, Vec<f64>) {
    let mut client = SessionServiceClient::connect(server.url.clone()).await.unwrap();
    let (app, session_id) = (app.to_owned(), id.to_owned());
    let info = GetSessionInfoRequest {
        app: app.clone(),
        session_id: session_id.clone(),
        ..GetSessionInfoRequest::default()
    };
    let info = client.get_session_info(as_app(info)).await.unwrap().into_inner();
    let data = GetUpdatedUserDataRequest {
        app,
        session_id,
        target_user_id: user.to_owned(),
        // Nobody had joined at the first frame.
        since: info.position.map(|position| Position { revision: 1, ..position }),
        ..GetUpdatedUserDataRequest::default()
    };
    let data = client.get_updated_user_data(as_app(data)).await.unwrap().into_inner();
    let number = |value: NamedValue| match value.kind {
        Some(Kind::Number(number)) => Some(number),
        _ => None,
    };
    let props = data.change.map(|change| change.props).unwrap_or_default();
    let numbers = props.into_iter().filter_map(number);
    (info.members.into_iter().map(|member| member.user_id).collect(), numbers.collect())
}

#[test]
fn a_history_is_played_into_a_server() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let file = history(&folder, "games/race");
    let server = Server::start();
    let play = ["replay", &file, "--speed", "0", "--to", &server.url];
    let out = sessiond(&play).well();
    assert_eq!(out, "played session games/race: 2 joins, 1 leave, 3 writes\n");
    let patience = Instant::now() + Duration::from_secs(10);
    while run(state(&server, "games", "race", "ada")).0 != ["ada"] {
        assert!(Instant::now() < patience, "ada is there, and ben has left");
    }
    let line = sessiond(&play).refusal();
    assert!(line.contains("line 2: the server refused it: AlreadyExists: "), "{line}");
    let other = [&play[..], &["--session", "another race"]].concat();
    let out = sessiond(&other).well();
    assert!(out.starts_with("played session games/another race: 2 joins"), "{out}");
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let file = history(&folder, "games/race");
    let line = sessiond(&["replay", &file, "--to", "http://127.0.0.1:1"]).refusal();
    assert!(line.starts_with("no server answers at http://127.0.0.1:1: "), "{line}");
    let line = sessiond(&["replay", &file, "--to", "127.0.0.1:1"]).refusal();
    assert!(line.contains("begins with http:// or https://"), "{line}");
}

#[test]
fn the_recording_of_the_example_is_played() {
    let out = sessiond(&["replay", RECORDING, "--speed", "0"]).well();
    assert!(out.lines().count() > 100 && out.contains(" joins as member"), "{out}");
    let server = Server::start();
    let out = sessiond(&["replay", RECORDING, "--speed", "0", "--to", &server.url]).well();
    assert_eq!(out, "played session air_traffic/paris: 5 joins, 1 leave, 239 writes\n");
    // The last frame comes within a tick of the last write.
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let (members, numbers) = run(state(&server, "air_traffic", "paris", "394c0f"));
        let is_left = members == ["3944ee", "394c0f", "4bb285", "39856e"];
        if is_left && numbers.contains(&LAST_LATITUDE) {
            break;
        }
        assert!(Instant::now() < patience, "{members:?}: {numbers:?}");
    }
    assert!(fs::metadata(RECORDING).unwrap().len() < 200_000);
}
