//! `sessiond store show`: one session in full.

use super::{
    Result, block_on, code,
    contents::{Contents, Known, no_session, session_name},
    json, print,
    seen::{Seated, Seen, Values},
    source,
    store::{Format, ShowArgs},
    text::{count, moment, plain, span},
    value,
};
use crate::session::{
    Info,
    ids::{Key, UserId},
    record::{Begin, Birth, Connection, Person},
    replica::Replica,
    settings::{Keys, Settings},
};
use serde_json::{Value as Json, json};
use std::process::ExitCode;

/// Does it.
pub fn run(arguments: &ShowArgs) -> Result<ExitCode> {
    block_on(async {
        let contents = source::contents(&arguments.store).await?;
        let (session, known) = find(&contents, &arguments.session)?;
        let text = match arguments.format {
            Format::Text => text(session, known),
            Format::Json => format!("{:#}\n", json(session, known)),
        };
        print(text.as_bytes())?;
        Ok(code(contents.faults.is_empty()))
    })
}

/// Ids may have slashes, so that a name may be of several sessions.
fn find<'a>(contents: &'a Contents, name: &str) -> Result<(&'a Replica, &'a Known)> {
    let is_it =
        |(session, _): &(&Replica, &Known)| name == format!("{}/{}", session.app(), session.id());
    let mut found: Vec<_> = contents.sessions().into_iter().filter(is_it).collect();
    match (found.pop(), found.is_empty()) {
        (Some(it), true) => Ok(it),
        (Some(_), false) => Err(format!("several sessions are called {}", plain(name))),
        (None, _) => Err(no_session(name)),
    }
}

fn birth(session: &Replica) -> Option<Birth> {
    match session.snapshot()?.begin {
        Begin::Nothing(birth) => Some(birth),
        Begin::Mark(_) => None,
    }
}

fn json(session: &Replica, known: &Known) -> Json {
    let seen = Seen::of(session);
    let member = |(user, seated): (&UserId, &Seated)| {
        let Seated { order, joined_at, role, disconnected, props } = seated;
        json!({
            "user": **user, "order": json::exact(*order), "joined_at": moment(*joined_at),
            "role": role.to_string(), "disconnected": disconnected, "props": values(props),
        })
    };
    let pair = birth(session).and_then(|birth| birth.pair);
    json!({
        "app": **session.app(), "session": **session.id(), "kind": json::kind_name(session.kind()),
        "pair": pair.as_ref().map(json::pair),
        "opened_at": moment(session.created_at()), "last_change": moment(session.last_frame_at()),
        "epoch": json::exact(session.epoch().0), "revision": json::exact(session.revision().0),
        "has_ended": seen.has_ended, "info": seen.info.as_deref().map(json::info),
        "members": seen.members.iter().map(member).collect::<Vec<_>>(),
        "data": values(&seen.data), "private_data": values(&seen.private_data),
        "people": seen.people.values().map(json::person).collect::<Vec<_>>(),
        "requests": known.requests.len(), "bytes": known.bytes,
    })
}

fn values(values: &Values) -> Json {
    let one = |(key, value): (&Key, &_)| (key.to_string(), value::write(value));
    Json::Object(values.iter().map(one).collect())
}

/// Lines under headings, names beside what they are of.
#[derive(Default)]
struct Page(String);

impl Page {
    fn heading(&mut self, heading: &str) {
        self.0 += &format!("\n{heading}\n");
    }

    fn pairs(&mut self, indent: usize, pairs: &[(impl AsRef<str>, String)]) {
        let width = pairs.iter().map(|(name, _)| name.as_ref().chars().count()).max();
        for (name, of) in pairs {
            let name = name.as_ref();
            let fill = width.unwrap_or_default().saturating_sub(name.chars().count());
            let line = format!("{:indent$}{name}{:fill$}  {of}", "", "");
            self.0 += &format!("{}\n", line.trim_end());
        }
    }

    fn values(&mut self, indent: usize, values: &Values) {
        let one = |(key, value): (&Key, &_)| (plain(key), value::told(value));
        self.pairs(indent, &values.iter().map(one).collect::<Vec<_>>());
    }
}

