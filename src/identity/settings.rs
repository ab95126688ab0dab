//! The file that says who may call: issuers and their keys, API keys, certificates, revocations.

use super::{
    algorithm::{Algorithm, Family},
    certificate, fetch,
    file::{self, Files, Privacy},
    grant::{Kind, Scope},
    issuer::Issuer,
    jwks::{self, Place},
    key::{KID_BYTES, VerifyingKey, print},
    key_file::KeyFile,
    reading::{Fault, Faults, Section},
    revocation::{MAX_BEFORE, MAX_SINGLE, Revocation, Set},
    source::{Source, SourceSettings},
};
use crate::session::{
    ids::{AppId, UserId},
    limits::{Micros, SECOND},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How many issuers there may be, and how many keys of each.
const MAX_ISSUERS: usize = 32;
const MAX_KEYS: usize = 32;

/// How many entries the table of certificates may have.
const MAX_CERTIFICATES: usize = 10_000;

/// The longest text of a setting, in bytes.
const TEXT_BYTES: usize = 2048;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How far clocks may differ, unless the settings say.
const LEEWAY: Micros = 30 * SECOND;

/// How far away the end of a token may be, unless the settings say.
const LONGEST_LIFE: Micros = 30 * 24 * 60 * 60 * SECOND;

/// Who may call.
#[derive(Debug)]
pub struct Settings {
    /// How far clocks may differ.
    pub leeway: Micros,
    /// How far away the end of a token may be.
    pub longest_life: Micros,
    /// Who issues tokens.
    pub issuers: Vec<Issuer>,
    /// The API keys.
    pub keys: KeyFile,
    /// The table of client certificates.
    pub certificates: Vec<certificate::Entry>,
    /// What is revoked.
    pub revoked: Arc<Set>,
}

impl Settings {
    /// Reads the file and all that it names, and says which files these are. `old` are the URLs that
    /// are known already: those that stay keep their keys.
    pub fn read(path: &Path, old: &[Arc<Source>]) -> (Files, Result<Self, Vec<Fault>>) {
        let faults = Faults::default();
        let reader = Reader {
            folder: path.parent().unwrap_or(Path::new("")),
            files: RefCell::default(),
            faults: &faults,
            old,
        };
        let settings = reader.settings(path);
        let files = reader.files.into_inner();
        let faults = faults.into_inner();
        (files, settings.filter(|_| faults.is_empty()).ok_or(faults))
    }

    /// All URLs.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.issuers.iter().flat_map(|issuer| &issuer.sources)
    }
}

struct Reader<'a> {
    folder: &'a Path,
    files: RefCell<Files>,
    faults: &'a Faults,
    old: &'a [Arc<Source>],
}

