//! Nothing that is hidden reaches somebody from whom it is hidden: whatever people are shown, ask for
//! and are refused, every byte that they are sent is searched for words that are not for them; so is
//! the log.

mod acts;
mod ear;
mod judged;
mod words;

use crate::support::*;
use acts::{Person, everything, reads};
use sessiond::proto::{self, JoinOptions, Role, SessionSettings, Value};
use std::collections::BTreeMap;
use words::Words;

/// Who is in the room, in the one that is not listed and in the hosted session. The app, which has no
/// name, sees what a host and an owner see.
const INSIDERS: [&str; 6] = ["owner", "admin", "moderator", "member", "spectator", ""];

/// Who is in the hosted session besides.
const HOST: &str = "host";

/// Those of the private session: who shows, who is shown, and who keeps order without seeing.
const SOURCE: &str = "source";
const LISTENER: &str = "listener";
const KEEPER: &str = "keeper";

/// Who is in none; the one who is banned from the room; and one who was told the ids of everything,
/// and nothing else.
const OUTSIDER: &str = "outsider";
const BANNED: &str = "banned";
const GUESSER: &str = "guesser";

/// The sessions.
const ROOM: &str = "room";
const HOSTED: &str = "hosted";
/// A room with a schema.
const FORMED: &str = "formed";

/// Who writes in the sessions.
const WRITERS: [&str; 4] = ["owner", "admin", "moderator", "member"];

fn and<const N: usize>(people: &[&'static str], others: [&'static str; N]) -> Vec<&'static str> {
    [people, &others].concat()
}

/// The whole population.
struct Stage {
    service: Service,
    words: Words,
    people: BTreeMap<&'static str, Person>,
    /// The ids of the session that is not listed and of the private one, and the object stream's name.
    unlisted: String,
    private: String,
    stream: String,
    /// A member whose id only insiders may read.
    hermit: String,
    /// Words by what they are, for those who come to be entitled to them.
    kept: BTreeMap<String, String>,
}

impl Stage {
    async fn set() -> Self {
        words::read_log();
        let service = Service::start().await;
        let mut people = BTreeMap::new();
        let others = [HOST, SOURCE, LISTENER, KEEPER, OUTSIDER, BANNED, GUESSER];
        for name in INSIDERS.into_iter().chain(others) {
            people.insert(name, Person::new(name, service.connect().await));
        }
        let mut words = Words::default();
        let mut insiders_and_guesser = and(&INSIDERS, [GUESSER]);
        let unlisted = words.id("id of the unlisted session", &insiders_and_guesser);
        let private =
            words.id("id of the private session", &[SOURCE, LISTENER, KEEPER, "", GUESSER]);
        let stream = words.id("name of the object stream", &["owner", "member", "", GUESSER]);
        insiders_and_guesser.push(HOST);
        let hermit = words.id("id of a member", &insiders_and_guesser);
        let kept = BTreeMap::new();
        let mut stage = Self { service, words, people, unlisted, private, stream, hermit, kept };
        stage.open_the_room().await;
        stage.open_the_unlisted_room().await;
        stage.open_the_hosted_session().await;
        stage.open_the_room_with_a_schema().await;
        stage.open_the_private_session().await;
        stage.set_the_object_stream().await;
        stage.service.tick();
        stage
    }

    async fn open_the_room(&mut self) {
        let password = self.words.hidden("password of the room", &[]);
        let settings =
            SessionSettings { password: Some(password.clone()), ..propnames(&["shown"]) };
        let keepers = ["owner", "admin", "moderator", ""];
        let reason = self.words.shown("reason of a ban", &keepers);
        let banned = self.words.shown("id of somebody banned", &keepers);
        let ban = |user_id: &str| proto::Ban {
            user_id: user_id.to_owned(),
            reason: reason.clone(),
            until: None,
        };
        let request = proto::OpenSharedSessionRequest {
            users: vec![self.hermit.clone()],
            bans: vec![ban(BANNED), ban(&banned)],
            data: self.data_of(ROOM, &INSIDERS),
            private_data: self.private_data_of(ROOM, &["owner", ""]),
            ..opening(ROOM, "owner", settings)
        };
        self.service.try_open(request).await.expect("it opens");
        self.kept.insert("reason".to_owned(), reason);
        self.kept.insert("id of somebody banned".to_owned(), banned);
        self.people_the(ROOM, &password).await;
        for writer in WRITERS {
            self.write(ROOM, writer, "shown", &INSIDERS).await;
            self.write(ROOM, writer, "later", &[]).await;
        }
    }

