//! What backends say and are told, and what files have: it reaches whom it is for, over the link of two
//! nodes too, and nobody else; and no log.

use super::words;
use crate::{hooks::backend::*, support::*};
use sessiond::{
    identity::Identity,
    proto::{AuthorizeResponse, JoinOptions, Role, authorize_request::Asked},
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};
use tonic::Code;

/// What every word here begins with.
pub const BEGIN: &str = "finch-";

/// Words that nobody is ever told.
const HIDDEN: [&str; 13] = [
    "finch-status",
    "finch-lie",
    "finch-nonsense",
    "finch-bearer",
    "finch-key-of-the-hook",
    "finch-query-of-the-hook",
    "finch-query-of-the-webhook",
    "finch-key-of-the-webhook",
    "finch-answer-of-the-webhook",
    "finch-expression",
    "finch-secret-of-the-nodes",
    "finch-fault",
    "finch-credential",
];

/// A server over HTTP that answers everything with these bytes, and keeps what it was sent.
fn http(answer: String) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let sent: Arc<Mutex<Vec<String>>> = Arc::default();
    let keeps = sent.clone();
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let (mut socket, mut bytes) = (socket, [0; 65536]);
            let mut request = String::new();
            while !request.contains("}") {
                match socket.read(&mut bytes) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => request += &String::from_utf8_lossy(&bytes[..count]),
                }
            }
            keeps.lock().expect("nothing panics under it").push(request);
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    (address, sent)
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// A folder of files, none of which others may read.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("judged-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("it is made");
        Self(path)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let (fresh, path) = (self.0.join("fresh"), self.0.join(name));
        fs::write(&fresh, text).expect("it is written");
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).expect("it is ours");
        fs::rename(fresh, &path).expect("it is put");
        path
    }
}

/// What a backend does, by who joins.
fn decide(asked: &sessiond::proto::AuthorizeRequest) -> Act {
    let Some(Asked::Join(_)) = &asked.asked else { panic!("{asked:?}") };
    match &*asked.user_id {
        "bob" => Act::Say(no("finch-message-for-bob")),
        "cleo" => Act::FailWith(Code::Internal, "finch-status".to_owned()),
        "dan" => Act::Say(AuthorizeResponse {
            set: props([("finch-lie", text("finch-lie"))]),
            role: Role::Owner.into(),
            ..allowed()
        }),
        _ => Act::Say(allowed()),
    }
}

