//! The streams of a cluster: one for each partition, made once and never changed from here. One that
//! is not as it would be made is refused, with everything that differs.

use super::{
    Settings,
    api::{Api, ApiError},
};
use crate::log::{LogError, Partition, Seq, space::RESERVE};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The format of what is stored, as the streams' metadata says.
const FORMAT: u64 = 1;

const FORMAT_KEY: &str = "sessiond-format";
const PARTITIONS_KEY: &str = "sessiond-partitions";

/// What operators set of a stream, and the name of that among the settings of a server.
const SET_BY: [(&str, &str); 3] = [
    ("num_replicas", "cluster-replicas"),
    ("max_bytes", "cluster-log-bytes"),
    (PARTITIONS_KEY, "cluster-partitions"),
];

/// How long servers know what was sent already. Later they are asked for it.
const DEDUPLICATION: Duration = Duration::from_secs(120);

/// How often it is looked whether a stream that was made is there.
const APPEARING: Duration = Duration::from_millis(50);

/// In what words a server says that it does not know of enough others yet.
const EARLY: [&str; 2] = ["peer offline", "miscellaneous issue"];

/// A name of a cluster has no more characters.
const MAX_NAME: usize = 32;

/// The most that a stream may take has to leave batches half of it, and the reserve besides.
const LEAST_BYTES: u64 = 2 * RESERVE;

/// The first version of the server that stores several messages as a whole.
const LEAST_VERSION: (u32, u32) = (2, 12);

impl Settings {
    /// Everything that is wrong with them.
    pub(super) fn check(&self) -> Result<(), LogError> {
        let mut faults = Vec::new();
        let is_plain = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '_';
        if !(1..=MAX_NAME).contains(&self.cluster.len()) || !self.cluster.chars().all(is_plain) {
            faults.push(format!(
                "the name of a cluster has 1 to {MAX_NAME} letters, digits, - and _: {:?}",
                self.cluster
            ));
        }
        if !(1..=256).contains(&self.partitions) {
            faults.push(format!("there are 1 to 256 partitions, not {}", self.partitions));
        }
        if !matches!(self.replicas, 1 | 3 | 5) {
            faults.push(format!("there are 1, 3 or 5 replicas, not {}", self.replicas));
        }
        if self.max_bytes < LEAST_BYTES || self.max_bytes > i64::MAX as u64 {
            faults.push(format!(
                "a partition takes at least {LEAST_BYTES} bytes, not {}",
                self.max_bytes
            ));
        }
        if faults.is_empty() { Ok(()) } else { Err(LogError::Unfit(faults.join("; ").into())) }
    }

    /// How the stream of a partition is set, with the name of each setting in NATS, and the value
    /// that a server means if it does not name it.
    fn wanted(&self, partition: Partition) -> Vec<(&'static str, Value, Value)> {
        let all = |begin: String| format!("{begin}>");
        let subjects = json!([
            self.chain(partition),
            all(self.snapshots(partition)),
            all(self.notes(partition)),
        ]);
        let none = Value::Null;
        let window = DEDUPLICATION.as_nanos() as u64;
        vec![
            ("subjects", subjects, none.clone()),
            ("retention", json!("limits"), none.clone()),
            ("storage", json!("file"), none.clone()),
            ("num_replicas", json!(self.replicas), none.clone()),
            ("discard", json!("new"), json!("old")),
            ("max_bytes", json!(self.max_bytes), json!(-1)),
            ("max_age", json!(0), json!(0)),
            ("max_msgs", json!(-1), json!(-1)),
            ("max_msgs_per_subject", json!(-1), json!(-1)),
            ("max_msg_size", json!(-1), json!(-1)),
            ("duplicate_window", json!(window), json!(0)),
            ("deny_delete", json!(true), json!(false)),
            ("deny_purge", json!(false), json!(false)),
            ("allow_rollup_hdrs", json!(true), json!(false)),
            ("allow_direct", json!(true), json!(false)),
            ("allow_atomic", json!(true), json!(false)),
            ("sealed", json!(false), json!(false)),
            ("no_ack", json!(false), json!(false)),
            ("persist_mode", json!("default"), json!("default")),
            ("mirror", none.clone(), none.clone()),
            ("sources", none.clone(), none.clone()),
            ("subject_transform", none.clone(), none.clone()),
            ("republish", none.clone(), none),
        ]
    }

    fn metadata(&self) -> [(&'static str, String); 2] {
        [(FORMAT_KEY, FORMAT.to_string()), (PARTITIONS_KEY, self.partitions.to_string())]
    }

    /// What a server is asked to make.
    fn creation(&self, partition: Partition) -> Value {
        let mut settings = Map::new();
        settings.insert("name".to_owned(), self.stream(partition).into());
        for (name, value, default) in self.wanted(partition) {
            if value != default {
                settings.insert(name.to_owned(), value);
            }
        }
        let metadata = self.metadata().map(|(key, value)| (key.to_owned(), value.into()));
        settings.insert("metadata".to_owned(), Value::Object(metadata.into_iter().collect()));
        settings.into()
    }

    /// Everything in which a stream differs.
    fn differences(&self, partition: Partition, found: &Value) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |name: &str, found: &Value, wanted: &Value| {
            if found != wanted {
                let of = SET_BY.iter().find(|(of, _)| *of == name);
                let of = of.map_or(String::new(), |(_, setting)| format!(" ({setting})"));
                differences.push(format!("{name} is {found}, not {wanted}{of}"));
            }
        };
        for (name, wanted, default) in self.wanted(partition) {
            compare(name, found.get(name).unwrap_or(&default), &wanted);
        }
        for (key, wanted) in self.metadata() {
            let found = found.pointer(&format!("/metadata/{key}")).unwrap_or(&Value::Null);
            compare(key, found, &wanted.into());
        }
        differences
    }
}

