//! Where values come from: a flag wins over the environment, the environment over the file, the
//! file over the default.

use super::kind::{Kind, SWITCH};
use super::{Config, Setting, settings};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, ValueDeserializer};

/// How much a name has in common with the one that was meant, from 0 to 1.
const LIKE: f64 = 0.4;

/// One reason why the settings cannot be used, in one line.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the fields are named by the messages
pub enum ConfigError {
    /// A value that its setting cannot have.
    #[error("{name} cannot be {:?} (from {place}): expected {takes}", public(.value))]
    WrongValue { name: &'static str, value: String, place: String, takes: String },
    /// A key of the file, or a variable of the environment, that is no setting.
    #[error("{place}: there is no setting {key:?}; {way_out}")]
    UnknownKey { place: String, key: String, way_out: String },
    /// The file is not there or not readable.
    #[error("cannot read the configuration file {path:?}: {cause}")]
    UnreadableFile { path: PathBuf, cause: io::Error },
    /// The file is not TOML.
    #[error("{place}: {message}")]
    NotToml { place: String, message: String },
}

/// What the command line gave `sessiond serve`.
#[derive(Debug, Clone)]
pub struct Given {
    flags: Values,
    file: Option<PathBuf>,
    print_config: bool,
}

impl Given {
    /// What is given to find a server that runs: where it listens, if that is known, and the file.
    pub fn nodes_to_ask(address: Option<String>, file: Option<OsString>) -> Self {
        let place = "the flag --address".to_owned();
        let listen = address.map(|text| ("listen", Value { text, place }));
        let file = file.filter(|path| !path.is_empty()).map(PathBuf::from);
        Given { flags: Values(listen.into_iter().collect()), file, print_config: false }
    }

    /// Adds the environment, the file and the defaults, and reads every setting. The faults of all
    /// places are reported together, also of those that a stronger place hides.
    pub fn resolve(self) -> Result<Resolved, Vec<ConfigError>> {
        let mut faults = Vec::new();
        let file = self.file.map(|path| file_values(&path, &mut faults)).unwrap_or_default();
        let environment = environment_values(&mut faults);
        for place in [&file, &environment, &self.flags] {
            Config::read(place, &mut faults);
        }
        let mut values = file;
        values.override_with(environment);
        values.override_with(self.flags);
        if !faults.is_empty() {
            return Err(faults);
        }
        let config = Config::read(&values, &mut faults).ok_or(faults)?;
        Ok(Resolved { config, print_config: self.print_config, values })
    }
}

/// The settings that hold. Displayed as a configuration file that says where each came from.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The settings.
    pub config: Config,
    /// The operator asked to see the settings, not to serve.
    pub print_config: bool,
    values: Values,
}

impl fmt::Display for Resolved {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut heading = "";
        for setting in settings() {
            if setting.heading != heading {
                let gap = if heading.is_empty() { "" } else { "\n" };
                heading = setting.heading;
                writeln!(out, "{gap}# {heading}")?;
            }
            let Value { text, place } = self.values.of(setting);
            let shown = public(&text);
            let note = if shown == text { "" } else { ", whose password is not shown" };
            writeln!(out, "{} = {} # {place}{note}", setting.name, toml_value(setting, &shown))?;
        }
        Ok(())
    }
}

/// A value without what stands before the hosts of URLs, which may be a password.
fn public(text: &str) -> String {
    let hidden = |part: &str| match part.rsplit_once('@') {
        Some((_, rest)) => format!("***@{rest}"),
        None => part.to_owned(),
    };
    text.split("://").map(hidden).collect::<Vec<_>>().join("://")
}

/// An integer or a switch where the text is one, otherwise a string: all are read back as the same
/// text.
fn toml_value(setting: &Setting, text: &str) -> toml::Value {
    match (text.parse::<i64>(), text.parse::<bool>()) {
        (Ok(number), _) if number.to_string() == text => number.into(),
        (_, Ok(switch)) if setting.value_name == SWITCH => switch.into(),
        _ => text.into(),
    }
}

