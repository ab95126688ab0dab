//! The file that says where events are pushed to.

use super::signature::Secret;
use crate::{
    identity::{
        Apps, Fault, fetch, file,
        reading::{Faults, Section},
        url_fault,
    },
    proto::EventKind,
    session::limits::{Micros, SECOND},
};
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

/// How many webhooks there may be.
const MOST: usize = 16;

/// How many secrets a webhook may have at a time: a new one and the one before.
const SECRETS: usize = 2;

/// The longest text, in bytes.
const TEXT_BYTES: usize = 2048;

/// The most requests of a webhook at a time.
const MOST_AT_A_TIME: u64 = 32;

/// Where events are pushed to.
#[derive(Debug)]
pub struct WebhookSettings {
    /// What it is called in the log.
    pub name: Arc<str>,
    /// Where to.
    pub url: String,
    /// Of which apps.
    pub apps: Apps,
    /// Of which kinds; empty = of all.
    pub kinds: BTreeSet<i32>,
    /// What requests are signed with: all of them, so that the receiver may know any.
    pub secrets: Vec<Secret>,
    /// How long a request may take.
    pub timeout: Micros,
    /// How long after the first failure an event is tried again; after each further one twice as
    /// long.
    pub retry_delay: Micros,
    /// For how long an event is tried.
    pub retry_for: Micros,
    /// How many requests there may be at a time.
    pub concurrency: usize,
    /// The authorities that the certificate is judged by, in PEM; none = the web's.
    pub authorities: Option<Vec<u8>>,
}

/// Reads a file of webhooks and the files that it names. Every fault is reported.
pub fn read(path: &Path) -> Result<Vec<WebhookSettings>, Vec<Fault>> {
    let faults = Faults::default();
    let mut webhooks: Vec<WebhookSettings> = Vec::new();
    match file::read_text(path, file::Privacy::Public) {
        Err(fault) => faults.add("webhooks", fault),
        Ok(text) => {
            let mut root = Section::file(path, &text, &faults);
            let folder = path.parent().unwrap_or(Path::new(""));
            for section in root.sections("webhooks", MOST) {
                let Some(webhook) = webhook(section, folder) else { continue };
                if webhooks.iter().any(|other| other.name == webhook.name) {
                    root.fault("webhooks", format!("two have the name {:?}", webhook.name));
                }
                webhooks.push(webhook);
            }
            root.end();
        }
    }
    let faults = faults.into_inner();
    if faults.is_empty() { Ok(webhooks) } else { Err(faults) }
}

fn webhook(mut section: Section<'_>, folder: &Path) -> Option<WebhookSettings> {
    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let name = required(&mut section, "name", 64);
    let url = required(&mut section, "url", TEXT_BYTES);
    if let Some(fault) = url.as_ref().and_then(|url| url_fault(url)) {
        section.fault("url", fault);
    }
    let apps = section.apps("apps");
    let kinds = section.value("kinds", "a list of kinds of events, as USER_JOINED", |value| {
        let kind = |it: &toml::Value| kind_called(it.as_str()?);
        value.as_array().filter(|kinds| !kinds.is_empty())?.iter().map(kind).collect()
    });
    let files = section.texts("secret-files", TEXT_BYTES);
    let secrets: Vec<_> = files.iter().flatten().map(|it| Secret::open(folder.join(it))).collect();
    match &files {
        Some(files) if !(1..=SECRETS).contains(&files.len()) => {
            section.fault("secret-files", format!("expected 1 to {SECRETS} files"));
        }
        None if !section.has_fault("secret-files") => {
            section.fault("secret-files", "must be given");
        }
        _ => {}
    }
    for fault in secrets.iter().filter_map(|it| it.as_ref().err()) {
        section.fault("secret-files", fault);
    }
    let timeout = section.duration("timeout", Duration::from_millis(100)..=MINUTE);
    let retry_delay = section.duration("retry-delay", Duration::from_millis(10)..=MINUTE);
    let retry_for = section.duration("retry-for", Duration::from_secs(1)..=DAY);
    let concurrency = section.value("concurrency", "a count in 1..32", |value| {
        let count = u64::try_from(value.as_integer()?).ok()?;
        (1..=MOST_AT_A_TIME).contains(&count).then_some(count as usize)
    });
    let authorities = section.text("ca-file", TEXT_BYTES).and_then(|name| {
        let pem = file::read(&folder.join(name), file::Privacy::Public);
        let pem = pem.and_then(|pem| fetch::certificates(&pem).map(|_| pem));
        pem.map_err(|fault| section.fault("ca-file", fault)).ok()
    });
    section.end();
    Some(WebhookSettings {
        name: name?.into(),
        url: url?,
        apps: apps?,
        kinds: kinds.unwrap_or_default(),
        secrets: secrets.into_iter().collect::<Result<_, _>>().ok()?,
        timeout: timeout.unwrap_or(10 * SECOND),
        retry_delay: retry_delay.unwrap_or(SECOND),
        retry_for: retry_for.unwrap_or(3600 * SECOND),
        concurrency: concurrency.unwrap_or(4),
        authorities,
    })
}

fn required(section: &mut Section<'_>, key: &'static str, most: usize) -> Option<String> {
    let text = section.text(key, most);
    if text.is_none() && !section.has_fault(key) {
        section.fault(key, "must be given");
    }
    text
}

fn kind_called(name: &str) -> Option<i32> {
    let kind = EventKind::from_str_name(&format!("EVENT_KIND_{name}"))?;
    (kind != EventKind::Unspecified).then_some(kind.into())
}
