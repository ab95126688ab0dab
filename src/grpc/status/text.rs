//! What a refusal says to people: the thing that it is about, and the way out. What is known of the
//! thing is what the request says of it, so a session that is hidden and one that is not there are
//! told alike.

use crate::{
    proto,
    session::{error::Refusal, limits::Micros, role::Role},
};
use std::time::{Duration, UNIX_EPOCH};

/// What a request is about, as it says itself; what it leaves open is empty.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Which session.
    pub session: Subject,
    /// The user who acts.
    pub user: String,
    /// The user on whom it acts.
    pub target: String,
    /// The object stream or the function.
    pub stream: String,
    /// The positions that it names, with their fields.
    pub positions: Vec<(&'static str, proto::Position)>,
    /// The role that the user has in the session, where it is asked for.
    pub role: Option<Role>,
    /// Where the history of the session is, where it is asked for.
    pub at: Option<proto::Position>,
}

/// How a request names a session.
#[derive(Debug, Clone, Default)]
pub enum Subject {
    /// It does not.
    #[default]
    None,
    /// By its id.
    Id(String),
    /// By its name.
    Name(String),
}

impl About {
    /// A request about one session.
    pub fn session(id: &str) -> Self {
        Self::default().of(Subject::Id, id)
    }

    /// The same about this session, if the text names one.
    fn of(self, how: fn(String) -> Subject, text: &str) -> Self {
        if text.is_empty() { self } else { Self { session: how(text.to_owned()), ..self } }
    }

    /// The session in words.
    fn the_session(&self) -> String {
        match &self.session {
            Subject::None => "the session".to_owned(),
            Subject::Id(id) => format!("session {id:?}"),
            Subject::Name(name) => format!("the session named {name:?}"),
        }
    }

    fn the_user(&self) -> String {
        match &*self.user {
            "" => "the user".to_owned(),
            user => format!("user {user:?}"),
        }
    }

    fn the_target(&self) -> String {
        match &*self.target {
            "" => self.the_user(),
            user => format!("user {user:?}"),
        }
    }

    fn the_stream(&self) -> String {
        match &*self.stream {
            "" => "the object stream".to_owned(),
            stream => format!("object stream {stream:?}"),
        }
    }
}

/// A moment in words.
pub fn moment(at: Micros) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_micros(at)).to_string()
}

/// What a refusal of a request says.
pub fn text(refusal: &Refusal, about: &About) -> String {
    let (session, user) = (about.the_session(), about.the_user());
    match refusal {
        Refusal::SessionNotFound => match &about.session {
            Subject::None => "no such session is open, or the caller may not know of it".to_owned(),
            Subject::Id(id) => format!(
                "no session {id:?} is open, or the caller may not know of it; OpenSharedSession opens one"
            ),
            Subject::Name(name) => format!(
                "no session named {name:?} is open, or the caller may not know of it; OpenSharedSession opens one"
            ),
        },
        Refusal::SessionExists => {
            format!("{session} is open already; get_if_exists returns it, JoinSession joins it")
        }
        Refusal::NameTaken => {
            "another open session has the name in settings.name; choose another one".to_owned()
        }
        Refusal::NotAMember => {
            format!("{user} is not a member of {session}; JoinSession makes it one")
        }
        Refusal::WrongPassword => {
            format!("{session} has a password, and join.password is not it")
        }
        Refusal::Locked => {
            format!("{session} is locked and takes no new members; UpdateSession unlocks it")
        }
        Refusal::Full { capacity } => {
            format!("{session} is full: its settings.capacity is {capacity}")
        }
        Refusal::AlreadyInSession { session } => {
            let session = session.as_ref().map(|session| format!(", {:?},", &**session));
            let session = session.unwrap_or_default();
            format!(
                "{user} is in another exclusive session{session} and has to leave it first; a join with `move` does both"
            )
        }
        Refusal::RoleTooLow { needs } => {
            let has = match about.role {
                Some(role) => format!("{user} has the role {role} in {session}"),
                None => format!("the role of {user} in {session} is too low"),
            };
            format!("{has}; this needs the role {needs} or a higher one, which SetRole gives")
        }
        Refusal::SchemaNeedsSessionId => {
            "the session has a schema: a write must name it in session_ids".to_owned()
        }
        Refusal::NeedsHost => {
            format!("{user} does not host {session}, and only its host may do this")
        }
        Refusal::NotTheHost => {
            format!("the write names a term of the host of {session}, and {user} is not the host")
        }
        Refusal::StaleTerm { current } => {
            format!("the term of the host of {session} is {current} by now")
        }
        Refusal::TargetRank => {
            let target = about.the_target();
            format!("the role of {target} is not below that of {user}, and only a higher role, or the app itself, may act on it")
        }
        Refusal::Banned { until } => {
            let until = until.map_or_else(String::new, |until| format!(" until {}", moment(until)));
            format!("{user} is banned from {session}{until}; UnbanUser ends it")
        }
        Refusal::BanNotFound => format!("{} is not banned from {session}", about.the_target()),
        Refusal::MemberNotFound => match &*about.target {
            "" => format!("no member of {session} is the one that is asked for"),
            target => format!("user {target:?} is not a member of {session}"),
        },
        Refusal::NoCandidate => {
            let who = match &*about.target {
                "" => format!("nobody in {session} can become host"),
                target => format!("user {target:?} cannot become host of {session}"),
            };
            format!("{who}: a host is a connected member and no spectator")
        }
        Refusal::WrongKind => format!("{session} has no host: this is for hosted sessions"),
        Refusal::NotOfThePair => {
            format!("only the source and the listener join a private session, and {user} is neither")
        }
        Refusal::UnknownPosition => {
            let at = |it: &proto::Position| format!("epoch {}, revision {}", it.epoch, it.revision);
            let named = about.positions.iter().map(|(field, it)| format!("{field} ({})", at(it)));
            let named = match &*named.collect::<Vec<_>>().join(" or ") {
                "" => "a revision that the request names".to_owned(),
                named => named.to_owned(),
            };
            let is_at = about.at.as_ref().map_or_else(String::new, |it| {
                format!(", whose last frame is {}", at(it))
            });
            format!("{named} is no position of {session}{is_at}; take one that a reply named")
        }
        Refusal::StreamNotFound => {
            format!("{} is not there, or the caller may not read it; SetStream makes one", about.the_stream())
        }
        Refusal::StreamNameTaken => {
            format!("{} is there, and the caller may not read it; choose another name", about.the_stream())
        }
        Refusal::NeedsCreator => {
            let stream = match &*about.stream {
                "" => "it".to_owned(),
                stream => format!("{stream:?}"),
            };
            format!("{user} did not create {stream}, and only its creator or the app itself may do this")
        }
        Refusal::FunctionNotFound => {
            "the request names a stream function that is not there; AddStreamFunc adds it".to_owned()
        }
        Refusal::NotEntitled => {
            "only the app itself writes props of another user: leave target_user_id empty, or act as \
             the app with the metadata sessiond-as: app"
                .to_owned()
        }
        Refusal::RateLimited { per_second, .. } => {
            format!("{user} sends more than {per_second} updates a second; RetryInfo says when the next one fits")
        }
        Refusal::LimitReached { limit, most } => {
            format!("the limit {limit} is reached: at most {most}")
        }
        Refusal::NotImplemented { field } if field.starts_with('/') => {
            format!("there is no call {field:?}; this is a gRPC server, and reflection lists its calls")
        }
        Refusal::Draining => "the server is stopping; connect again to reach another one".to_owned(),
        Refusal::Of { field, why } => {
            format!("{field}: {}", text(why, &About { user: String::new(), ..about.clone() }))
        }
        Refusal::Subscription { field, refusal } => format!("{field}: {}", text(refusal, about)),
        // These say all of it themselves.
        Refusal::Invalid(_)
        | Refusal::TooManyGuesses { .. }
        | Refusal::PasswordsBusy { .. }
        | Refusal::NotAWriter(_)
        | Refusal::NeedsSource
        | Refusal::NoConsent
        | Refusal::RevisionChanged(_)
        | Refusal::RequestIdReused { .. }
        | Refusal::BadExpression(_)
        | Refusal::NotImplemented { .. }
        | Refusal::NoStore
        | Refusal::Malformed(_)
        | Refusal::MessageTooLarge { .. }
        | Refusal::ReplyTooLarge { .. }
        | Refusal::SeqNotRising { .. }
        | Refusal::WrongFirstMessage(_) => refusal.to_string(),
    }
}