/// The text of settings, by name; those that are not in here have their defaults.
#[derive(Debug, Clone, Default)]
pub struct Values(HashMap<&'static str, Value>);

#[derive(Debug, Clone)]
struct Value {
    text: String,
    /// Where an operator would go to change it.
    place: String,
}

impl Values {
    pub fn read<T>(&self, name: &str, kind: &Kind<T>) -> Result<T, ConfigError> {
        let setting = settings().iter().find(|it| it.name == name).expect("it is declared");
        let Value { text, place } = self.of(setting);
        (kind.read)(&text).ok_or(ConfigError::WrongValue {
            name: &setting.name,
            value: text,
            place,
            takes: kind.takes.clone(),
        })
    }

    fn of(&self, setting: &'static Setting) -> Value {
        let default = || Value { text: setting.default.clone(), place: "the default".to_owned() };
        self.0.get(setting.name.as_str()).cloned().unwrap_or_else(default)
    }

    fn override_with(&mut self, stronger: Values) {
        self.0.extend(stronger.0);
    }
}

/// What the file says, as far as it can be understood.
fn file_values(path: &Path, faults: &mut Vec<ConfigError>) -> Values {
    let table = read_file(path, faults);
    let entry = |(key, place, value): (String, String, toml::Value)| {
        let setting = setting_called(&key, &place)?;
        let text = text_of(setting, value, &place)?;
        Ok((setting.name.as_str(), Value { text, place }))
    };
    let values = table.into_iter().map(entry);
    Values(values.filter_map(|it| it.map_err(|fault| faults.push(fault)).ok()).collect())
}

/// The keys of the file, in its order, where they are, and their values; as far as it is TOML.
fn read_file(path: &Path, faults: &mut Vec<ConfigError>) -> Vec<(String, String, toml::Value)> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) => {
            faults.push(ConfigError::UnreadableFile { path: path.to_owned(), cause });
            return Vec::new();
        }
    };
    let place_at = |offset| {
        let line = 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        format!("{}:{line}", path.display())
    };
    let mut broken = HashSet::new();
    let mut not_toml = |error: &toml::de::Error| {
        let place = place_at(error.span().map_or(0, |span| span.start));
        broken.insert(place.clone());
        faults.push(ConfigError::NotToml { place, message: error.message().to_owned() });
    };
    let (table, errors) = DeTable::parse_recoverable(&text);
    errors.iter().for_each(&mut not_toml);
    let mut entries: Vec<_> = table.into_inner().into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let read = |(key, value): (Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| {
        let place = place_at(key.span().start);
        let value = toml::Value::deserialize(ValueDeserializer::from(value)).ok()?;
        // What a line that is no TOML seems to say is not what was meant.
        let is_whole = !broken.contains(&place);
        is_whole.then(|| (key.into_inner().into_owned(), place, value))
    };
    entries.into_iter().filter_map(read).collect()
}

/// What the environment says, where an empty variable counts as unset.
fn environment_values(faults: &mut Vec<ConfigError>) -> Values {
    let mut values = Values::default();
    let mut variables: Vec<_> = env::vars_os().filter(|(_, text)| !text.is_empty()).collect();
    variables.sort();
    for (name, text) in variables {
        let (name, text) = (name.to_string_lossy(), text.to_string_lossy());
        let is_ours = name.starts_with(ENV_PREFIX) && name != FILE_ENV;
        // Of a Service `sessiond-blue`: SESSIOND_BLUE_PORT=tcp://10.0.0.1:7000.
        let is_link = name.ends_with("_PORT") && text.contains("://");
        if !is_ours || is_of_kubernetes(&name) || is_link {
            continue;
        }
        let Some(setting) = settings().iter().find(|setting| setting.env == name) else {
            let names = settings().iter().map(|setting| setting.env.as_str()).chain([FILE_ENV]);
            faults.push(ConfigError::UnknownKey {
                place: "the environment".to_owned(),
                way_out: way_out(nearest(&name, names), LIST),
                key: name.into_owned(),
            });
            continue;
        };
        let text = text.into_owned();
        let place = format!("the environment variable {}", setting.env);
        values.0.insert(&setting.name, Value { text, place });
    }
    values
}