    async fn open_the_unlisted_room(&mut self) {
        let id = self.unlisted.clone();
        let may = and(&INSIDERS, [GUESSER]);
        let name = self.words.hidden("name of the unlisted session", &may);
        let password = self.words.hidden("password of the unlisted session", &[]);
        let metadata = self.metadata_of("unlisted", &INSIDERS);
        let settings = SessionSettings {
            name: name.clone(),
            password: Some(password.clone()),
            unlisted: Some(true),
            metadata,
            ..propnames(&["shown"])
        };
        let request = proto::OpenSharedSessionRequest {
            users: vec![self.hermit.clone()],
            data: self.data_of("unlisted", &INSIDERS),
            private_data: self.private_data_of("unlisted", &["owner", ""]),
            ..opening(&id, "owner", settings)
        };
        self.service.try_open(request).await.expect("it opens");
        self.kept.insert("name".to_owned(), name);
        self.people_the(&id, &password).await;
        for writer in WRITERS {
            self.write(&id, writer, "shown", &INSIDERS).await;
        }
    }

    async fn open_the_hosted_session(&mut self) {
        let settings = SessionSettings {
            hostprops: vec!["slide".to_owned()],
            ..propnames(&["slide", "notes"])
        };
        self.service.open_hosted(HOSTED, "owner", settings).await;
        self.service.join(HOSTED, HOST).await;
        self.people_the(HOSTED, "").await;
        let swapped = self.service.try_swap_host(HOSTED, "owner", HOST, 0).await;
        swapped.expect("it hands over");
        let locked = SessionSettings { locked: Some(true), ..Default::default() };
        self.service.update(HOSTED, "owner", &["locked"], locked).await;
        self.service.tick();
        self.write_as_hosted_by(HOST).await;
        let set = self.data_of(HOSTED, &and(&INSIDERS, [HOST]));
        let private_set = self.private_data_of(HOSTED, &[HOST, ""]);
        let request = data_of(HOSTED, HOST);
        let request = proto::SetSessionDataRequest { set, private_set, ..request };
        self.service.try_set_data(request).await.expect("it is written");
    }

    /// Everybody in the hosted session writes: members see the host's slide, the host sees all.
    async fn write_as_hosted_by(&mut self, host: &'static str) {
        let everybody = and(&INSIDERS, [HOST]);
        for writer in WRITERS.into_iter().chain([HOST]) {
            let may = if writer == host { &*everybody } else { &[host, ""] };
            self.write(HOSTED, writer, "slide", may).await;
            self.write(HOSTED, writer, "notes", &[host, ""]).await;
        }
    }

    /// What the private data is until it is written is private too.
    async fn open_the_room_with_a_schema(&mut self) {
        let password = self.words.hidden("password of the room with a schema", &[]);
        let settings = SessionSettings { password: Some(password.clone()), ..Default::default() };
        let request = proto::OpenSharedSessionRequest {
            schema: Some(self.schema()),
            ..opening(FORMED, "owner", settings)
        };
        self.service.try_open(request).await.expect("it opens");
        self.people_the(FORMED, &password).await;
        self.write(FORMED, "member", "shown", &INSIDERS).await;
    }

    fn schema(&mut self) -> proto::Schema {
        let default = self.words.shown("default of private data", &["owner", ""]);
        let key = self.words.shown("key of private data", &["owner", ""]);
        proto::Schema {
            props_example: props([("shown", text(""))]),
            data_example: props([("round", text(""))]),
            private_data_example: BTreeMap::from([(key, text(default))]),
            ..Default::default()
        }
    }

