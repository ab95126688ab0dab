//! The file of rules and hooks.

use super::{
    AppRule, Policy,
    call::{Address, Secret},
    hook::Hook,
    lanes::Bounds,
};
use crate::{
    engine::rule::{NAME_BYTES, Rule},
    expression::SOURCE_BYTES,
    identity::{
        Apps, Fault, fetch,
        file::{self, Files, Privacy},
        reading::{Faults, Section},
    },
    session::{
        ids::Key,
        judging::{self, Operation, Operations},
        limits::{Micros, SECOND},
        role::Role,
    },
};
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How many rules there may be, and how many hooks.
const MAX_RULES: usize = 64;
const MAX_HOOKS: usize = 16;

/// The longest text of a setting, in bytes.
const TEXT_BYTES: usize = 2048;

/// Bytes of a secret to sign with, at most.
const SECRET_BYTES: usize = 4096;

/// What a hook is set to.
#[derive(Debug, PartialEq)]
pub struct HookSettings {
    /// How it is called.
    pub name: Arc<str>,
    /// What it has a say in.
    pub on: Operations,
    /// In which apps.
    pub apps: Apps,
    /// Where the backend is.
    pub address: Address,
    /// The authorities that its certificate is judged by, in PEM; none = the web's.
    pub authorities: Option<Vec<u8>>,
    /// How the backend knows who asks.
    pub secret: Option<Secret>,
    /// How long it has for an answer, waiting for a place included.
    pub timeout: Micros,
    /// What is asked for passes where the backend cannot be asked.
    pub lets_pass: bool,
    /// How much is asked at a time.
    pub bounds: Bounds,
    /// After so many failures in a row it is not asked for a while.
    pub failures: u32,
    /// For so long.
    pub open_for: Micros,
    /// For how long an answer is remembered; 0 = it is not.
    pub cache: Micros,
    /// The highest role that it may give.
    pub max_role: Role,
}

/// Where files are named, and which of them were read.
struct Folder<'a> {
    path: &'a Path,
    files: RefCell<Files>,
}

impl Folder<'_> {
    fn file(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        self.files.borrow_mut().note(&path);
        path
    }
}

/// Reads the file and all that it names, and says which files these are. `known` are hooks that stay if
/// they are set to the same.
pub fn read(path: &Path, known: &[Arc<Hook>]) -> (Files, Result<Policy, Vec<Fault>>) {
    let faults = Faults::default();
    let folder = Folder { path: path.parent().unwrap_or(Path::new("")), files: RefCell::default() };
    folder.files.borrow_mut().note(path);
    let read = policy(path, &folder, &faults);
    let mut faults = faults.into_inner();
    let mut hooks = Vec::new();
    // No backend is prepared for what will not be in force.
    let (rules, settings) = read.filter(|_| faults.is_empty()).unwrap_or_default();
    for settings in settings {
        let same = known.iter().find(|hook| hook.is_set_to(&settings));
        let name = settings.name.clone();
        match same.cloned().map_or_else(|| Hook::new(settings).map(Arc::new), Ok) {
            Ok(hook) => hooks.push(hook),
            Err(fault) => faults.push(Fault(format!("hooks: {name}: {fault}"))),
        }
    }
    let policy = if faults.is_empty() { Ok(Policy { rules, hooks }) } else { Err(faults) };
    (folder.files.into_inner(), policy)
}

fn policy(
    path: &Path,
    folder: &Folder<'_>,
    faults: &Faults,
) -> Option<(Vec<AppRule>, Vec<HookSettings>)> {
    let text = file::read_text(path, Privacy::Public);
    let text = text.map_err(|fault| faults.add("policy", fault)).ok()?;
    let mut root = Section::file(path, &text, faults);
    let mut rules: Vec<AppRule> = Vec::new();
    for section in root.sections("rules", MAX_RULES) {
        let Some(rule) = rule(section) else { continue };
        if rules.iter().any(|other| other.rule.name() == rule.rule.name()) {
            root.fault("rules", format!("two have the name {:?}", rule.rule.name()));
        }
        rules.push(rule);
    }
    let mut hooks: Vec<HookSettings> = Vec::new();
    for (number, section) in root.sections("hooks", MAX_HOOKS).into_iter().enumerate() {
        let Some(hook) = hook(section, folder, number) else { continue };
        if hooks.iter().any(|other| other.name == hook.name) {
            root.fault("hooks", format!("two have the name {:?}", hook.name));
        }
        hooks.push(hook);
    }
    if !root.has_faults() && rules.is_empty() && hooks.is_empty() {
        root.fault_here("nothing would be judged: give rules or hooks");
    }
    root.end();
    Some((rules, hooks))
}

/// What is judged.
fn operations(section: &mut Section<'_>) -> Option<Operations> {
    let read = |value: &toml::Value| {
        let operation = |it: &toml::Value| {
            let word = it.as_str()?;
            Operation::ALL.into_iter().find(|operation| operation.word() == word)
        };
        let operations: Option<Operations> = value.as_array()?.iter().map(operation).collect();
        operations.filter(|operations| !operations.is_empty())
    };
    let takes = "a list of open, join, write and subscribe";
    section.needed("on", takes, read)
}

