//! Events that are pushed to a URL: signed, in order, tried again, and never silently lost.

use crate::support::*;
use aws_lc_rs::hmac;
use serde_json::Value as Json;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const SECRET: &str = "for tests only: 0123456789abcdef";
const OTHER: &str = "for tests only: fedcba9876543210";

/// A request as the receiver got it.
#[derive(Debug, Clone)]
struct Request {
    head: String,
    body: Vec<u8>,
    at: Instant,
}

impl Request {
    fn header(&self, name: &str) -> String {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let line = lines.find(|(it, _)| it.eq_ignore_ascii_case(name));
        line.expect("the header is there").1.to_owned()
    }

    fn json(&self) -> Json {
        serde_json::from_slice(&self.body).expect("it is JSON")
    }

    fn events(&self) -> Vec<Json> {
        self.json()["events"].as_array().cloned().unwrap_or_default()
    }

    fn session(&self) -> String {
        let first = self.events().first().cloned().unwrap_or_default();
        first["sessionId"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether a secret signed it.
    fn is_signed_by(&self, secret: impl AsRef<[u8]>) -> bool {
        let header = self.header("sessiond-signature");
        let mut parts = header.split(',').map(|part| part.split_once('=').expect("a part"));
        let (_, at) = parts.next().expect("it says when");
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
        let signed = [at.as_bytes(), b".", &self.body].concat();
        let tag = hmac::sign(&key, &signed);
        let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        parts.any(|(name, value)| name == "v1" && value == tag)
    }
}

/// What a receiver does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Status(u16),
    /// Says nothing.
    Hang,
    /// Sends more than anybody wants to read.
    Flood,
}

type Decide = dyn Fn(usize, &Request) -> Answer + Send + Sync;

/// A receiver that answers as it is told, and keeps what it took.
struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<(Request, Answer)>>>,
}

impl Receiver {
    /// Decides by how many requests came before, and by the request.
    fn start(decide: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
        let address = listener.local_addr().expect("an address");
        let requests: Arc<Mutex<Vec<(Request, Answer)>>> = Arc::default();
        let (all, decide): (_, Arc<Decide>) = (requests.clone(), Arc::new(decide));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (all, decide) = (all.clone(), decide.clone());
                thread::spawn(move || serve(stream.expect("a connection"), &all, &*decide));
            }
        });
        Self { address, requests }
    }

    fn ok() -> Self {
        Self::start(|_, _| Answer::Status(204))
    }

    fn all(&self) -> Vec<(Request, Answer)> {
        self.requests.lock().expect("nothing panics").clone()
    }

    /// The requests that it took, without the one that says that the server has started.
    fn taken(&self) -> Vec<Request> {
        let is_taken = |answer| matches!(answer, Answer::Status(200..=299) | Answer::Flood);
        let taken = self.all().into_iter().filter(|(_, answer)| is_taken(*answer));
        taken.map(|(request, _)| request).filter(|it| !is_start(it)).collect()
    }

    /// The kinds and users of the events that it took, in order.
    fn events(&self) -> Vec<String> {
        let events = self.taken().iter().flat_map(Request::events).collect::<Vec<_>>();
        events.iter().map(told).collect()
    }

    /// Ticks until what it got is as it should be.
    async fn until(&self, service: &Service, is_so: impl Fn(&Self) -> bool) {
        in_time(async {
            while !is_so(self) {
                service.tick();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

fn is_start(request: &Request) -> bool {
    request.json()["gap"]["reason"] == "EVENT_GAP_REASON_RESTARTED"
}

fn told(event: &Json) -> String {
    let [kind, user] = ["kind", "userId"].map(|name| event[name].as_str().unwrap_or_default());
    let kind = kind.strip_prefix("EVENT_KIND_").unwrap_or(kind);
    format!("{kind} {user}").trim_end().to_owned()
}

fn serve(mut stream: TcpStream, all: &Mutex<Vec<(Request, Answer)>>, decide: &Decide) {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            if read_more(&mut stream, &mut bytes).is_none() {
                return;
            }
        };
        let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
        let length = text.lines().filter_map(|line| line.split_once(": "));
        let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.map(|(_, it)| it.parse::<usize>().expect("a number")).sum();
        while bytes.len() < head + length {
            if read_more(&mut stream, &mut bytes).is_none() {
                return;
            }
        }
        let body = bytes[head..head + length].to_vec();
        bytes.drain(..head + length);
        let request = Request { head: text, body, at: Instant::now() };
        let answer = {
            let mut all = all.lock().expect("nothing panics");
            let answer = decide(all.iter().filter(|(it, _)| !is_start(it)).count(), &request);
            all.push((request, answer));
            answer
        };
        let written = match answer {
            Answer::Status(status) => write!(
                stream,
                "HTTP/1.1 {status} So\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
            ),
            Answer::Hang => read_more(&mut stream, &mut bytes).map_or(Ok(()), |_| Ok(())),
            Answer::Flood => {
                let part = [b' '; 65536];
                let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
                (0..15_000).try_for_each(|_| stream.write_all(&part))
            }
        };
        if written.is_err() || answer == Answer::Hang {
            return;
        }
    }
}

fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut part = [0; 4096];
    let length = stream.read(&mut part).ok().filter(|length| *length > 0)?;
    bytes.extend(&part[..length]);
    Some(())
}

/// A folder with secrets.
fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("webhooks-{}-{number}", std::process::id());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    put_secret(&folder, "secret", SECRET);
    put_secret(&folder, "other", OTHER);
    folder
}

