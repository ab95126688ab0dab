//! The file of what holds for single apps: which limits they have. It is read again when it changes.

use super::{
    ConfigError,
    kind::{Kind, bytes, count, duration},
    sources::{nearest, way_out},
};
use crate::{
    engine::{AppLimit, AppLimits, AppsSettings},
    session::ids::AppId,
};
use std::{collections::HashMap, fs::File, io, io::Read, path::Path};
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

/// The largest file, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// What the limits of an app are called, and those of all apps that have none of their own.
const LIMITS: &str = "limits";

/// What the apps that are named are called.
const APPS: &str = "apps";

/// What a limit is if there is none.
const NONE: [&str; 2] = ["none", "0"];

/// A limit as an operator meets it.
#[derive(Debug)]
pub struct LimitOfApps {
    /// Its key.
    pub name: &'static str,
    /// What it takes, in words.
    pub takes: String,
}

/// Every limit that apps may have.
pub fn limits_of_apps() -> Vec<LimitOfApps> {
    let told = |limit: AppLimit| LimitOfApps { name: limit.name(), takes: kind(limit).takes };
    AppLimit::ALL.into_iter().map(told).collect()
}

/// The values that a limit may have.
fn kind(limit: AppLimit) -> Kind<Option<u64>> {
    match limit {
        AppLimit::Sessions | AppLimit::Users => or_none(count("1..10000000"), |it| it as u64),
        AppLimit::Members | AppLimit::Streams => or_none(count("1..100000000"), |it| it as u64),
        AppLimit::Updates | AppLimit::Calls => or_none(count("1..10000000"), |it| it as u64),
        AppLimit::BytesIn | AppLimit::BytesOut => {
            or_none(bytes("64KiB..1048576MiB"), |it| it as u64)
        }
        AppLimit::PasswordTime | AppLimit::FunctionTime => {
            or_none(duration("1ms..64s"), |it| it.as_micros() as u64)
        }
    }
}

fn or_none<T: 'static>(kind: Kind<T>, number: fn(T) -> u64) -> Kind<Option<u64>> {
    let Kind { value_name, takes, read } = kind;
    let read = move |text: &str| match text {
        text if NONE.contains(&text) => Some(None),
        text => read(text).map(number).map(Some),
    };
    Kind { value_name, takes: format!("none or {takes}"), read: Box::new(read) }
}

/// Reads the file; every fault is reported.
pub fn read_apps(path: &Path) -> Result<AppsSettings, Vec<ConfigError>> {
    let unreadable = |cause| vec![ConfigError::UnreadableFile { path: path.to_owned(), cause }];
    let text = read_text(path).map_err(unreadable)?;
    let mut reader = Reader { path, text: &text, faults: Vec::new() };
    let settings = reader.settings();
    if reader.faults.is_empty() { Ok(settings) } else { Err(reader.faults) }
}

fn read_text(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        let fault = format!("it has more than {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, fault));
    }
    if text.trim().is_empty() {
        // As one is for a moment that is being written: it would take all limits away.
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty"));
    }
    Ok(text)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    faults: Vec<ConfigError>,
}

/// Keys in the order of the file, with where they are.
type Entries<'a> = Vec<(String, usize, DeValue<'a>)>;

impl<'a> Reader<'a> {
    fn settings(&mut self) -> AppsSettings {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let place = self.place(error.span().map_or(0, |span| span.start));
            self.faults.push(ConfigError::NotToml { place, message: error.message().to_owned() });
        }
        if !errors.is_empty() {
            return AppsSettings::default();
        }
        let mut settings = AppsSettings::default();
        let mut apps = Vec::new();
        for (key, at, value) in entries(table.into_inner()) {
            match &*key {
                LIMITS => settings.others = self.limits(&key, at, value, AppLimits::default()),
                APPS => apps = self.table(&key, at, value),
                _ => self.unknown(at, key, &[LIMITS, APPS]),
            }
        }
        let mut named = HashMap::new();
        for (name, at, value) in apps {
            let of_app = format!("{APPS}.{name}");
            // Elsewhere this word means all apps; here those have a table of their own.
            let app = AppId::new(&name).ok().filter(|_| name != "*");
            if app.is_none() {
                let takes =
                    "the id of an app, of 1 to 128 bytes without control characters, and not *";
                self.wrong(APPS, at, name, takes.to_owned());
            }
            let mut limits = settings.others;
            for (key, at, value) in self.table(&of_app, at, value) {
                match &*key {
                    LIMITS => limits = self.limits(&format!("{of_app}.{key}"), at, value, limits),
                    _ => self.unknown(at, key, &[LIMITS]),
                }
            }
            named.extend(app.map(|app| (app, limits)));
        }
        settings.named = named;
        settings
    }

    /// Limits that are those of all apps where nothing else is said.
    fn limits(
        &mut self,
        table: &str,
        at: usize,
        value: DeValue<'a>,
        mut limits: AppLimits,
    ) -> AppLimits {
        for (key, at, value) in self.table(table, at, value) {
            let Some(limit) = AppLimit::ALL.into_iter().find(|limit| limit.name() == key) else {
                self.unknown(at, key, &AppLimit::ALL.map(AppLimit::name));
                continue;
            };
            let kind = kind(limit);
            let text = text_of(&value);
            match text.as_deref().and_then(|text| (kind.read)(text)) {
                Some(most) => limits.set(limit, most),
                None => {
                    let text = text.unwrap_or_else(|| "a value of another type".to_owned());
                    self.wrong(limit.name(), at, text, kind.takes);
                }
            }
        }
        limits
    }

    fn table(&mut self, name: &str, at: usize, value: DeValue<'a>) -> Entries<'a> {
        if let DeValue::Table(table) = value {
            return entries(table);
        }
        let message = format!("{name} must be a table");
        self.faults.push(ConfigError::NotToml { place: self.place(at), message });
        Vec::new()
    }

    fn unknown(&mut self, at: usize, key: String, known: &[&'static str]) {
        let all = format!("there is {}", known.join(", "));
        let way_out = way_out(nearest(&key, known.iter().copied()), &all);
        self.faults.push(ConfigError::UnknownKey { place: self.place(at), key, way_out });
    }

    fn wrong(&mut self, name: &'static str, at: usize, value: String, takes: String) {
        let place = self.place(at);
        self.faults.push(ConfigError::WrongValue { name, value, place, takes });
    }

    fn place(&self, at: usize) -> String {
        let line = 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        format!("{}:{line}", self.path.display())
    }
}

fn entries<'a>(table: DeTable<'a>) -> Entries<'a> {
    let entry = |(key, value): (Spanned<DeString<'a>>, Spanned<DeValue<'a>>)| {
        let at = key.span().start;
        (key.into_inner().into_owned(), at, value.into_inner())
    };
    let mut entries: Vec<_> = table.into_iter().map(entry).collect();
    entries.sort_by_key(|(_, at, _)| *at);
    entries
}

