//! What all nodes are told, over a real server of NATS.

use crate::{
    joined::{info, join, settings},
    nats::{self, Server},
};
use bytes::Bytes;
use sessiond::cluster::{Cluster, Heard, JoinError, NotTold, Note, Settings};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::StreamExt;

const PATIENCE: Duration = Duration::from_secs(30);

fn note(key: &str, text: &str) -> Note {
    let (key, text) = (Bytes::from(key.to_owned()), Bytes::from(text.to_owned()));
    Note { key, text, lasts: None }
}

/// What a node hears from now on.
struct Ear {
    heard: mpsc::UnboundedReceiver<Heard>,
    work: tokio::task::JoinHandle<()>,
}

impl Ear {
    fn of(cluster: &Cluster) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let cluster = cluster.clone();
        let work = tokio::spawn(async move {
            cluster.follow_notes(|heard| drop(tell.send(heard))).await;
        });
        Self { heard, work }
    }

    async fn next(&mut self) -> Heard {
        timeout(PATIENCE, self.heard.recv()).await.expect("it comes").expect("it lives")
    }

    /// What counts, as texts.
    async fn up_to_date(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            match self.next().await {
                Heard::UpToDate => return texts,
                Heard::Note(text) => texts.push(String::from_utf8_lossy(&text).into_owned()),
            }
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.work.abort();
    }
}

fn said(text: &str) -> Heard {
    Heard::Note(Bytes::from(text.to_owned()))
}

#[tokio::test]
async fn every_node_hears_every_note_and_a_late_one_the_last_of_each_key() {
    let Some(server) = nats::shared() else { return };
    let cluster = nats::cluster();
    let a = join(server, &cluster, info(1, "node-a")).await.expect("it joins");
    let b = join(server, &cluster, info(2, "node-b")).await.expect("it joins");
    let (mut at_a, mut at_b) = (Ear::of(&a), Ear::of(&b));
    assert_eq!(at_a.up_to_date().await, [""; 0]);
    assert_eq!(at_b.up_to_date().await, [""; 0]);
    a.tell(&note("x", "x1")).await.expect("it is told");
    // Whoever tells has heard it when it is told.
    assert_eq!(at_a.heard.try_recv(), Ok(said("x1")));
    assert_eq!(at_b.next().await, said("x1"));
    b.tell(&note("y", "y1")).await.expect("it is told");
    b.tell(&note("x", "x2")).await.expect("it is told");
    for ear in [&mut at_a, &mut at_b] {
        assert_eq!([ear.next().await, ear.next().await], [said("y1"), said("x2")]);
    }
    let c = join(server, &cluster, info(3, "node-c")).await.expect("it joins");
    assert_eq!(Ear::of(&c).up_to_date().await, ["y1", "x2"]);
    let other = join(server, &nats::cluster(), info(3, "node-c")).await.expect("it joins");
    assert_eq!(Ear::of(&other).up_to_date().await, [""; 0], "another cluster");
}

#[tokio::test]
async fn a_note_that_a_server_stores_late_replaces_nothing_that_was_said_since() {
    let Some(server) = nats::shared() else { return };
    let cluster = nats::cluster();
    let a = join(server, &cluster, info(1, "node-a")).await.expect("it joins");
    let client = async_nats::connect(server.url()).await.expect("a connection");
    let mut sent = client.subscribe(format!("{cluster}.note.*")).await.expect("it is there");
    client.flush().await.expect("it is connected");
    a.tell(&note("x", "restored")).await.expect("it is told");
    let late = timeout(PATIENCE, sent.next()).await.expect("it comes").expect("it lives");
    a.tell(&note("x", "revoked")).await.expect("it is told");
    // The server does not remember for ever what it has stored.
    let mut headers = async_nats::HeaderMap::new();
    for (name, values) in late.headers.expect("it has some").iter() {
        if AsRef::<str>::as_ref(name) != "Nats-Msg-Id" {
            values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
        }
    }
    let again = client.request_with_headers(late.subject, headers, late.payload).await;
    let answer = again.expect("an answer").payload;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("wrong last sequence"), "{answer}");
    assert_eq!(Ear::of(&a).up_to_date().await, ["revoked"]);
}

#[tokio::test]
async fn a_note_counts_as_long_as_it_says() {
    let Some(server) = nats::shared() else { return };
    let cluster = nats::cluster();
    let a = join(server, &cluster, info(1, "node-a")).await.expect("it joins");
    a.tell(&note("x", "for ever")).await.expect("it is told");
    let short = Note { lasts: Some(Duration::from_secs(1)), ..note("y", "for a second") };
    a.tell(&short).await.expect("it is told");
    let gone = async { while Ear::of(&a).up_to_date().await != ["for ever"] {} };
    timeout(PATIENCE, gone).await.expect("it ends");
}