fn put_secret(folder: &std::path::Path, name: &str, text: &str) {
    put_bytes(folder, name, format!("{text}\n").as_bytes());
}

fn put_bytes(folder: &std::path::Path, name: &str, bytes: &[u8]) {
    let file = folder.join(name);
    fs::write(&file, bytes).expect("it is written");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("it is ours");
}

/// A server with one webhook, and these keys besides.
async fn service(receiver: &Receiver, more: &str) -> (Service, PathBuf) {
    service_with(receiver, more, |_| {}).await
}

async fn service_with(
    receiver: &Receiver,
    more: &str,
    change: impl FnOnce(&mut sessiond::config::Config),
) -> (Service, PathBuf) {
    let folder = folder();
    let secrets = if more.contains("secret-files") { "" } else { "secret-files = [\"secret\"]" };
    let apps = if more.contains("apps") { "" } else { "apps = [\"default\"]" };
    let file = folder.join("webhooks.toml");
    let text = format!(
        "[[webhooks]]\nname = \"lobby\"\nurl = \"http://{}/told?key=hidden\"\nretry-delay = \
         \"20ms\"\n{secrets}\n{apps}\n{more}\n",
        receiver.address
    );
    fs::write(&file, text).expect("it is written");
    let service = Service::start_with(|config| {
        config.webhooks = Some(file);
        change(config);
    });
    (service.await, folder)
}

#[tokio::test]
async fn what_happens_is_pushed_signed_as_the_stream_tells_it() {
    let receiver = Receiver::ok();
    let (service, _) = service(&receiver, "").await;
    receiver.until(&service, |it| it.all().len() == 1).await;
    let (start, _) = receiver.all().remove(0);
    assert!(is_start(&start) && start.events().is_empty(), "first that the server has started");
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    receiver.until(&service, |it| it.events().len() == 3).await;
    assert_eq!(receiver.events(), ["SESSION_OPENED", "USER_JOINED ada", "USER_JOINED bob"]);
    let pushed: Vec<Json> = receiver.taken().iter().flat_map(Request::events).collect();
    let streamed = service.all_events("").await;
    for (pushed, streamed) in pushed.iter().zip(&streamed) {
        assert_eq!(pushed["id"], streamed.id);
        assert_eq!(pushed["sequence"], streamed.sequence.to_string());
        assert_eq!(pushed["sessionId"], "finals");
    }
    assert_eq!(pushed[2]["userJoined"]["role"], "ROLE_MEMBER");
    assert_eq!(pushed[2]["actor"]["userId"], "bob");
    for request in receiver.taken() {
        assert!(request.head.starts_with("POST /told?key=hidden HTTP/1.1\r\n"), "{}", request.head);
        assert_eq!(request.header("content-type"), "application/json");
        assert!(request.is_signed_by(SECRET) && !request.is_signed_by(OTHER));
        let first = &request.events()[0];
        assert_eq!(first["id"], request.header("sessiond-delivery"), "it names the delivery");
    }
}