fn hook(mut section: Section<'_>, folder: &Folder<'_>, number: usize) -> Option<HookSettings> {
    let second = Duration::from_secs(1);
    let name = section.text("name", NAME_BYTES);
    let name = name.unwrap_or_else(|| format!("hook {}", number + 1));
    let on = operations(&mut section);
    let apps = section.apps("apps");
    let url = section.needed("url", "a URL", |value| value.as_str().map(str::to_owned));
    let address =
        url.and_then(|url| Address::read(&url).map_err(|fault| section.fault("url", fault)).ok());
    if address.as_ref().is_some_and(Address::is_open) {
        // Somebody on the way could answer in its place.
        let fault = "needs TLS (https:// or grpcs://), or a backend on this machine";
        section.fault("url", fault);
    }
    let timeout = section.duration("timeout", Duration::from_millis(10)..=10 * second);
    let lets_pass =
        section.value("on-failure", "refuse or allow", |value| match value.as_str()? {
            "refuse" => Some(false),
            "allow" => Some(true),
            _ => None,
        });
    let max_concurrent = section.count("max-concurrent", 1..=1000);
    let max_waiting = section.count("max-waiting", 0..=100_000);
    let failures = section.count("failures", 1..=1000);
    let open_for = section.duration("open-for", second / 10..=600 * second);
    let cache = section.duration("cache", Duration::ZERO..=3600 * second);
    let max_role = section.value("max-role", "spectator, member, moderator or admin", |value| {
        let roles = [Role::Spectator, Role::Member, Role::Moderator, Role::Admin];
        let word = value.as_str()?;
        roles.into_iter().find(|role| role.to_string() == word)
    });
    let authorities = section.text("ca-file", TEXT_BYTES).and_then(|name| {
        let path = folder.file(&name);
        let read = file::read(&path, Privacy::Public).and_then(|pem| {
            let is_good = fetch::certificates(&pem).map(|_| pem);
            is_good.map_err(|fault| format!("{} {fault}", path.display()))
        });
        read.map_err(|fault| section.fault("ca-file", fault)).ok()
    });
    let secret = secret(&mut section, folder, address.as_ref());
    section.end();
    Some(HookSettings {
        name: name.into(),
        on: on?,
        apps: apps?,
        address: address?,
        authorities,
        secret,
        timeout: timeout.unwrap_or(SECOND),
        lets_pass: lets_pass.unwrap_or(false),
        bounds: Bounds {
            places: max_concurrent.unwrap_or(32),
            waiting: max_waiting.unwrap_or(1024),
        },
        failures: failures.unwrap_or(5) as u32,
        open_for: open_for.unwrap_or(10 * SECOND),
        cache: cache.unwrap_or(0),
        max_role: max_role.unwrap_or(Role::Member),
    })
}

/// How the backend knows who asks.
fn secret(
    section: &mut Section<'_>,
    folder: &Folder<'_>,
    address: Option<&Address>,
) -> Option<Secret> {
    let file = section.text("secret-file", TEXT_BYTES);
    let is_hmac = section.value("secret-as", "bearer or hmac", |value| match value.as_str()? {
        "bearer" => Some(false),
        "hmac" => Some(true),
        _ => None,
    });
    let Some(file) = file else {
        if is_hmac.is_some() {
            section.fault("secret-as", "is only for secret-file");
        }
        return None;
    };
    let is_grpc = address.is_some_and(Address::is_grpc);
    if is_grpc && is_hmac == Some(true) {
        // What a backend is handed is a message: its bytes, which would be signed, it does not see.
        section.fault("secret-as", "hmac is for https:// and http://; over gRPC it is bearer");
        return None;
    }
    let is_hmac = is_hmac.unwrap_or(!is_grpc);
    let path = folder.file(&file);
    let read = match is_hmac {
        true => file::read_hmac_secret(&path, SECRET_BYTES).map(|secret| Secret::hmac(&secret)),
        false => file::read_secret(&path).and_then(|secret| {
            let is_token =
                |text: &String| !text.is_empty() && text.bytes().all(|it| it.is_ascii_graphic());
            let token = String::from_utf8(secret).ok().filter(is_token);
            let token = token.map(Secret::Bearer);
            token.ok_or_else(|| format!("{} is no token: visible ASCII", path.display()))
        }),
    };
    read.map_err(|fault| section.fault("secret-file", fault)).ok()
}

fn rule(mut section: Section<'_>) -> Option<AppRule> {
    let name = section.needed("name", "a name", |value| value.as_str().map(Key::from));
    let on = operations(&mut section);
    let apps = section.apps("apps");
    let text = |value: &toml::Value| value.as_str().map(Key::from);
    let takes = format!("an expression of up to {SOURCE_BYTES} bytes");
    let expression = section.needed("expression", &takes, text);
    let message = section.needed("message", "what is told to whoever is refused", text);
    let rule = match (name, on, expression, message) {
        (Some(name), Some(on), Some(expression), Some(message)) => {
            Rule::new(&judging::Rule { name, on, expression, message })
                .map_err(|faults| faults.into_iter().for_each(|(at, it)| section.fault(at, it)))
                .ok()
        }
        _ => None,
    };
    section.end();
    Some(AppRule { apps: apps?, rule: rule? })
}