/// Sees to it that there is a stream for each partition; returns whether nothing is stored in any. The
/// one of partition 0 is made last: where it is, all others were once, and one that is gone is not made
/// again as if nothing had been in it. All are looked at before one is made.
pub async fn prepare(api: &Api, settings: &Settings) -> Result<bool, LogError> {
    settings.check()?;
    check_server(api).await?;
    let (mut missing, mut is_any_used) = (Vec::new(), false);
    for partition in (0..settings.partitions).map(|it| Partition(it as u8)) {
        match found(api, settings, partition).await? {
            Some(last) => is_any_used |= last > Seq::START,
            None => missing.push(partition),
        }
    }
    let is_first_missing = missing.first() == Some(&Partition(0));
    if is_first_missing && is_any_used {
        // Another node may have made them meanwhile, and begun.
        let mut gone = Vec::new();
        for partition in missing {
            if found(api, settings, partition).await?.is_none() {
                gone.push(partition);
            }
        }
        missing = gone;
    }
    if !missing.is_empty() && (is_any_used || !is_first_missing) {
        return Err(gone(settings, &missing));
    }
    // Partition 0 comes last.
    let first = missing.iter().take(1);
    for &partition in missing.iter().skip(1).chain(first) {
        make(api, settings, partition).await?;
    }
    if settings.replicas == 1 {
        tracing::warn!(
            "cluster {}: one replica of each stream outlives no loss of a server's disk",
            settings.cluster
        );
    }
    Ok(!is_any_used)
}

/// The last place of a stream; none = it is not there. One that is there is as it should be.
async fn found(
    api: &Api,
    settings: &Settings,
    partition: Partition,
) -> Result<Option<Seq>, LogError> {
    let stream = settings.stream(partition);
    let info = api.stream(&stream).await.map_err(|error| api.told(&error))?;
    let Some(info) = info else { return Ok(None) };
    let differences = settings.differences(partition, &info.config);
    if differences.is_empty() {
        return Ok(Some(Seq(info.state.last_seq)));
    }
    Err(LogError::Stream { stream, problem: differences.join(", ").into() })
}

async fn make(api: &Api, settings: &Settings, partition: Partition) -> Result<(), LogError> {
    let stream = settings.stream(partition);
    match api.create(&stream, &settings.creation(partition)).await {
        Ok(()) => {}
        // Somebody else made it meanwhile, in a way of their own.
        Err(ApiError::Refused(10058, _)) => {}
        Err(ApiError::Refused(code, text)) => {
            let problem = format!("it cannot be made: {text}");
            // There are fewer servers than replicas at the moment.
            let is_early = code == 10005 && EARLY.iter().any(|word| text.contains(word));
            return Err(match is_early {
                true => LogError::NotReady(format!("the stream {stream}: {problem}").into()),
                false => LogError::Stream { stream, problem: problem.into() },
            });
        }
        Err(error) => return Err(api.told(&error)),
    }
    // Servers that agree on a stream do not all show it at once, least of all to the process that
    // was second.
    let ends_at = Instant::now() + settings.patience;
    while found(api, settings, partition).await?.is_none() {
        if Instant::now() >= ends_at {
            let why = format!("the stream {stream} is made, and does not appear");
            return Err(LogError::NotReady(why.into()));
        }
        sleep(APPEARING).await;
    }
    Ok(())
}

fn gone(settings: &Settings, partitions: &[Partition]) -> LogError {
    let problem = "it is gone, although others of its cluster are there: restore a backup of it, or \
                   take another name of the cluster to start with nothing";
    let streams: Vec<_> = partitions.iter().map(|it| settings.stream(*it)).collect();
    LogError::Stream { stream: streams.join(", "), problem: problem.into() }
}

async fn check_server(api: &Api) -> Result<(), LogError> {
    let server = api.connection().server();
    let mut parts = server.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let mut faults = Vec::new();
    if version < LEAST_VERSION {
        let (major, minor) = LEAST_VERSION;
        faults.push(format!("version {} is too old: {major}.{minor} or later", server.version));
    }
    let needed = super::MOST_MESSAGE_BYTES;
    if server.max_payload < needed {
        faults.push(format!("max_payload is {}, not {needed} or more", server.max_payload));
    }
    if !faults.is_empty() {
        return Err(LogError::Unfit(faults.join("; ").into()));
    }
    match api.account().await {
        Ok(()) => {}
        Err(ApiError::NoResponders) => return Err(super::api::no_jetstream()),
        Err(error) => return Err(api.told(&error)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { cluster: "test".to_owned(), ..Settings::default() }
    }

    #[test]
    fn a_stream_as_it_is_made_differs_in_nothing() {
        let settings = settings();
        let made = settings.creation(Partition(3));
        assert_eq!(settings.differences(Partition(3), &made), [""; 0]);
        assert!(!settings.differences(Partition(4), &made).is_empty());
    }

    #[test]
    fn every_fault_of_the_settings_is_told() {
        let faulty = Settings {
            cluster: "a.b".to_owned(),
            partitions: 0,
            replicas: 2,
            max_bytes: 1,
            ..settings()
        };
        let error = faulty.check().expect_err("faulty").to_string();
        for part in ["\"a.b\"", "1 to 256 partitions", "1, 3 or 5 replicas", "at least 134217728"] {
            assert!(error.contains(part), "{error}");
        }
        settings().check().expect("the defaults are right");
    }
}