impl Reader<'_> {
    fn settings(&self, path: &Path) -> Option<Settings> {
        self.files.borrow_mut().note(path);
        let text = file::read_text(path, Privacy::Public);
        let text = text.map_err(|fault| self.faults.add("identity", fault)).ok()?;
        let mut root = Section::file(path, &text, self.faults);
        let leeway = root.duration("leeway", Duration::ZERO..=5 * MINUTE).unwrap_or(LEEWAY);
        let longest_life =
            root.duration("max-token-life", MINUTE..=3660 * DAY).unwrap_or(LONGEST_LIFE);
        let keys = root.text("key-file", TEXT_BYTES).map(|name| self.key_file(&name));
        let mut issuers: Vec<Issuer> = Vec::new();
        for (number, section) in root.sections("issuers", MAX_ISSUERS).into_iter().enumerate() {
            let Some(issuer) = self.issuer(section, number) else { continue };
            if issuers.iter().any(|other| other.name == issuer.name) {
                root.fault("issuers", format!("two have the name {:?}", issuer.name));
            }
            let are_two = |other: &&Issuer| other.name != issuer.name;
            let alike = issuers.iter().filter(are_two).filter(|other| other.shares_key(&issuer));
            for other in alike {
                let names = format!("{:?} and {:?}", other.name, issuer.name);
                let fault =
                    "have the same key: what one of them issues the other could have issued";
                root.fault("issuers", format!("{names} {fault}"));
            }
            issuers.push(issuer);
        }
        let certificates = root.sections("certificates", MAX_CERTIFICATES);
        let certificates: Vec<_> = certificates.into_iter().filter_map(certificate).collect();
        let revoked = root.section("revocations").map(|section| revocations(section, &issuers));
        let is_empty = issuers.is_empty() && keys.is_none() && certificates.is_empty();
        if is_empty && !root.has_faults() {
            root.fault_here("nobody could call: give issuers, a key-file or certificates");
        }
        root.end();
        Some(Settings {
            leeway,
            longest_life,
            issuers,
            keys: keys.unwrap_or_default(),
            certificates,
            revoked: Arc::new(revoked.unwrap_or_default()),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        self.files.borrow_mut().note(&path);
        path
    }

    fn key_file(&self, name: &str) -> KeyFile {
        let faults = |faults: Vec<Fault>| {
            for fault in faults {
                self.faults.add("key-file", fault);
            }
        };
        KeyFile::open(&self.path(name)).map_err(faults).unwrap_or_default()
    }

    fn issuer(&self, mut section: Section<'_>, number: usize) -> Option<Issuer> {
        let iss = section.text("issuer", TEXT_BYTES);
        let name = section.text("name", 128).or_else(|| iss.clone());
        let name = name.unwrap_or_else(|| format!("issuer {}", number + 1));
        let audiences = section.texts("audiences", TEXT_BYTES).unwrap_or_default();
        let typ = section.text("typ", 128);
        let apps = section.apps("apps");
        let scopes = section.value("scopes", "a list of user, backend, app and read", |value| {
            let scope = |it: &toml::Value| Scope::read(it.as_str()?);
            let scopes: Option<BTreeSet<_>> = value.as_array()?.iter().map(scope).collect();
            scopes.filter(|scopes| !scopes.is_empty())
        });
        let scopes = scopes.unwrap_or_else(|| BTreeSet::from([Scope::User]));
        let (mut keys, mut sources) = (Vec::new(), Vec::new());
        let sections = section.sections("keys", MAX_KEYS);
        if sections.is_empty() {
            section.fault("keys", "at least one must be given");
        }
        for section in sections {
            match self.key(section) {
                Some(Keys::Here(found)) => keys.extend(found.into_iter().map(Arc::new)),
                Some(Keys::At(settings)) => {
                    let old = self.old.iter().find(|source| source.settings == settings);
                    sources.push(old.cloned().unwrap_or_else(|| Arc::new(Source::new(settings))));
                }
                None => {}
            }
        }
        section.end();
        let apps = apps?;
        let whole = format!("{name:?} {iss:?} {audiences:?} {typ:?} {apps:?} {scopes:?}");
        let print = print(whole.as_bytes());
        let name = name.into();
        Some(Issuer { name, iss, audiences, typ, apps, scopes, keys, sources, print })
    }

    fn key(&self, mut section: Section<'_>) -> Option<Keys> {
        let kid = section.text("kid", KID_BYTES);
        let algorithms = section.value(
            "algorithms",
            "a list of HS256, HS384, HS512, RS256 to RS512, PS256 to PS512, ES256, ES384 and EdDSA",
            |value| {
                let algorithm = |it: &toml::Value| Algorithm::read(it.as_str()?);
                let list: Option<Vec<_>> = value.as_array()?.iter().map(algorithm).collect();
                list.filter(|list| !list.is_empty())
            },
        );
        let algorithms = algorithms.unwrap_or_default();
        let secret = section.text("secret-file", TEXT_BYTES);
        let encoding = section.value("encoding", "text, base64 or hex", |value| {
            value.as_str().filter(|it| ["text", "base64", "hex"].contains(it)).map(str::to_owned)
        });
        let pem = section.text("public-key-file", TEXT_BYTES);
        let set = section.text("jwks-file", TEXT_BYTES);
        let url = section.text("jwks-url", TEXT_BYTES);
        let refresh = section.duration("refresh", MINUTE..=DAY);
        let max_age = section.duration("max-age", MINUTE..=30 * DAY);
        let timeout = section.duration("timeout", Duration::from_millis(100)..=MINUTE / 2);
        let authorities = section.text("ca-file", TEXT_BYTES);
        let given = [&secret, &pem, &set, &url].into_iter().flatten().count();
        if given != 1 {
            section.fault_here("give one of secret-file, public-key-file, jwks-file and jwks-url");
        }
        let is_url = url.is_some();
        let misplaced = [
            ("encoding", encoding.is_some() && secret.is_none(), "secret-file"),
            ("kid", kid.is_some() && (set.is_some() || is_url), "secret-file and public-key-file"),
            ("refresh", refresh.is_some() && !is_url, "jwks-url"),
            ("max-age", max_age.is_some() && !is_url, "jwks-url"),
            ("timeout", timeout.is_some() && !is_url, "jwks-url"),
            ("ca-file", authorities.is_some() && !is_url, "jwks-url"),
        ];
        for (name, _, of) in misplaced.into_iter().filter(|(_, is_fault, _)| *is_fault) {
            section.fault(name, format!("is only for {of}"));
        }
        let keys = match (secret, pem, set, url) {
            _ if given != 1 => None,
            (Some(name), ..) => {
                let or = if algorithms.is_empty() { vec![Algorithm::HS256] } else { algorithms };
                let key = self.bytes(&name, Privacy::Secret).and_then(|(path, bytes)| {
                    let secret = decoded(&bytes, encoding.as_deref());
                    let key = secret.and_then(|secret| VerifyingKey::secret(&secret, &or));
                    key.map_err(|fault| format!("{} {fault}", path.display()))
                });
                key.map_err(|fault| section.fault("secret-file", fault))
                    .ok()
                    .map(|key| vec![key.called(kid)])
                    .map(Keys::Here)
            }
            (_, Some(name), ..) => {
                let key = self.bytes(&name, Privacy::Public).and_then(|(path, bytes)| {
                    let key = VerifyingKey::pem(&bytes, &algorithms);
                    key.map_err(|fault| format!("{} {fault}", path.display()))
                });
                key.map_err(|fault| section.fault("public-key-file", fault))
                    .ok()
                    .map(|key| vec![key.called(kid)])
                    .map(Keys::Here)
            }
            (_, _, Some(name), _) => {
                // A set with secrets is a secret itself.
                let is_secret = algorithms.iter().any(|it| it.family() == Family::Secret);
                let privacy = if is_secret { Privacy::Secret } else { Privacy::Public };
                let keys = self.bytes(&name, privacy).and_then(|(path, bytes)| {
                    let keys = jwks::read(&bytes, &algorithms, Place::File);
                    keys.map_err(|fault| format!("{} {fault}", path.display()))
                });
                keys.map_err(|fault| section.fault("jwks-file", fault)).ok().map(Keys::Here)
            }
            (.., Some(url)) => {
                let fault = url_fault(&url).or_else(|| {
                    let is_secret = algorithms.iter().any(|it| it.family() == Family::Secret);
                    is_secret.then_some("what is at a URL is no secret: HS algorithms need a file")
                });
                if let Some(fault) = fault {
                    section.fault("jwks-url", fault);
                }
                let authorities = authorities.and_then(|name| {
                    let read = self.bytes(&name, Privacy::Public).and_then(|(path, bytes)| {
                        let is_good = fetch::certificates(&bytes).map(|_| bytes);
                        is_good.map_err(|fault| format!("{} {fault}", path.display()))
                    });
                    read.map_err(|fault| section.fault("ca-file", fault)).ok()
                });
                Some(Keys::At(SourceSettings {
                    url,
                    refresh: refresh.unwrap_or(10 * 60 * SECOND),
                    max_age: max_age.unwrap_or(24 * 60 * 60 * SECOND),
                    timeout: timeout.unwrap_or(5 * SECOND),
                    algorithms,
                    authorities,
                }))
            }
            _ => None,
        };
        section.end();
        keys
    }

    fn bytes(&self, name: &str, privacy: Privacy) -> Result<(PathBuf, Vec<u8>), String> {
        let path = self.path(name);
        let bytes = file::read(&path, privacy)?;
        Ok((path, bytes))
    }
}

enum Keys {
    Here(Vec<VerifyingKey>),
    At(SourceSettings),
}

/// The secret in a file.
pub fn decoded(bytes: &[u8], encoding: Option<&str>) -> Result<Vec<u8>, String> {
    let text = file::secret_of(bytes);
    match encoding {
        Some("base64") => STANDARD.decode(text).map_err(|_| "is not base64".to_owned()),
        Some("hex") => {
            let text = std::str::from_utf8(text).ok().map(str::to_ascii_lowercase);
            text.and_then(|text| super::api_key::unhex(&text)).ok_or("is not hexadecimal".into())
        }
        _ => Ok(text.to_vec()),
    }
}

/// Keys must come from whom they are said to come: over https, or from this machine.
pub fn url_fault(url: &str) -> Option<&'static str> {
    const EXPECTED: &str =
        "expected an https URL without a user (http only to this machine: 127.0.0.1, [::1])";
    let Ok(uri) = url.parse::<ureq::http::Uri>() else { return Some(EXPECTED) };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let is_right = match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_here,
        _ => false,
    };
    let names_somebody = uri.authority().is_some_and(|it| it.as_str().contains('@'));
    (!is_right || names_somebody).then_some(EXPECTED)
}

