//! What a request is about, in the words in which a refusal of it says so. What is known of the thing
//! is what the request says of it, so a hidden session and one that is not there are reported alike.

use crate::{
    proto,
    session::{limits::Micros, role::Role},
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
    pub fn the_session(&self) -> String {
        match &self.session {
            Subject::None => "the session".to_owned(),
            Subject::Id(id) => format!("session {id:?}"),
            Subject::Name(name) => format!("the session named {name:?}"),
        }
    }

    /// The acting user in words.
    pub fn the_user(&self) -> String {
        match &*self.user {
            "" => "the user".to_owned(),
            user => format!("user {user:?}"),
        }
    }

    /// The target in words.
    pub fn the_target(&self) -> String {
        match &*self.target {
            "" => self.the_user(),
            user => format!("user {user:?}"),
        }
    }

    /// The object stream in words.
    pub fn the_stream(&self) -> String {
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
    ReserveSeatsRequest(id: session_id);
    ReleaseSeatsRequest(id: session_id);
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
    SubscribeToUserRequest();
    ReceiveSessionUpdatesRequest();
    WatchSessionsRequest();
    SetStreamRequest(stream: name);
    RemoveStreamRequest(stream: name);
    UpdateStreamDataRequest(stream: name);
    SetStreamFuncRequest(stream: name);
    AddStreamFuncRequest(stream: name);
    GetStreamUpdateRequest(stream: name);
    GetAllStreamUpdatesRequest();
    SubscribeToStreamsRequest();
}