#[tokio::test]
async fn a_webhook_is_told_of_its_apps_and_kinds_only() {
    let receiver = Receiver::ok();
    let more = "apps = [\"chat\"]\nkinds = [\"SESSION_ENDED\", \"USER_LEFT\"]";
    let (service, _) = service(&receiver, more).await;
    let all = Receiver::ok();
    let (every, _) = self::service(&all, "apps = \"*\"").await;
    for service in [&service, &every] {
        for app in ["chat", "default"] {
            let mut opening = opening("finals", app, Default::default());
            opening.app = app.to_owned();
            service.try_open(opening).await.expect("it opens");
            let request = sessiond::proto::LeaveSessionRequest {
                app: app.to_owned(),
                session_id: "finals".to_owned(),
                user_id: app.to_owned(),
                ..Default::default()
            };
            service.sessions().leave_session(request).await.expect("it leaves");
        }
    }
    receiver.until(&service, |it| it.events().len() >= 2).await;
    all.until(&every, |it| it.events().len() >= 8).await;
    assert_eq!(receiver.events(), ["USER_LEFT chat", "SESSION_ENDED"]);
    assert_eq!(all.events().len(), 8, "each once");
}

#[tokio::test]
async fn what_fails_is_tried_again_in_order_and_as_it_was() {
    // Every way to fail, one after the other.
    let answers = [
        Answer::Status(500),
        Answer::Status(302),
        Answer::Status(404),
        Answer::Hang,
        Answer::Status(503),
    ];
    let receiver = Receiver::start(move |nth, request| match is_start(request) {
        true => Answer::Status(200),
        false => answers.get(nth).copied().unwrap_or(Answer::Status(200)),
    });
    let (service, _) = service(&receiver, "timeout = \"200ms\"").await;
    service.open_room("finals", "ada").await;
    for user in ["bob", "cid", "dan"] {
        service.join("finals", user).await;
    }
    receiver.until(&service, |it| it.events().len() >= 5).await;
    let expected = [
        "SESSION_OPENED",
        "USER_JOINED ada",
        "USER_JOINED bob",
        "USER_JOINED cid",
        "USER_JOINED dan",
    ];
    assert_eq!(receiver.events(), expected);
    let all = receiver.all();
    let tries: Vec<_> = all.iter().filter(|(request, _)| !is_start(request)).collect();
    assert!(tries.len() >= 6);
    for pair in tries[..6].windows(2) {
        let [(before, _), (again, _)] = [pair[0], pair[1]];
        assert_eq!(before.header("sessiond-delivery"), again.header("sessiond-delivery"));
        assert!(again.at - before.at >= Duration::from_millis(10), "not at once");
        assert!(again.is_signed_by(SECRET));
    }
}

#[tokio::test]
async fn a_session_that_fails_holds_up_its_own_later_events_only() {
    let receiver = Receiver::start(|_, request| match request.session() == "stuck" {
        true => Answer::Status(500),
        false => Answer::Status(200),
    });
    let (service, _) = service(&receiver, "concurrency = 1").await;
    service.open_room("stuck", "ada").await;
    for number in 0..20 {
        let name = number.to_string();
        service.open_room(&name, "ada").await;
        service.join("stuck", &name).await;
    }
    receiver.until(&service, |it| it.events().len() >= 40).await;
    assert_eq!(receiver.events().len(), 40);
    let stuck = receiver.all().into_iter().filter(|(it, _)| it.session() == "stuck");
    let firsts: Vec<_> = stuck.map(|(it, _)| told(&it.events()[0])).collect();
    assert!(firsts.iter().all(|first| first == "SESSION_OPENED"), "always the first: {firsts:?}");
}