fn text(session: &Replica, known: &Known) -> String {
    let seen = Seen::of(session);
    let mut page = Page::default();
    let mut about = vec![
        ("session", session_name(session.app(), session.id())),
        ("kind", json::kind_name(session.kind()).to_owned()),
    ];
    if let Some(pair) = birth(session).and_then(|birth| birth.pair) {
        about.push(("between", format!("{} and {}", plain(&pair.source), plain(&pair.listener))));
    }
    about.extend([
        ("opened", moment(session.created_at())),
        ("last change", moment(session.last_frame_at())),
        ("epoch", session.epoch().0.to_string()),
        ("revision", session.revision().to_string()),
        ("stored", count(known.bytes, "byte", "bytes")),
        ("requests", known.requests.len().to_string()),
    ]);
    if seen.has_ended {
        about.push(("ended", "yes".to_owned()));
    }
    if let Some(info) = &seen.info {
        about.extend(of_info(info));
    }
    page.pairs(0, &about);
    if let Some(info) = &seen.info {
        page.heading("settings");
        page.pairs(2, &of_settings(&info.settings));
    }
    page.heading(&count(seen.members.len() as u64, "member", "members"));
    let mut members: Vec<_> = seen.members.iter().collect();
    members.sort_by_key(|(_, seated)| seated.order);
    for (user, seated) in members {
        let connection = seen.people.get(user).and_then(|person| person.connection);
        page.0 += &format!("  {}  {}\n", plain(user), of_member(seated, connection));
        page.values(4, &seated.props);
    }
    for (heading, values) in [("data", &seen.data), ("private data", &seen.private_data)] {
        if !values.is_empty() {
            page.heading(heading);
            page.values(2, values);
        }
    }
    let people: Vec<_> = seen.people.values().filter_map(of_person).collect();
    if !people.is_empty() {
        page.heading("roles, bans and seats");
        page.pairs(2, &people);
    }
    page.0
}

fn of_info(info: &Info) -> Vec<(&'static str, String)> {
    let Info { settings: _, owner, host, term, has_password, schema } = info;
    let user = |user: &UserId| plain(user);
    let yes = |is: bool| Some("yes".to_owned()).filter(|_| is);
    let told = [
        ("owner", owner.as_ref().map(user)),
        ("host", host.as_ref().map(|host| format!("{}, term {term}", plain(host)))),
        ("password", yes(*has_password)),
        ("schema", yes(schema.is_some())),
    ];
    told.into_iter().filter_map(|(name, of)| Some((name, of?))).collect()
}

fn of_settings(settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings {
        name,
        propnames,
        hostprops,
        tick,
        pacing,
        capacity,
        locked,
        unlisted,
        metadata,
        successors,
        host_grace,
        inherit_host_data,
        presence,
        rejoin_grace,
        empty_ttl,
        max_age,
        exclusive,
        data_role,
        reset_role,
        durability,
        rules,
    } = settings;
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let list = |items: Vec<String>, none: &str| match items.is_empty() {
        true => none.to_owned(),
        false => items.join(", "),
    };
    let keys = |keys: &Keys, none: &str| list(keys.iter().map(|key| plain(key)).collect(), none);
    let metadata = metadata.iter().map(|(key, of)| format!("{}={}", plain(key), value::told(of)));
    let presence = presence.map_or("as the join says", json::presence_name);
    let max_age = if *max_age == 0 { "unbounded".to_owned() } else { span(*max_age) };
    vec![
        ("name", name.as_deref().map_or_else(|| "none".to_owned(), plain)),
        ("durability", json::durability_name(*durability).to_owned()),
        ("tick", format!("{}, {}", span(*tick), json::pacing_name(*pacing))),
        ("capacity", capacity.to_string()),
        ("locked", yes(*locked)),
        ("unlisted", yes(*unlisted)),
        ("propnames", keys(propnames, "all")),
        ("hostprops", keys(hostprops, "as propnames")),
        ("metadata", list(metadata.collect(), "none")),
        ("successors", list(successors.iter().map(|user| plain(user)).collect(), "none")),
        ("host grace", span(*host_grace)),
        ("inherit host data", yes(*inherit_host_data)),
        ("presence", presence.to_owned()),
        ("rejoin grace", span(*rejoin_grace)),
        ("empty ttl", span(*empty_ttl)),
        ("max age", max_age),
        ("exclusive", yes(*exclusive)),
        ("data role", data_role.to_string()),
        ("reset role", reset_role.to_string()),
        ("rules", list(rules.iter().map(|rule| plain(&rule.name)).collect(), "none")),
    ]
}

fn of_member(seated: &Seated, connection: Option<Connection>) -> String {
    let Seated { order, joined_at, role, disconnected, props: _ } = seated;
    let presence = connection.map(|connection| json::presence_name(connection.presence));
    let mut words = vec![role.to_string()];
    words.extend(presence.map(str::to_owned));
    words.extend(disconnected.then(|| "disconnected".to_owned()));
    words.push(format!("number {order}, joined {}", moment(*joined_at)));
    words.join(", ")
}

/// None = there is nothing to tell but how it is connected.
fn of_person(person: &Person) -> Option<(String, String)> {
    let Person { user, role, ban, seat, connection: _ } = person;
    let mut words: Vec<_> = role.iter().map(ToString::to_string).collect();
    words.extend(ban.as_ref().map(|ban| {
        let until =
            ban.until.map_or_else(|| "for ever".to_owned(), |at| format!("until {}", moment(at)));
        format!("banned {until}: {:?}", ban.reason)
    }));
    words.extend(seat.map(|at| format!("has a seat until {}", moment(at))));
    (!words.is_empty()).then(|| (plain(user), words.join(", ")))
}