    async fn open_the_private_session(&mut self) {
        let data = self.data_of("private", &[SOURCE, LISTENER, ""]);
        let metadata = self.metadata_of("private", &[SOURCE, LISTENER, KEEPER, ""]);
        let request = proto::OpenPrivateSessionRequest {
            user_id: SOURCE.to_owned(),
            source_id: SOURCE.to_owned(),
            listener_id: LISTENER.to_owned(),
            session_id: self.private.clone(),
            settings: Some(SessionSettings { metadata, ..propnames(&["shown", "user"]) }),
            roles: [(KEEPER.to_owned(), Role::Admin.into())].into(),
            data,
            ..Default::default()
        };
        let opened = in_time(self.service.sessions().open_private_session(sent(request))).await;
        opened.expect("it opens");
        let request = proto::SetSessionDataRequest {
            private_set: self.private_data_of("private", &[SOURCE, ""]),
            ..data_of(&self.private, SOURCE)
        };
        self.service.try_set_data(request).await.expect("it is written");
        let id = self.private.clone();
        self.write(&id, SOURCE, "shown", &[SOURCE, LISTENER, ""]).await;
        self.write(&id, SOURCE, "later", &[]).await;
        // On the user: for whoever subscribes to the user.
        let word = self.words.hidden("props of the source", &[SOURCE, LISTENER, OUTSIDER, ""]);
        self.service.set(SOURCE, [("user", text(word))]).await;
    }

    async fn set_the_object_stream(&mut self) {
        let may = ["owner", "member", ""];
        let word = self.words.hidden("value of the object stream", &may);
        let key = self.words.hidden("key of the object stream", &may);
        let request = proto::SetStreamRequest {
            user_id: "owner".to_owned(),
            name: self.stream.clone(),
            object: BTreeMap::from([(key, text(word))]),
            readers: vec!["member".to_owned()],
            ..Default::default()
        };
        let owner = &self.people["owner"];
        in_time(owner.streams().set_stream(sent(request))).await.expect("it is set");
    }

    /// Everybody joins who is to be in it, and gets a role.
    async fn people_the(&self, session: &str, password: &str) {
        for user in ["admin", "moderator", "member", "spectator"] {
            let join = JoinOptions {
                password: password.to_owned(),
                spectator: user == "spectator",
                ..Default::default()
            };
            self.service.try_join(session, user, join).await.expect("it joins");
        }
        self.service.set_role(session, "owner", "admin", Role::Admin).await;
        self.service.set_role(session, "owner", "moderator", Role::Moderator).await;
    }

    /// A prop that is set in one session; its writer knows it anyway.
    async fn write(
        &mut self,
        session: &str,
        writer: &'static str,
        key: &str,
        may: &[&'static str],
    ) {
        let what = format!("{key} of {writer} in {}", self.called(session));
        let word = self.words.shown(&what, may);
        self.words.may_reach(&word, &[writer]);
        self.service.set_in(session, writer, [(key, text(&word))]).await;
        self.kept.insert(what, word);
    }

    fn called(&self, session: &str) -> &'static str {
        match session {
            ROOM => ROOM,
            HOSTED => HOSTED,
            FORMED => FORMED,
            other if other == self.unlisted => "unlisted",
            _ => "private",
        }
    }