fn certificate(mut section: Section<'_>) -> Option<certificate::Entry> {
    use certificate::Name;
    let names: Vec<Name> = [
        section.text("subject", TEXT_BYTES).map(Name::Subject),
        section.text("dns", TEXT_BYTES).map(Name::Dns),
        section.text("uri", TEXT_BYTES).map(Name::Uri),
        section.text("email", TEXT_BYTES).map(Name::Email),
    ]
    .into_iter()
    .flatten()
    .collect();
    let name = section.text("name", 128);
    let apps = section.apps("apps");
    let scope = section.scope("scope");
    let user = section.value("user", "the id of a user", |value| UserId::new(value.as_str()?).ok());
    if user.is_some() != (scope == Some(Scope::User)) {
        section.fault("user", "is given with the scope user, and only with it");
    }
    let kind = scope.and_then(|scope| scope.kind_without_user().or(user.map(Kind::User)));
    let [of] = &names[..] else {
        section.fault_here("give one of subject, dns, uri and email");
        return None;
    };
    let (of, text) = match of {
        of @ (Name::Subject(text) | Name::Dns(text) | Name::Uri(text) | Name::Email(text)) => {
            (of.clone(), text.clone())
        }
    };
    section.end();
    Some(certificate::Entry { name: name.unwrap_or(text).into(), of, apps: apps?, kind: kind? })
}