#[tokio::test]
async fn what_backends_say_and_what_files_have_reaches_nobody_else() {
    words::read_log();
    let folder = Folder::new();
    let backend = Lobby::start(decide).await;
    let (nonsense, asked) = http(answer("200 OK", "{\"message\": finch-nonsense}"));
    let (pushed, deliveries) = http(answer("500 finch", "finch-answer-of-the-webhook"));
    folder.put("bearer", "finch-bearer\n");
    folder.put("hook.key", &format!("finch-key-of-the-hook{}\n", "x".repeat(32)));
    folder.put("webhook.key", &format!("finch-key-of-the-webhook{}\n", "x".repeat(32)));
    let nodes = folder.put("nodes", &format!("finch-secret-of-the-nodes{}\n", "x".repeat(32)));
    let rule = "[[rules]]\nname = \"rule\"\non = [\"join\"]\napps = \"*\"\n\
                expression = \"request.user_id != 'eve' || 'finch-expression' == ''\"\n\
                message = \"finch-message-for-eve\"\n";
    let grpc = format!(
        "[[hooks]]\nname = \"finch-hook\"\nurl = \"grpc://{}\"\non = [\"join\"]\napps = \"*\"\n\
         secret-file = \"bearer\"\n",
        backend.address
    );
    let json = format!(
        "[[hooks]]\nname = \"json\"\nurl = \"http://{nonsense}/?key=finch-query-of-the-hook\"\n\
         on = [\"subscribe\"]\napps = \"*\"\nsecret-file = \"hook.key\"\n"
    );
    let policy = folder.put("policy.toml", &format!("{rule}{grpc}{json}"));
    let webhooks = folder.put(
        "webhooks.toml",
        &format!(
            "[[webhooks]]\nname = \"webhook\"\nurl = \
             \"http://{pushed}/?key=finch-query-of-the-webhook\"\napps = \"*\"\n\
             secret-files = [\"webhook.key\"]\nretry-delay = \"10ms\"\n"
        ),
    );
    let service = Service::start_over_two_nodes(|config| {
        config.policy = Some(policy);
        config.webhooks = Some(webhooks);
        config.node_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
        config.node_secret = Some(nodes);
    })
    .await;
    service.open_room("finals", "ada").await;
    let mut heard = Vec::new();
    for user in ["bob", "cleo", "dan", "eve", "fay"] {
        let join = JoinOptions { props: props([("x", text("finch-prop"))]), ..Default::default() };
        let told = match service.try_join("finals", user, join).await {
            Ok(joined) => format!("{joined:?}"),
            Err(status) => format!("{status:?} {}", String::from_utf8_lossy(status.details())),
        };
        heard.push((user, told));
    }
    service
        .refused_watch(subscription("finals", "fay"))
        .await
        .is(Code::Unavailable, "HOOK_UNAVAILABLE");
    for (user, told) in &heard {
        let own = ["bob", "eve"].contains(user).then(|| format!("finch-message-for-{user}"));
        assert!(own.as_ref().is_none_or(|own| told.contains(own)), "{user}: {told}");
        let rest = own.map_or(told.clone(), |own| told.replace(&own, ""));
        // Who joins is shown what it has brought.
        let rest = if *user == "fay" { rest.replace("finch-prop", "") } else { rest };
        assert!(!rest.replace("finch-hook", "").contains(BEGIN), "{user}: {told}");
    }
    // What is refused, and why, backends are told; nothing else of it.
    let events = format!("{:?}", service.all_events("default").await);
    assert!(events.contains("finch-message-for-bob") && events.contains("finch-message-for-eve"));
    in_time(async {
        while deliveries.lock().expect("it is not poisoned").len() < 4 {
            service.tick();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;

    // Files that are faulty when they are read again.
    for faulty in [
        format!("{rule}{grpc}[[hooks]]\nurl = \"finch-fault://finch-fault@b\"\n"),
        format!("{rule}{grpc}timeout = \"finch-fault\"\nsecret-as = \"finch-fault\"\n"),
        format!(
            "{rule}[[rules]]\nname = \"a\"\non = [\"finch-fault\"]\nexpression = 'finch-fault'"
        ),
        format!("{rule}\nfinch-fault \"finch-fault\" =\n"),
        "[[hooks]]\nurl = \"finch-fault".to_owned(),
    ] {
        folder.put("policy.toml", &faulty);
        service.read_policy_again();
    }
    folder.put("policy.toml", &format!("{rule}{grpc}{json}"));
    for (file, secret) in [("hook.key", "finch-fault"), ("bearer", "finch-fault \n")] {
        folder.put(file, secret);
        service.read_policy_again();
    }
    folder.put("webhook.key", "finch-fault");
    let count = deliveries.lock().expect("it is not poisoned").len();
    service.open_room("others", "ada").await;
    in_time(async {
        while deliveries.lock().expect("it is not poisoned").len() <= count + 1 {
            service.tick();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
    let identity = |text: &str| {
        let text = format!("[[issuers]]\napps = \"*\"\n[[issuers.keys]]\nsecret-file = {text}\n");
        Identity::open(&folder.put("identity.toml", &text))
    };
    folder.put("token.key", &format!("finch-credential{}", "x".repeat(32)));
    let good = identity("\"token.key\"").expect("it is good");
    for (file, faulty) in
        [("token.key", "finch-credential"), ("identity.toml", "finch-credential = =")]
    {
        folder.put(file, faulty);
        good.reload_if_changed();
        assert!(good.reload().is_err(), "{file}");
    }
    service.stop().await;

    let sent = [asked, deliveries].map(|sent| sent.lock().expect("it is not poisoned").concat());
    for (to, sent) in ["the hook", "the webhook"].iter().zip(&sent) {
        let for_others: &[&str] = match *to {
            "the hook" => &["finch-message", "of-the-webhook", "finch-bearer"],
            _ => &["of-the-hook", "finch-bearer", "finch-status", "finch-lie", "finch-nonsense"],
        };
        assert!(!sent.is_empty() && sent.contains("sessiond-signature: t="), "{to}: {sent}");
        let told = for_others.iter().find(|word| sent.contains(**word));
        assert_eq!(told, None, "{to}: {sent}");
        assert!(!sent.contains("finch-key") && !sent.contains("finch-secret"), "{to}: {sent}");
    }
    let log = words::log();
    assert!(log.iter().any(|line| line.contains("finch-hook")), "the log is heard");
    for line in log {
        let said = HIDDEN.iter().find(|word| line.contains(**word));
        assert_eq!(said, None, "{line}");
        assert!(!line.contains("finch-message") && !line.contains("finch-prop"), "{line}");
    }
    for word in HIDDEN {
        let reached = heard.iter().find(|(_, told)| told.contains(word));
        assert_eq!(reached, None, "{word}");
        assert!(!events.contains(word), "{word} is in an event");
    }
}
