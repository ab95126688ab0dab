//! The fuzz targets of `fuzz/` on a stable toolchain: their corpora, and mutations of them that are the
//! same each time. `CORPUS=write cargo test --test fuzz_corpus` puts the inputs that targets begin with
//! beside them.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fuzz::{columns, gateway, stream_user_props};
use prost::Message;
use sessiond::proto::{self, session_update::Body};
use std::{
    fs, panic,
    path::{Path, PathBuf},
};

/// Mutated inputs of each target.
const MUTATED: usize = 2_000;

/// The longest that a mutated input grows.
const LONGEST: usize = 2048;

type Run = fn(&[u8]);

/// An input with its name.
type Seed = (&'static str, Vec<u8>);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).expect("a file"))).collect()
}

/// Changes an input here and there, or puts in a piece of another one.
fn mutate(random: &mut fastrand::Rng, input: &mut Vec<u8>, other: &[u8]) {
    const CORNERS: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xff, 0x0a, 0x12];
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=input.len());
        match random.u8(0..6) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(0..8),
            1 if at < input.len() => input[at] = *random.choice(&CORNERS).expect("some"),
            2 if at < input.len() => drop(input.remove(at)),
            3 => input.insert(at, random.u8(..)),
            4 if !other.is_empty() => {
                let from = random.usize(0..other.len());
                let to = random.usize(from..=other.len().min(from + 64));
                input.splice(at..at, other[from..to].iter().copied());
            }
            _ => input.truncate(at.max(1)),
        }
    }
    input.truncate(LONGEST);
}

fn replay(target: &str, run: Run) {
    let corpus = files(&root().join("fuzz/corpus").join(target));
    assert!(!corpus.is_empty());
    let goes = |input: &[u8]| panic::catch_unwind(|| run(input)).is_ok();
    for (file, input) in &corpus {
        assert!(goes(input), "{}", file.display());
    }
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..MUTATED {
        let [one, other] = [(); 2].map(|()| &random.choice(&corpus).expect("some").1);
        let mut input = one.clone();
        mutate(&mut random, &mut input, other);
        assert!(goes(&input), "{target} of {}", STANDARD.encode(&input));
    }
}

/// What the server told in the test vectors, as a gateway would say it.
fn vectors() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (file, text) in files(&root().join("proto/testdata")) {
        if !file
            .to_str()
            .is_some_and(|name| name.ends_with("_columns.json") || name.ends_with("/columns.json"))
        {
            continue;
        }
        let json: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
        let steps = json["steps"].as_array().expect("steps");
        let updates = steps.iter().flat_map(|step| step["updates"].as_array().expect("updates"));
        let message = |update: &serde_json::Value| {
            let binary = STANDARD.decode(update["binary"].as_str()?).ok()?;
            let changes = match proto::SessionUpdate::decode(&*binary).ok()?.body? {
                Body::Snapshot(snapshot) => snapshot.state?,
                Body::Changes(changes) => changes,
                _ => return None,
            };
            let proto::Changes { dictionary, blocks, .. } = changes;
            let request = proto::GatewayRequest { dictionary, blocks, ..Default::default() };
            Some(request.encode_to_vec()).filter(|message| !message.is_empty())
        };
        let messages: Vec<_> = updates.filter_map(message).filter(|it| it.len() < 1024).collect();
        let input = |messages: &[Vec<u8>]| [vec![0], fuzz::bytes::joined(messages)].concat();
        inputs.extend(messages.chunks(4).map(input));
    }
    inputs
}

#[test]
fn inputs_to_begin_with() {
    let mut gateways = gateway::seeds();
    let vectors = vectors();
    assert!(!vectors.is_empty());
    gateways.extend(vectors.into_iter().map(|input| ("vector", input)));
    let of_targets: [(&str, Run, Vec<Seed>); 3] = [
        ("columns", columns::run, columns::seeds()),
        ("gateway", gateway::run, gateways),
        ("stream_user_props", stream_user_props::run, stream_user_props::seeds()),
    ];
    let writes = std::env::var("CORPUS").is_ok_and(|it| it == "write");
    for (target, run, seeds) in of_targets {
        for (at, (name, input)) in seeds.into_iter().enumerate() {
            run(&input);
            if writes {
                let folder = root().join("fuzz/corpus").join(target);
                fs::create_dir_all(&folder).expect("there is room");
                fs::write(folder.join(format!("seed_{at}_{name}")), input).expect("there is room");
            }
        }
    }
}

#[test]
fn columns_lead_to_what_names_lead_to() {
    replay("columns", columns::run);
}

#[test]
fn a_gateway_writes_what_its_messages_say_or_nothing() {
    replay("gateway", gateway::run);
}

#[test]
fn a_stream_writes_what_its_messages_say_or_nothing() {
    replay("stream_user_props", stream_user_props::run);
}