fn revocations(mut section: Section<'_>, issuers: &[Issuer]) -> Set {
    let mut all = Vec::new();
    let of = |texts: Option<BTreeSet<String>>, make: fn(Arc<str>) -> Revocation| {
        texts.into_iter().flatten().map(move |text| make(text.into()))
    };
    all.extend(of(section.texts("tokens", 256), Revocation::Token));
    all.extend(of(section.texts("keys", 256), Revocation::Key));
    for mut section in section.sections("users", MAX_SINGLE) {
        let (app, user) = app_and_user(&mut section);
        match user {
            Some(user) => all.push(Revocation::User { app, user }),
            None => section.fault("user", "must be given"),
        }
        section.end();
    }
    for mut section in section.sections("issued-before", MAX_BEFORE) {
        let (app, user) = app_and_user(&mut section);
        let issuer: Option<Arc<str>> = section.text("issuer", TEXT_BYTES).map(Arc::from);
        if issuer.as_ref().is_some_and(|name| issuers.iter().all(|it| it.name != *name)) {
            section.fault("issuer", "no issuer has this name");
        }
        match section.moment("time") {
            Some(time) => all.push(Revocation::IssuedBefore { app, issuer, user, time }),
            None => section.fault("time", "must be given"),
        }
        section.end();
    }
    if all.len() > MAX_SINGLE {
        section.fault_here(format!("there are {}, more than {MAX_SINGLE}", all.len()));
    }
    section.end();
    Set::of(&all)
}

fn app_and_user(section: &mut Section<'_>) -> (Option<AppId>, Option<UserId>) {
    let app = section.value("app", "the name of an app", |value| AppId::new(value.as_str()?).ok());
    let user = section.value("user", "the id of a user", |value| UserId::new(value.as_str()?).ok());
    (app, user)
}