    /// Shared data with a word in it.
    fn data_of(&mut self, session: &str, may: &[&'static str]) -> BTreeMap<String, Value> {
        let word = self.words.shown(&format!("data of {session}"), may);
        props([("round", text(word))])
    }

    /// Private data with a word in it.
    fn private_data_of(&mut self, session: &str, may: &[&'static str]) -> BTreeMap<String, Value> {
        let what = format!("private data of {session}");
        let word = self.words.shown(&what, may);
        self.kept.insert(what, word.clone());
        props([("seed", text(word))])
    }

    fn metadata_of(&mut self, session: &str, may: &[&'static str]) -> BTreeMap<String, Value> {
        let word = self.words.shown(&format!("metadata of {session}"), may);
        props([("theme", text(word))])
    }

    /// Everybody opens every kind of stream.
    async fn everybody_listens(&self) {
        for (name, person) in &self.people {
            let sessions = self.sessions().into_iter();
            let sessions: Vec<_> = sessions.filter(|it| self.is_told_of(name, it)).collect();
            person.listens(&sessions).await;
        }
    }

    /// A tick; then whoever is in something looks at it, and hears all that it shows.
    async fn everybody_looks(&self) {
        self.service.tick();
        for (name, person) in &self.people {
            for session in self.sessions() {
                if self.is_told_of(name, session) {
                    person.looks_at(session).await;
                }
            }
        }
    }

    fn sessions(&self) -> [&str; 5] {
        [ROOM, HOSTED, FORMED, &self.unlisted, &self.private]
    }

    /// Whether somebody knows that a session is there.
    fn is_told_of(&self, person: &str, session: &str) -> bool {
        match self.called(session) {
            ROOM | HOSTED | FORMED => true,
            "unlisted" => INSIDERS.contains(&person),
            _ => [SOURCE, LISTENER, KEEPER, ""].contains(&person),
        }
    }

    /// Everybody calls everything that there is, as far as it is refused or reads: what they send is
    /// for them alone.
    async fn everybody_tries_everything(&mut self) {
        for name in self.people.keys().copied().collect::<Vec<_>>() {
            let is_told = |it: &&str| name == GUESSER || self.is_told_of(name, it);
            let sessions = self.sessions().into_iter().filter(is_told);
            for session in sessions.map(str::to_owned).collect::<Vec<_>>() {
                let tried = self.words.hidden(&format!("what {name} tries"), &[name]);
                everything(&self.people[name], &session, &tried).await;
            }
            self.people[name].tries_names(&self.kept["name"], &self.stream, name == GUESSER).await;
        }
        self.service.tick();
    }

    /// A new host sees what everybody shows at that moment, and everybody its slide.
    fn hosts_from_now_on(&mut self, host: &'static str) {
        for word in [self.words_of("slide", HOSTED), self.words_of("notes", HOSTED)].concat() {
            self.words.may_reach(&word, &[host]);
        }
        let slide = format!("slide of {host} in {HOSTED}");
        self.words.may_reach(&self.kept[&slide], &and(&INSIDERS, [HOST]));
        self.words.is_shown(&self.kept["private data of hosted"], &[host]);
    }

    /// The words of what everybody has of a key in a session.
    fn words_of(&self, key: &str, session: &str) -> Vec<String> {
        let of = |writer: &&str| self.kept.get(&format!("{key} of {writer} in {session}")).cloned();
        WRITERS.iter().chain(&[HOST]).filter_map(of).collect()
    }
}

/// The hosting passes on: the new host sees from then on what the old one does not see any more.
async fn another_host(stage: &mut Stage) {
    let swapped = stage.service.try_swap_host(HOSTED, HOST, "member", 0).await;
    swapped.expect("it hands over");
    stage.people.get_mut(HOST).expect("it is there").is_powerful = false;
    stage.people.get_mut("member").expect("it is there").is_powerful = true;
    stage.hosts_from_now_on("member");
    let everybody = and(&INSIDERS, [HOST]);
    stage.words.is_shown(&stage.kept["slide of member in hosted"], &everybody);
    stage.everybody_looks().await;

    stage.write_as_hosted_by("member").await;
    let private_set = stage.private_data_of(HOSTED, &["member", ""]);
    let request = proto::SetSessionDataRequest { private_set, ..data_of(HOSTED, "member") };
    stage.service.try_set_data(request).await.expect("it is written");
    stage.everybody_looks().await;
}

/// The hosting passes on again, and in the same frame everybody writes and reads what is pending: who
/// hosts until that frame must not see it any more.
async fn pending_for_another_host(stage: &mut Stage) {
    let swapped = stage.service.try_swap_host(HOSTED, "member", "moderator", 0).await;
    swapped.expect("it hands over");
    stage.people.get_mut("member").expect("it is there").is_powerful = false;
    stage.hosts_from_now_on("moderator");
    stage.write_as_hosted_by("moderator").await;
    for person in stage.people.values() {
        reads(person, HOSTED).await;
    }
    stage.everybody_looks().await;
}

/// A key comes to be shown, and is hidden again.
async fn other_keys(stage: &mut Stage) {
    for word in stage.words_of("later", ROOM) {
        stage.words.is_shown(&word, &INSIDERS);
    }
    stage.service.update(ROOM, "owner", &["propnames"], propnames(&["shown", "later"])).await;
    stage.everybody_looks().await;
    stage.service.update(ROOM, "owner", &["propnames"], propnames(&["shown"])).await;
    stage.service.tick();
    for writer in WRITERS {
        stage.write(ROOM, writer, "later", &[]).await;
    }
    stage.everybody_looks().await;
}

/// A member keeps order for a while, and the room gets another owner.
async fn other_roles(stage: &mut Stage) {
    stage.service.set_role(ROOM, "owner", "member", Role::Moderator).await;
    for what in ["reason", "id of somebody banned"] {
        stage.words.is_shown(&stage.kept[what], &["member"]);
    }
    stage.everybody_looks().await;
    stage.service.set_role(ROOM, "owner", "member", Role::Member).await;
    stage.service.tick();
    let reason = stage.words.shown("reason of another ban", &["owner", "admin", "moderator", ""]);
    let ban = proto::BanUserRequest { reason, ..ban_of(ROOM, "moderator", BANNED) };
    stage.service.try_ban_with(ban).await.expect("it is banned");
    stage.everybody_looks().await;

    stage.service.set_role(ROOM, "owner", "admin", Role::Owner).await;
    stage.words.is_shown(&stage.kept["private data of room"], &["admin"]);
    stage.everybody_looks().await;
    let private_set = stage.private_data_of(ROOM, &["admin", ""]);
    let request = proto::SetSessionDataRequest { private_set, ..data_of(ROOM, "admin") };
    stage.service.try_set_data(request).await.expect("it is written");
    stage.everybody_looks().await;
}

/// The room with a schema gets another one.
async fn another_schema(stage: &mut Stage) {
    let request = proto::ResetSessionRequest {
        session_id: FORMED.to_owned(),
        user_id: "owner".to_owned(),
        schema: Some(stage.schema()),
        ..Default::default()
    };
    in_time(stage.service.sessions().reset_session(sent(request))).await.expect("it is reset");
    stage.everybody_looks().await;
}

/// Some have to go, and hear nothing of what comes after.
async fn kicked_and_banned(stage: &mut Stage) {
    // What no frame has shown goes with who wrote it.
    stage.write(ROOM, "member", "shown", &[]).await;
    let reason = stage.words.shown("reason of a kick", &["member"]);
    // Backends keep records of who was kicked, and why.
    stage.words.may_reach(&reason, &[""]);
    stage.service.try_kick(ROOM, "moderator", "member", &reason).await.expect("it is kicked");
    let keepers = ["owner", "admin", "moderator", ""];
    let reason = stage.words.shown("reason of a ban from the unlisted session", &keepers);
    let unlisted = stage.unlisted.clone();
    let ban = proto::BanUserRequest { reason, ..ban_of(&unlisted, "moderator", "spectator") };
    stage.service.try_ban_with(ban).await.expect("it is banned");
    stage.service.tick();
    stage.write(ROOM, "owner", "shown", &["owner", "admin", "moderator", "spectator", ""]).await;
    let stay = ["owner", "admin", "moderator", "member", ""];
    stage.write(&unlisted, "owner", "shown", &stay).await;
    stage.everybody_looks().await;
}

/// All sessions end, and so does the service; then all is held against what everybody may hear.
async fn everything_ends(mut stage: Stage) {
    for session in stage.sessions() {
        stage.service.try_delete(session, "").await.expect("it is deleted");
    }
    stage.service.tick();
    stage.service.stop().await;
    let mut heard = BTreeMap::new();
    for (name, person) in &mut stage.people {
        person.has_heard_all().await;
        heard.insert(*name, person.ear.heard());
    }
    stage.words.judge(&heard, &words::log());
}

#[tokio::test]
async fn a_hidden_word_never_reaches_somebody_who_must_not_have_it() {
    let mut stage = Stage::set().await;
    stage.everybody_listens().await;
    stage.everybody_looks().await;
    stage.everybody_tries_everything().await;
    stage.everybody_looks().await;

    another_host(&mut stage).await;
    pending_for_another_host(&mut stage).await;
    other_keys(&mut stage).await;
    other_roles(&mut stage).await;
    another_schema(&mut stage).await;
    kicked_and_banned(&mut stage).await;
    stage.everybody_tries_everything().await;
    stage.everybody_looks().await;
    everything_ends(stage).await;
}
