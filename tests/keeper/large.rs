//! A session that is larger than what the log takes as a snapshot.

use crate::stage::*;
use sessiond::{
    log::MAX_SNAPSHOTS_BYTES,
    session::{command::Join, ids::Key, settings::Durability, value::Value},
};

const MEMBERS: usize = 10_000;

/// Bytes of what each of them shows.
const BYTES: usize = 4_000;

#[tokio::test]
async fn a_session_too_large_for_a_snapshot_is_stored_as_a_whole_and_holds_nothing_back() {
    // More than the session takes, so that only what comes later is trimmed.
    let most = 2 * MEMBERS * BYTES;
    let mut stage = Stage::trimming(most).await;
    let live = stage.open("stadium", Durability::Async);
    for number in 1..MEMBERS {
        let text = Value::Text("x".repeat(BYTES).into());
        let props = vec![(Key::from("text"), text)];
        let join = Join { props, ..join() };
        stage.engine.join(&live, &user(&format!("user-{number}")), join).expect("there is room");
    }
    stage.engine.advance(INTERVAL);
    stage.store().await;
    assert!(stage.batch_bytes_left() > MAX_SNAPSHOTS_BYTES, "{}", stage.batch_bytes_left());
    // Other rooms write, and theirs is all that counts.
    let other = stage.open("lobby", Durability::Async);
    let text = "y".repeat(15_000);
    let mut written = 0;
    while written < 3 * most {
        let value = Value::Text(format!("{written} {text}").into());
        let write = sessiond::session::command::Write::of(vec![(Key::from("text"), value)]);
        let ada = sessiond::session::command::Actor::of(&user("ada"));
        let command =
            sessiond::session::command::Command::SetProps { user: user("ada"), write, term: 0 };
        stage.engine.command(&other, &ada, command).expect("it may");
        stage.write(&live, "user-7", written as f64).expect("it may");
        stage.engine.advance(INTERVAL);
        stage.store().await;
        assert!(stage.batch_bytes_left() <= most + (1 << 20), "{}", stage.batch_bytes_left());
        written += text.len();
    }
    let last = x_of(&live, "user-7");
    assert!(last.is_some());
    let stage = stage.crash().await;
    let live = stage.find("stadium").expect("it is back");
    assert_eq!(x_of(&live, "user-7"), last);
    let counts = live.lock().core.members().counts();
    assert_eq!(counts.members, MEMBERS);
    assert!(stage.find("lobby").is_some());
}