#[tokio::test]
async fn each_session_comes_in_order_however_many_requests_there_are_at_a_time() {
    // Failures by chance, so that requests overtake one another.
    let receiver = Receiver::start(|nth, _| Answer::Status(if nth % 3 == 1 { 500 } else { 200 }));
    let (service, _) = service(&receiver, "concurrency = 8").await;
    for session in ["a", "b", "c", "d"] {
        service.open_room(session, "ada").await;
    }
    for number in 0..50 {
        for session in ["a", "b", "c", "d"] {
            service.join(session, &format!("user {number}")).await;
        }
        service.tick();
    }
    receiver.until(&service, |it| it.events().len() >= 208).await;
    let taken = receiver.taken();
    for session in ["a", "b", "c", "d"] {
        let own = taken.iter().filter(|it| it.session() == session).flat_map(Request::events);
        let users: Vec<String> = own.map(|it| told(&it)).collect();
        let joined = (0..50).map(|number| format!("USER_JOINED user {number}"));
        let expected: Vec<String> = ["SESSION_OPENED", "USER_JOINED ada"]
            .map(str::to_owned)
            .into_iter()
            .chain(joined)
            .collect();
        assert_eq!(users, expected, "{session}");
    }
}

#[tokio::test]
async fn what_is_given_up_is_told_with_the_next_delivery() {
    let gap_of = |request: &Request| request.json()["gap"].clone();
    let is_well = AtomicBool::new(false);
    let receiver = Receiver::start(move |_, request| {
        // It is well again once events are missing.
        let is_told = gap_of(request)["reason"] == "EVENT_GAP_REASON_UNDELIVERED";
        let is_well = is_well.fetch_or(is_told, Ordering::SeqCst) || is_told;
        Answer::Status(if is_well || is_start(request) { 200 } else { 500 })
    });
    let (service, _) = service(&receiver, "retry-for = \"1s\"").await;
    service.open_room("finals", "ada").await;
    receiver.until(&service, |it| !it.taken().is_empty()).await;
    service.join("finals", "bob").await;
    receiver.until(&service, |it| !it.events().is_empty()).await;
    assert_eq!(receiver.events(), ["USER_JOINED bob"]);
    let gaps: Vec<Json> = receiver.taken().iter().map(gap_of).filter(|it| !it.is_null()).collect();
    let [gap] = &*gaps else { panic!("it is told once: {gaps:?}") };
    assert_eq!(gap["reason"], "EVENT_GAP_REASON_UNDELIVERED");
    assert_eq!((&gap["missing"], &gap["app"]), (&"2".into(), &"default".into()));
    assert_eq!(gap["sessionId"], "finals");
}

#[tokio::test]
async fn what_the_journal_had_no_room_for_is_told() {
    let receiver = Receiver::ok();
    let (service, _) = service_with(&receiver, "", |config| config.max_journal_events = 4).await;
    service.open_room("finals", "ada").await;
    receiver.until(&service, |it| it.events().len() == 2).await;
    // As the clock stands still, nothing tells the webhook that there is something to read.
    for user in ["bob", "cid", "dan", "eve", "fay", "guy", "hal", "ian"] {
        service.join("finals", user).await;
    }
    receiver.until(&service, |it| it.events().last().is_some_and(|it| it.ends_with("ian"))).await;
    let gap = |it: &Receiver| {
        let gaps = it.taken().into_iter().map(|it| it.json()["gap"].clone());
        gaps.into_iter().find(|gap| gap["reason"] == "EVENT_GAP_REASON_TOO_OLD")
    };
    receiver.until(&service, |it| gap(it).is_some()).await;
    let gap = gap(&receiver).expect("it came");
    assert_eq!((&gap["app"], &gap["sessionId"]), (&"default".into(), &Json::Null));
    let missing: usize = gap["missing"].as_str().expect("a number").parse().expect("a number");
    assert_eq!(missing + receiver.events().len(), 10, "what is missing is counted");
}

#[tokio::test]
async fn an_endless_answer_and_one_that_never_comes_are_cut_off() {
    let receiver = Receiver::start(|nth, request| match (is_start(request), nth) {
        (true, _) => Answer::Status(200),
        (false, 0) => Answer::Flood,
        (false, 1) => Answer::Hang,
        _ => Answer::Status(200),
    });
    let (service, _) = service(&receiver, "timeout = \"300ms\"").await;
    service.open_room("finals", "ada").await;
    receiver.until(&service, |it| !it.taken().is_empty()).await;
    service.join("finals", "bob").await;
    receiver.until(&service, |it| it.events().iter().any(|event| event == "USER_JOINED bob")).await;
}

