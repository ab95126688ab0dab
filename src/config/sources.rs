//! Where values come from: a flag wins over the environment, the environment over the file, the
//! file over the default.

use super::kind::{Kind, SWITCH};
use super::{Config, Setting, settings};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};
use toml::Spanned;

/// Why the settings cannot be used, in one line.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the fields are named by the messages
pub enum ConfigError {
    /// A value that its setting cannot have.
    #[error("{name} cannot be {value:?} (from {place}): expected {takes}")]
    WrongValue { name: &'static str, value: String, place: String, takes: String },
    /// A key of the file that is no setting.
    #[error("{place}: there is no setting {key:?}; the nearest is {nearest:?}")]
    UnknownKey { place: String, key: String, nearest: &'static str },
    /// The file is not there or not readable.
    #[error("cannot read the configuration file {path:?}: {cause}")]
    UnreadableFile { path: PathBuf, cause: io::Error },
    /// The file is not TOML.
    #[error("{place}: {message}")]
    NotToml { place: String, message: String },
}

/// What the command line and the environment gave `sessiond serve`.
#[derive(Debug, Clone)]
pub struct Given {
    values: Values,
    file: Option<PathBuf>,
    print_config: bool,
}

impl Given {
    /// Adds the file and the defaults, and reads every setting.
    pub fn resolve(self) -> Result<Resolved, ConfigError> {
        let mut values = Values::defaults();
        if let Some(path) = &self.file {
            values.override_with(file_values(path)?);
            // A mistake in the file is told even while a flag hides it.
            Config::read(&values)?;
        }
        values.override_with(self.values);
        Ok(Resolved { config: Config::read(&values)?, print_config: self.print_config, values })
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
            let Value { text, place } = &self.values.0[setting.name.as_str()];
            writeln!(out, "{} = {} # {place}", setting.name, toml_value(setting, text))?;
        }
        Ok(())
    }
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

/// The text of settings, by name.
#[derive(Debug, Clone)]
pub struct Values(HashMap<&'static str, Value>);

#[derive(Debug, Clone)]
struct Value {
    text: String,
    /// Where an operator would go to change it.
    place: String,
}

impl Values {
    pub fn defaults() -> Self {
        let default = |setting: &'static Setting| {
            let value = Value { text: setting.default.clone(), place: "the default".to_owned() };
            (setting.name.as_str(), value)
        };
        Values(settings().iter().map(default).collect())
    }

    pub fn read<T>(&self, name: &str, kind: &Kind<T>) -> Result<T, ConfigError> {
        let (name, Value { text, place }) = self.0.get_key_value(name).expect("each has a default");
        (kind.read)(text).ok_or_else(|| ConfigError::WrongValue {
            name,
            value: text.clone(),
            place: place.clone(),
            takes: kind.takes.clone(),
        })
    }

    fn override_with(&mut self, stronger: Values) {
        self.0.extend(stronger.0);
    }
}

fn file_values(path: &Path) -> Result<Values, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|cause| ConfigError::UnreadableFile { path: path.to_owned(), cause })?;
    let place_at = |offset| {
        let line = 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        format!("{}:{line}", path.display())
    };
    let table: BTreeMap<Spanned<String>, Spanned<toml::Value>> =
        toml::from_str(&text).map_err(|error| ConfigError::NotToml {
            place: place_at(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
    let entry = |(key, value): (Spanned<String>, Spanned<toml::Value>)| {
        let place = place_at(key.span().start);
        let setting = setting_called(key.get_ref(), &place)?;
        let text = text_of(setting, value.into_inner(), &place)?;
        Ok((setting.name.as_str(), Value { text, place }))
    };
    table.into_iter().map(entry).collect::<Result<_, _>>().map(Values)
}

fn setting_called(key: &str, place: &str) -> Result<&'static Setting, ConfigError> {
    settings().iter().find(|setting| setting.name == key).ok_or_else(|| ConfigError::UnknownKey {
        place: place.to_owned(),
        key: key.to_owned(),
        nearest: nearest_name(key),
    })
}

fn nearest_name(key: &str) -> &'static str {
    let names = settings().iter().map(|setting| setting.name.as_str());
    names.min_by_key(|name| strsim::damerau_levenshtein(name, key)).expect("there are settings")
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
const PRINT: &str = "print-config";

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
    text_argument(&setting.name, &setting.env)
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
        let value = |setting: &'static Setting| {
            let (text, source) = given(matches, &setting.name)?;
            let place = match source {
                ValueSource::CommandLine => format!("the flag --{}", setting.name),
                _ => format!("the environment variable {}", setting.env),
            };
            let text = text.to_string_lossy().into_owned();
            Some((setting.name.as_str(), Value { text, place }))
        };
        Ok(Given {
            values: Values(settings().iter().filter_map(value).collect()),
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