#[tokio::test]
async fn many_notes_come_in_order_and_all() {
    let Some(server) = nats::shared() else { return };
    let cluster = nats::cluster();
    let a = join(server, &cluster, info(1, "node-a")).await.expect("it joins");
    let all: Vec<_> = (0..300).map(|number| number.to_string()).collect();
    for text in &all {
        a.tell(&note(text, text)).await.expect("it is told");
    }
    assert_eq!(Ear::of(&a).up_to_date().await, all);
}

#[tokio::test]
async fn a_stream_that_is_set_otherwise_is_refused_with_each_difference() {
    let Some(server) = nats::shared() else { return };
    let cluster = nats::cluster();
    let client = async_nats::connect(server.url()).await.expect("a connection");
    let settings = format!(
        r#"{{"name": "{cluster}-notes", "subjects": ["{cluster}.note.*"], "storage": "memory",
            "retention": "limits", "discard": "old", "max_msgs_per_subject": 1}}"#
    );
    let made = client.request(format!("$JS.API.STREAM.CREATE.{cluster}-notes"), settings.into());
    made.await.expect("it is made");
    let refused =
        join(server, &cluster, info(1, "node-a")).await.expect_err("it is another stream");
    let JoinError::Notes(NotTold::Foreign { what, .. }) = &refused else { panic!("{refused}") };
    for part in ["storage is \"memory\", not \"file\"", "discard is \"old\"", "max_bytes"] {
        assert!(what.contains(part), "{what}");
    }
}

#[tokio::test]
async fn notes_that_are_gone_are_not_begun_again() {
    let Some(server) = nats::shared() else { return };
    let cluster = nats::cluster();
    let client = async_nats::connect(server.url()).await.expect("a connection");
    let old = Settings { is_new: false, ..settings(&cluster) };
    let join = || Cluster::join(client.clone(), &old, info(1, "node-a"));
    let is_refused = |refused: &JoinError| {
        let JoinError::Notes(NotTold::Foreign { what, .. }) = refused else { return false };
        what.contains("it is gone")
    };
    let refused = join().await.expect_err("its partitions are there");
    assert!(is_refused(&refused), "{refused}");
    // Nothing was made of it.
    let refused = join().await.expect_err("its partitions are there");
    assert!(is_refused(&refused), "{refused}");
}

#[tokio::test]
async fn what_is_told_while_nats_stands_still_comes_when_it_goes_on() {
    let Some(server) = Server::with("") else { return };
    let cluster = nats::cluster();
    let a = join(&server, &cluster, info(1, "node-a")).await.expect("it joins");
    let mut ear = Ear::of(&a);
    ear.up_to_date().await;
    server.signal("STOP");
    let telling = {
        let a = a.clone();
        tokio::spawn(async move { a.tell(&note("x", "x1")).await })
    };
    // Longer than one request waits.
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.signal("CONT");
    telling.await.expect("no panic").expect("it is told");
    let heard = async { while ear.next().await != said("x1") {} };
    timeout(PATIENCE, heard).await.expect("it comes");
}

/// What docs/cluster.md tells to allow, for a cluster of this name.
const ALLOWED: &str = r#"authorization { users: [ { user: a, password: b, permissions: {
    publish: ["CLUSTER.>", "_INBOX.>", "$JS.API.>"], subscribe: ["CLUSTER.>", "_INBOX.>"] } } ] }"#;

#[tokio::test]
async fn the_permissions_of_the_documents_suffice() {
    let documents = include_str!("../../docs/cluster.md");
    let publish = r#"publish: ["sessiond.>", "_INBOX.>", "$JS.API.>"]"#;
    let subscribe = r#"subscribe: ["sessiond.>", "_INBOX.>"]"#;
    for part in [publish, subscribe] {
        assert!(documents.contains(part), "{part}");
        assert!(ALLOWED.replace("CLUSTER", "sessiond").contains(part), "{part}");
    }
    let cluster = nats::cluster();
    let Some(server) = Server::with(&ALLOWED.replace("CLUSTER", &cluster)) else { return };
    let options = async_nats::ConnectOptions::with_user_and_password("a".into(), "b".into());
    let client = options.connect(server.url()).await.expect("a connection");
    let a = Cluster::join(client, &settings(&cluster), info(1, "node-a")).await.expect("it joins");
    let mut ear = Ear::of(&a);
    assert_eq!(ear.up_to_date().await, [""; 0]);
    a.tell(&note("x", "x1")).await.expect("it is told");
    assert_eq!(ear.next().await, said("x1"));
}