#[tokio::test]
async fn secrets_are_rotated_without_a_restart_and_two_are_valid_at_a_time() {
    let receiver = Receiver::ok();
    let (service, folder) = service(&receiver, "secret-files = [\"secret\", \"other\"]").await;
    service.open_room("finals", "ada").await;
    receiver.until(&service, |it| it.events().len() == 2).await;
    for request in receiver.taken() {
        assert!(request.is_signed_by(SECRET) && request.is_signed_by(OTHER));
    }
    let newest = "for tests only: the newest one of all";
    put_secret(&folder, "secret", newest);
    service.join("finals", "bob").await;
    receiver.until(&service, |it| it.events().len() == 3).await;
    let last = receiver.taken().pop().expect("it came");
    assert!(last.is_signed_by(newest) && last.is_signed_by(OTHER) && !last.is_signed_by(SECRET));
    // A file that cannot be used changes nothing.
    fs::write(folder.join("secret"), "short").expect("it is written");
    service.join("finals", "cid").await;
    receiver.until(&service, |it| it.events().len() == 4).await;
    let last = receiver.taken().pop().expect("it came");
    assert!(last.is_signed_by(newest), "the one before");
}

#[tokio::test]
async fn a_secret_is_any_bytes_but_for_one_end_of_a_line() {
    let receiver = Receiver::ok();
    let (service, folder) = service(&receiver, "").await;
    service.open_room("finals", "ada").await;
    receiver.until(&service, |it| it.events().len() == 2).await;
    let random = [&[0xff; 31][..], b" "].concat();
    put_bytes(&folder, "secret", &[&random[..], b"\n"].concat());
    service.join("finals", "bob").await;
    receiver.until(&service, |it| it.events().len() == 3).await;
    let last = receiver.taken().pop().expect("it came");
    assert!(last.is_signed_by(&random), "the blank is part of it");
    // One byte less, and the one before stays.
    put_bytes(&folder, "secret", &[&random[1..], b"\n"].concat());
    service.join("finals", "cid").await;
    receiver.until(&service, |it| it.events().len() == 4).await;
    let last = receiver.taken().pop().expect("it came");
    assert!(last.is_signed_by(&random), "the one before");
}

#[tokio::test]
async fn a_server_that_stops_delivers_what_waits_and_waits_for_nothing_that_fails() {
    let receiver = Receiver::start(|_, request| {
        Answer::Status(if request.session() == "stuck" { 500 } else { 200 })
    });
    let (service, _) = service(&receiver, "").await;
    service.open_room("stuck", "ada").await;
    service.tick();
    receiver.until(&service, |it| it.all().iter().any(|(it, _)| it.session() == "stuck")).await;
    for number in 0..30 {
        service.open_room(&number.to_string(), "ada").await;
    }
    service.tick();
    let begin = Instant::now();
    service.stop().await;
    assert_eq!(receiver.events().len(), 60);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

/// The snippet of the document, as it stands there.
#[tokio::test]
async fn a_receiver_verifies_a_signature_as_the_document_shows() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/events.md");
    let document = fs::read_to_string(document).expect("it is there");
    let snippet = document.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let snippet = snippet.expect("the document has a snippet");
    let receiver = Receiver::ok();
    let (service, folder) = service(&receiver, "").await;
    service.open_room("finals", "ada").await;
    receiver.until(&service, |it| !it.taken().is_empty()).await;
    let request = receiver.taken().remove(0);
    let header = request.header("sessiond-signature");
    let program = format!(
        "{snippet}\nimport sys\nbody = open(sys.argv[2], 'rb').read()\n\
         secret = open(sys.argv[1], 'rb').read().strip()\nheader = sys.argv[3]\n\
         print(is_from_sessiond(secret, header, body), is_from_sessiond(b'other', header, body),\n\
         is_from_sessiond(secret, header, body + b' '), is_from_sessiond(secret, header, body, -1))\n"
    );
    let body = folder.join("body");
    fs::write(&body, &request.body).expect("it is written");
    let mut python = Command::new("python3");
    python.arg("-c").arg(program).arg(folder.join("secret")).arg(body).arg(header);
    let output = python.stdin(Stdio::null()).output().expect("python3 is there");
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(printed, "True False False False", "{said}");
}