/// A string or an integer, as a text.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|it| it.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn read(text: &str) -> Result<AppsSettings, Vec<String>> {
        let path = PathBuf::from("apps.toml");
        let mut reader = Reader { path: &path, text, faults: Vec::new() };
        let settings = reader.settings();
        let faults: Vec<_> = reader.faults.iter().map(ToString::to_string).collect();
        if faults.is_empty() { Ok(settings) } else { Err(faults) }
    }

    #[test]
    fn an_app_has_the_limits_of_all_where_it_has_none_of_its_own() {
        let text = r#"
            [limits]
            sessions = 10
            bytes-out-per-second = "1MiB"
            password-time-per-second = "500ms"

            [apps.games.limits]
            sessions = "none"
            streams = 1_000

            [apps."chat rooms".limits]
            bytes-out-per-second = 0

            [apps.usual]
        "#;
        let settings = read(text).expect("it is fine");
        let all = AppLimits::default()
            .with(AppLimit::Sessions, 10)
            .with(AppLimit::BytesOut, 1 << 20)
            .with(AppLimit::PasswordTime, 500_000);
        assert_eq!(settings.others, all);
        let of = |app: &str| settings.named[&AppId::new(app).expect("an id")];
        let mut games = all.with(AppLimit::Streams, 1000);
        games.set(AppLimit::Sessions, None);
        assert_eq!(of("games"), games);
        let mut chat = all;
        chat.set(AppLimit::BytesOut, None);
        assert_eq!((of("chat rooms"), of("usual")), (chat, all));
        assert_eq!(read("[limits]"), Ok(AppsSettings::default()));
    }

    #[test]
    fn every_fault_is_told_with_its_line() {
        let text = "[limits]\nsession = 1\nusers = -1\nstreams = true\n\
                    bytes-in-per-second = \"1KiB\"\n[apps.\"\".limits]\n[apps.a]\nlimit = 1\n\
                    [apps]\nb = 1\n[other]\n";
        let faults = read(text).expect_err("it is not");
        let faults = faults.join("\n");
        for told in [
            "apps.toml:2: there is no setting \"session\"; the nearest is \"sessions\"",
            "users cannot be \"-1\" (from apps.toml:3): expected none or a count in 1..10000000",
            "streams cannot be \"a value of another type\" (from apps.toml:4)",
            "bytes-in-per-second cannot be \"1KiB\" (from apps.toml:5): expected none or a size in",
            "apps cannot be \"\" (from apps.toml:6)",
            "apps.toml:8: there is no setting \"limit\"; the nearest is \"limits\"",
            "apps.toml:10: apps.b must be a table",
            "apps.toml:11: there is no setting \"other\"",
        ] {
            assert!(faults.contains(told), "{told}\n is not in\n{faults}");
        }
        let [fault] = &*read("[limits\n").expect_err("it is no TOML") else { panic!("one") };
        assert!(fault.starts_with("apps.toml:1: "), "{fault}");
    }

    #[test]
    fn every_limit_takes_its_ends_and_nothing_beyond() {
        for limit in AppLimit::ALL {
            let kind = kind(limit);
            let range = kind.takes.rsplit(' ').next().expect("it ends with a range");
            let (least, most) = range.split_once("..").expect("two ends");
            for fits in [least, most, "none", "0"] {
                assert!((kind.read)(fits).is_some(), "{limit:?} {fits}");
            }
            for beyond in ["-1", "", "1000000000000000000000", "9999h"] {
                assert!((kind.read)(beyond).is_none(), "{limit:?} {beyond}");
            }
        }
    }
}
