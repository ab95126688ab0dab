//! What hooks are asked, and what of their answers is taken: they pass the same door as what clients
//! send.

use super::{
    Context,
    convert::{door::Door, to_proto},
};
use crate::{
    engine::{
        Outline,
        asked::{Asked, Request},
    },
    policy::Hook,
    proto::{self, AuthorizeRequest, AuthorizeResponse, authorize_request::Asked as Question},
    session::{
        command::Write,
        error::{Violation, cut},
        ids::Key,
        role::Role,
        settings::Setting,
        value::Value,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// Bytes of the message of a backend.
const MESSAGE_BYTES: usize = 256;

/// Bytes of what it says to programs.
const REASON_BYTES: usize = 64;

/// What is said where a backend says nothing.
const NO_MESSAGE: &str = "a backend refuses this";

/// Settings that no hook changes.
const FIXED: [&str; 4] = ["exclusive", "durability", "password", "rules"];

/// What a hook has said.
#[derive(Debug)]
pub enum Said {
    /// It may be done.
    Passed {
        /// In this way.
        request: Box<Request>,
        /// The role of a new member.
        role: Option<Role>,
    },
    /// It is refused.
    Refused {
        /// What is sent to the user who asked.
        message: String,
        /// The same for programs.
        reason: Option<Arc<str>>,
    },
}

impl Said {
    fn refused(message: String) -> Self {
        Self::Refused { message, reason: None }
    }
}

/// What a hook is asked. Equal questions are equal messages.
pub fn question(asked: &Asked) -> AuthorizeRequest {
    let Asked { app, session_id, user, bearer, session, member, request } = asked;
    AuthorizeRequest {
        operation: to_proto::operation(request.operation()).into(),
        app: app.to_string(),
        session_id: session_id.as_deref().unwrap_or_default().to_owned(),
        user_id: user.to_string(),
        caller: Some(proto::HookCaller {
            scope: bearer.scope.to_owned(),
            subject: bearer.subject.as_deref().unwrap_or_default().to_owned(),
        }),
        session: session.as_ref().map(|session| outline(app, session)),
        role: member.map_or(proto::Role::Unspecified, |it| to_proto::role(it.role)).into(),
        is_host: member.is_some_and(|it| it.is_host),
        asked: Some(match request {
            Request::Open { kind, settings, props, users } => Question::Open(proto::OpenAsked {
                kind: to_proto::kind(*kind).into(),
                settings: Some(to_proto::settings(settings)),
                props: values(props),
                user_ids: users.iter().map(ToString::to_string).collect(),
            }),
            Request::Join { spectator, props } => {
                Question::Join(proto::JoinAsked { spectator: *spectator, props: values(props) })
            }
            Request::Props { set, remove } => Question::Write(proto::WriteAsked {
                set: values(set),
                remove: keys(remove),
                ..Default::default()
            }),
            Request::Data { shared, private } => {
                let (Write { set, remove, .. }, private) = (&**shared, &**private);
                Question::Write(proto::WriteAsked {
                    data_set: values(set),
                    data_remove: keys(remove),
                    private_data_set: values(&private.set),
                    private_data_remove: keys(&private.remove),
                    ..Default::default()
                })
            }
            Request::Subscribe => Question::Subscribe(proto::SubscribeAsked {}),
        }),
    }
}

fn values(values: &[(Key, Value)]) -> BTreeMap<String, proto::Value> {
    values.iter().map(|(key, value)| (key.to_string(), to_proto::value(value))).collect()
}

fn keys(keys: &[Key]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

/// What a session is, as far as those who judge look at it.
fn outline(app: &str, session: &Outline) -> proto::SessionInfo {
    let (info, counts) = (session.info(), session.counts());
    proto::SessionInfo {
        app: app.to_owned(),
        session_id: session.id().to_string(),
        kind: to_proto::kind(session.kind()).into(),
        settings: Some(to_proto::settings(&info.settings)),
        owner_id: info.owner.as_deref().unwrap_or_default().to_owned(),
        host_id: info.host.as_deref().unwrap_or_default().to_owned(),
        term: info.term,
        created_at: Some(to_proto::moment(session.created_at())),
        has_password: info.has_password,
        member_count: Some(counts.members as u32),
        spectator_count: Some(counts.spectators as u32),
        reserved_count: Some(session.seats() as u32),
        ..Default::default()
    }
}

impl Context {
    /// Takes what a hook answers; says why it cannot be taken.
    pub(super) fn take(
        &self,
        hook: &Hook,
        asked: &Asked,
        answer: AuthorizeResponse,
    ) -> Result<Said, String> {
        let AuthorizeResponse {
            allowed,
            message,
            set,
            omit,
            role,
            settings,
            settings_mask,
            reason,
        } = answer;
        if !allowed {
            // However it says it, it refuses.
            let reason = is_reason(&reason).then(|| reason.into());
            return Ok(Said::Refused { message: printable(&message), reason });
        }
        let mut door = Door::new(&self.limits);
        let set = door.values("set", set);
        let omit: Vec<Key> = omit.iter().filter_map(|key| door.key("omit", key)).collect();
        let role = match role {
            0 => None,
            role => door.new_role("role", role),
        };
        let mask = settings_mask.unwrap_or_default();
        let wire = settings.unwrap_or_default();
        let fixed = mask.paths.iter().find(|path| FIXED.contains(&&***path));
        if let Some(path) = fixed {
            door.fault("settings_mask", format!("{path:?} is not for hooks"));
        }
        let changes = match (&asked.request, mask.paths.is_empty()) {
            (Request::Open { kind, .. }, false) => {
                let kind = *kind;
                door.settings_update(kind, &wire, Some(mask), &self.engine.default_session())
            }
            (_, false) => {
                door.fault("settings_mask", "is for openings only");
                Vec::new()
            }
            (_, true) => Vec::new(),
        };
        match (&asked.request, role) {
            (_, None) => {}
            (Request::Join { .. }, Some(role)) if role <= hook.max_role() => {}
            (Request::Join { .. }, Some(_)) => {
                door.fault(
                    "role",
                    format!("is above {}, the max-role of the hook", hook.max_role()),
                );
            }
            (_, Some(_)) => door.fault("role", "is for joins only"),
        }
        let has_props = matches!(
            asked.request,
            Request::Open { .. } | Request::Join { .. } | Request::Props { .. }
        );
        let changes_props = !set.is_empty() || !omit.is_empty();
        if changes_props && !has_props {
            door.fault("set", "is for openings, joins and writes of props only");
        }
        let most = self.limits.props_per_user;
        for (field, keys) in [("set", set.len()), ("omit", omit.len())] {
            if keys > most {
                door.fault(field, format!("has more than {most} props"));
            }
        }
        match door.close() {
            Ok(()) => {}
            Err(super::error::Refusal::Invalid(faults)) => return Err(told(&faults)),
            Err(_) => return Err("its answer changes what it may not".to_owned()),
        }
        let request = changed(&asked.request, set, &omit, changes);
        if request.props().len() > most {
            // It is the user's props that leave no room: no failure of the hook.
            return Ok(Said::refused(format!(
                "with what it adds there are more than {most} props"
            )));
        }
        if let Request::Props { set, remove } = &request
            && set.is_empty()
            && remove.is_empty()
        {
            return Ok(Said::refused("nothing is left of the write".to_owned()));
        }
        Ok(Said::Passed { request: Box::new(request), role })
    }
}

/// What was asked for with what a hook changes of it.
fn changed(
    request: &Request,
    set: Vec<(Key, Value)>,
    omit: &[Key],
    changes: Vec<Setting>,
) -> Request {
    let mut request = request.clone();
    if let Request::Open { settings, .. } = &mut request {
        changes.into_iter().for_each(|change| settings.change(change));
    }
    let props = match &mut request {
        Request::Open { props, .. } | Request::Join { props, .. } => props,
        Request::Props { set: props, remove } => {
            remove.retain(|key| !omit.contains(key) && set.iter().all(|(new, _)| new != key));
            props
        }
        Request::Data { .. } | Request::Subscribe => return request,
    };
    props.retain(|(key, _)| !omit.contains(key));
    for (key, value) in set {
        match props.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => props.push((key, value)),
        }
    }
    request
}

/// Whether a reason has the form of one.
fn is_reason(reason: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=REASON_BYTES).contains(&reason.len()) && reason.bytes().all(is_fine)
}

/// A message as it may be sent: bounded, and in one line.
fn printable(message: &str) -> String {
    let message = cut(message.trim(), MESSAGE_BYTES);
    let message: String =
        message.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    if message.is_empty() { NO_MESSAGE.to_owned() } else { message }
}

/// The faults of an answer, for the log: the paths, and what is wrong, which quotes no value.
fn told(faults: &[Violation]) -> String {
    let first = faults.first().map(|it| format!("{}: {}", it.field, it.description));
    let text = format!("its answer cannot be taken: {}", first.unwrap_or_default());
    cut(&text, MESSAGE_BYTES).into_owned()
}