/// A request that says what it is about.
pub trait Asks {
    /// What it is about.
    fn about(&self) -> About;
}

/// Takes the fields named here from each request into an [`About`].
macro_rules! asks {
    ($($request:ident($($part:ident: $field:ident),*);)*) => {$(
        impl Asks for proto::$request {
            fn about(&self) -> About {
                let about = About { user: self.user_id.clone(), ..About::default() };
                $(let about = asks!(@$part about, &self.$field, stringify!($field));)*
                about
            }
        }
    )*};
    (@id $about:ident, $value:expr, $field:expr) => {
        $about.of(Subject::Id, $value)
    };
    (@name $about:ident, $value:expr, $field:expr) => {
        $about.of(Subject::Name, $value)
    };
    (@write $about:ident, $value:expr, $field:expr) => {
        match $value.as_ref().map(|write| &*write.session_ids) {
            Some([only]) => $about.of(Subject::Id, only),
            _ => $about,
        }
    };
    (@target $about:ident, $value:expr, $field:expr) => {
        About { target: $value.clone(), ..$about }
    };
    (@stream $about:ident, $value:expr, $field:expr) => {
        About { stream: $value.clone(), ..$about }
    };
    (@position $about:ident, $value:expr, $field:expr) => {{
        let mut about = $about;
        about.positions.extend($value.map(|position| ($field, position)));
        about
    }};
}

asks! {
    GetSessionInfoRequest(id: session_id, name: name, position: min_position);
    ListSessionsRequest();
    OpenSharedSessionRequest(id: session_id);
    OpenPrivateSessionRequest(id: session_id);
    UpdateSessionRequest(id: session_id);
    ResetSessionRequest(id: session_id);
    JoinSessionRequest(id: session_id, name: name);
    LeaveSessionRequest(id: session_id);
    DeleteSessionRequest(id: session_id);
    SetUserPropsRequest(write: write);
    SetSessionDataRequest(id: session_id);
    GetUpdatedUserDataRequest(
        id: session_id, target: target_user_id, position: min_position, position: since
    );
    GetFirstMatchRequest(id: session_id, position: min_position);
    SwapHostRequest(id: session_id, target: target_user_id);
    SetRoleRequest(id: session_id, target: target_user_id);
    KickUserRequest(id: session_id, target: target_user_id);
    BanUserRequest(id: session_id, target: target_user_id);
    UnbanUserRequest(id: session_id, target: target_user_id);
    TransmitSessionUpdatesRequest(id: session_id, target: target_user_id);
    SubscribeToSessionRequest(id: session_id);
    SetStreamRequest(stream: name);
    RemoveStreamRequest(stream: name);
    UpdateStreamDataRequest(stream: name);
    SetStreamFuncRequest(stream: name);
    AddStreamFuncRequest(stream: name);
    GetStreamUpdateRequest(stream: name);
    GetAllStreamUpdatesRequest();
    SubscribeToStreamsRequest();
}