/// Whether Kubernetes sets this variable in every pod beside a Service called `sessiond`, or called
/// `sessiond-` and more: SESSIOND_PORT, SESSIOND_PORT_7000_TCP, SESSIOND_SERVICE_HOST and the like.
pub fn is_of_kubernetes(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(ENV_PREFIX) else { return false };
    let is_of_service = |rest: &str| {
        let port = rest.strip_prefix("PORT_").and_then(|rest| rest.split_once('_'));
        let is_port = port.is_some_and(|(port, protocol)| {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            is_number && ["TCP", "UDP", "SCTP"].iter().any(|it| protocol.starts_with(it))
        });
        is_port || rest.starts_with("SERVICE_HOST") || rest.starts_with("SERVICE_PORT")
    };
    let ends = rest.match_indices('_').map(|(at, _)| &rest[at + 1..]);
    let is_own = rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_");
    is_own || ends.into_iter().any(is_of_service)
}

fn setting_called(key: &str, place: &str) -> Result<&'static Setting, ConfigError> {
    settings().iter().find(|setting| setting.name == key).ok_or_else(|| ConfigError::UnknownKey {
        place: place.to_owned(),
        key: key.to_owned(),
        way_out: way_out(nearest(key, settings().iter().map(|it| it.name.as_str())), LIST),
    })
}

/// The name that was meant, if one is like it.
pub fn nearest(name: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let own = |name: &str| name.strip_prefix(ENV_PREFIX).unwrap_or(name).to_owned();
    let likeness = |it: &str| strsim::normalized_damerau_levenshtein(&own(it), &own(name));
    let all = names.map(|it| (likeness(it), it)).filter(|(likeness, _)| *likeness >= LIKE);
    all.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, nearest)| nearest)
}

/// What to do about a name that there is not: the one that was meant, or else where all are.
pub fn way_out(nearest: Option<&'static str>, all: &str) -> String {
    nearest.map_or_else(|| all.to_owned(), |nearest| format!("the nearest is {nearest:?}"))
}

fn text_of(
    setting: &'static Setting,
    value: toml::Value,
    place: &str,
) -> Result<String, ConfigError> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(switch) if setting.value_name == SWITCH => Ok(switch.to_string()),
        other => Err(ConfigError::WrongValue {
            name: &setting.name,
            value: other.to_string(),
            place: place.to_owned(),
            takes: format!("{}, as a string or an integer", setting.takes),
        }),
    }
}

const FILE: &str = "config";
const FILE_ENV: &str = "SESSIOND_CONFIG";
const ENV_PREFIX: &str = "SESSIOND_";
const PRINT: &str = "print-config";
/// Where all settings are.
const LIST: &str = "sessiond serve --help lists all";

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        let file = text_argument(FILE, FILE_ENV)
            .value_name("FILE")
            .help("Read settings from this TOML file; flags and the environment win over it");
        let print = Arg::new(PRINT)
            .long(PRINT)
            .action(ArgAction::SetTrue)
            .help("Print the settings that hold, and where each comes from, as TOML, and exit");
        command.next_line_help(true).arg(file).arg(print).args(settings().iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let argument = text_argument(&setting.name, &setting.env);
    // A switch that is named is on.
    let argument = match setting.value_name == SWITCH {
        true => argument.num_args(0..=1).default_missing_value("true"),
        false => argument,
    };
    argument
        .value_name(setting.value_name)
        .help_heading(setting.heading)
        .help(format!("{} [{}]", setting.help, setting.takes))
        .default_value(setting.default.as_str())
}

/// Values are taken as they come: [`Values::read`] judges them all alike, from wherever they are.
fn text_argument(name: &'static str, env: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .env(env)
        .hide_env_values(true)
        .allow_negative_numbers(true)
        .value_parser(value_parser!(OsString))
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flag = |setting: &'static Setting| {
            let (text, source) = given(matches, &setting.name)?;
            let place = format!("the flag --{}", setting.name);
            let text = text.to_string_lossy().into_owned();
            let value = (setting.name.as_str(), Value { text, place });
            // The environment is read on its own, so that a flag hides none of its faults.
            (source == ValueSource::CommandLine).then_some(value)
        };
        Ok(Given {
            flags: Values(settings().iter().filter_map(flag).collect()),
            file: given(matches, FILE).map(|(path, _)| path.into()),
            print_config: matches.get_flag(PRINT),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What was given by a flag or by the environment, where an empty variable counts as unset.
fn given(matches: &ArgMatches, name: &str) -> Option<(OsString, ValueSource)> {
    let text: &OsString = matches.get_one(name)?;
    match matches.value_source(name)? {
        ValueSource::EnvVariable if text.is_empty() => None,
        ValueSource::DefaultValue => None,
        source => Some((text.clone(), source)),
    }
}
