//! `sessiond replay`: plays the history of a session to the terminal or into a server.

use super::{
    Result, block_on,
    history::{Change, Owner, Write},
    lines::{Kind, Reader},
    play::Stage,
    print,
    text::{moment, plain},
    value,
};
use crate::{dial::TlsArgs, session::limits::Micros};
use serde_json::{Map, Value as Json};
use std::{
    fs::File,
    io::{BufReader, stdin},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// The most that is waited for a line, so that no sum overflows.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What to play, and where.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The history, as `sessiond store export --session` writes it; - is the standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How fast, as a multiple of the recorded pace; 0 is at once
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// Play it into a session of the server that listens here
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// The id of that session, if not the recorded one
    #[arg(long, value_name = "ID", requires = "to")]
    pub session: Option<String>,
    /// How the server is called, where the URL begins with https://.
    #[command(flatten)]
    pub tls: TlsArgs,
}

fn speed(text: &str) -> std::result::Result<f64, String> {
    let speed = text.parse().ok().filter(|speed: &f64| speed.is_finite() && *speed >= 0.0);
    speed.ok_or_else(|| "expected a number that is not negative".to_owned())
}

/// Does it.
pub fn run(arguments: &ReplayArgs) -> Result<ExitCode> {
    let ReplayArgs { file, speed, to, session, tls } = arguments;
    block_on(async {
        let refused = |error| format!("{}: {error}", file.display());
        let lines = match file.as_os_str() == "-" {
            true => Lines::Standard(Reader::begin(BufReader::new(stdin()), Kind::History)?),
            false => {
                let input =
                    BufReader::new(File::open(file).map_err(|error| refused(error.to_string()))?);
                Lines::File(Reader::begin(input, Kind::History).map_err(refused)?)
            }
        };
        let stage = match to {
            Some(url) => Some(Stage::at(url, session.as_deref(), tls).await?),
            None => None,
        };
        play(lines, *speed, stage).await.map_err(refused)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The lines of a history.
enum Lines {
    File(Reader<BufReader<File>>),
    Standard(Reader<BufReader<std::io::Stdin>>),
}

impl Lines {
    fn next(&mut self) -> Result<Option<(Micros, Change)>> {
        let line: Option<Json> = match self {
            Self::File(lines) => lines.next()?,
            Self::Standard(lines) => lines.next()?,
        };
        line.map(|line| Change::read(&line).map_err(|what| self.fault(what))).transpose()
    }

    fn fault(&self, what: impl std::fmt::Display) -> String {
        match self {
            Self::File(lines) => lines.fault(what),
            Self::Standard(lines) => lines.fault(what),
        }
    }
}

async fn play(mut lines: Lines, speed: f64, mut stage: Option<Stage>) -> Result<()> {
    let began = Instant::now();
    let mut first = None;
    let mut teller = Teller::default();
    while let Some((at, change)) = lines.next()? {
        let first = *first.get_or_insert(at);
        if speed > 0.0 {
            let seconds = at.saturating_sub(first) as f64 / 1e6 / speed;
            let wait = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_WAIT);
            sleep_until(began + wait.min(LONGEST_WAIT)).await;
        }
        match &mut stage {
            Some(stage) => stage.play(&change).await.map_err(|error| lines.fault(error))?,
            None if print(teller.tell(at, &change).as_bytes())? => {}
            None => return Ok(()),
        }
    }
    if let Some(stage) = stage {
        print(format!("{stage}\n").as_bytes())?;
    }
    Ok(())
}

/// Tells changes, a line each.
#[derive(Debug, Default)]
struct Teller {
    /// What was last said of the session.
    session: Map<String, Json>,
}

impl Teller {
    fn tell(&mut self, at: Micros, change: &Change) -> String {
        let told = match change {
            Change::Session(session) => self.session(session),
            Change::Join(user, role) => format!("{} joins as {role}", plain(user)),
            Change::Leave(user, None) => format!("{} leaves", plain(user)),
            Change::Leave(user, Some(how)) => format!("{} leaves: {}", plain(user), plain(how)),
            Change::Status(user, role, disconnected) => {
                let connection = if *disconnected { "disconnected" } else { "connected" };
                format!("{} is {role}, {connection}", plain(user))
            }
            Change::Values(owner, write) => {
                let owner = match owner {
                    Owner::Member(user) => plain(user),
                    Owner::Data => "the session data".to_owned(),
                    Owner::PrivateData => "the private session data".to_owned(),
                };
                format!("{owner}: {}", written(write))
            }
            Change::Person(person) => of_person(person),
            Change::Ended => "the session ends".to_owned(),
        };
        format!("{}  {told}\n", moment(at))
    }

    /// The first time what it is, then what changed.
    fn session(&mut self, session: &Json) -> String {
        let mut now = Map::new();
        flatten(session, &mut now);
        let before = std::mem::replace(&mut self.session, now);
        let told = |name: &str| plain(self.session.get(name).and_then(Json::as_str).unwrap_or("?"));
        if before.is_empty() {
            return format!("session {}/{}, {}", told("app"), told("session"), told("kind"));
        }
        let is_news = |(name, of): &(&String, &Json)| before.get(*name) != Some(*of);
        let one = |(name, of): (&String, &Json)| format!("{name} {of}");
        let news: Vec<_> = self.session.iter().filter(is_news).map(one).collect();
        format!("the session: {}", news.join(", "))
    }
}

/// Settings stand beside what else readers learn of a session.
fn flatten(json: &Json, into: &mut Map<String, Json>) {
    for (name, of) in json.as_object().into_iter().flatten() {
        match name.as_str() {
            "settings" => flatten(of, into),
            _ => drop(into.insert(name.clone(), of.clone())),
        }
    }
}

fn written(write: &Write) -> String {
    let set = write.set.iter().map(|(key, of)| format!("{} {}", plain(key), value::told(of)));
    let removed = write.remove.iter().map(|key| format!("{} removed", plain(key)));
    set.chain(removed).collect::<Vec<_>>().join(", ")
}

fn of_person(person: &Json) -> String {
    let text = |json: &Json| plain(json.as_str().unwrap_or("?"));
    let until = |until: &Json| match until {
        Json::Null => "for ever".to_owned(),
        until => format!("until {}", text(until)),
    };
    let role = person.get("role").map(text);
    let ban = person.get("ban");
    let ban = ban.map(|ban| format!("banned {}: {}", until(&ban["until"]), ban["reason"]));
    let seat = person.get("seat_until").map(|at| format!("has a seat {}", until(at)));
    let kept: Vec<_> = role.into_iter().chain(ban).chain(seat).collect();
    let kept = if kept.is_empty() { "nothing".to_owned() } else { kept.join(", ") };
    format!("kept about {}: {kept}", text(&person["user"]))
}
