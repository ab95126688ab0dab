//! The settings of sessions.

use super::{DAY, Door, path};
use crate::{
    engine::Password,
    proto,
    session::{
        limits::SECOND,
        role::Role,
        settings::{Durability, Kind, Pacing, Setting, Settings},
    },
};
use prost::Message;
use std::collections::HashSet;

/// Bytes of all metadata of a session, encoded: it must fit into a message beside other things.
const METADATA_BYTES: usize = 256 * 1024;

/// How many ids a list of successors may have.
const SUCCESSORS: usize = 256;

impl Door<'_> {
    /// The password of a session; none where it is to have none. It is hashed before it becomes a
    /// setting.
    pub fn new_password(&mut self, wire: Option<&proto::SessionSettings>) -> Option<Password> {
        let password = wire.and_then(|wire| wire.password.as_deref());
        self.password("settings.password", password.unwrap_or_default())
    }

    /// What kind of shared session.
    pub fn kind(&mut self, kind: i32) -> Kind {
        match proto::SessionKind::try_from(kind) {
            Ok(proto::SessionKind::Unspecified | proto::SessionKind::Room) => Kind::Room,
            Ok(proto::SessionKind::Hosted) => Kind::Hosted,
            Ok(proto::SessionKind::Private) => {
                self.fault("kind", "a private session is opened with OpenPrivateSession");
                Kind::Room
            }
            Err(_) => {
                self.fault("kind", format!("{kind} is no kind of session"));
                Kind::Room
            }
        }
    }

    /// What a profile puts in the place of settings that are absent.
    pub fn profile(
        &mut self,
        profile: i32,
        settings: &mut proto::SessionSettings,
        has_schema: bool,
    ) {
        match proto::SessionProfile::try_from(profile) {
            Ok(proto::SessionProfile::Unspecified) => {}
            Ok(proto::SessionProfile::SessionServer) => {
                settings.exclusive.get_or_insert(true);
                if settings.reset_role == 0 {
                    settings.reset_role = proto::Role::Member.into();
                }
                // A member who is lost leaves at once.
                settings.rejoin_grace.get_or_insert_default();
                if settings.presence == 0 {
                    settings.presence = proto::Presence::Tied.into();
                }
                if !has_schema {
                    self.fault("schema", "must be given with this profile");
                }
            }
            Err(_) => self.fault("profile", format!("{profile} is no profile")),
        }
    }

    /// The settings of a new session.
    pub fn settings(
        &mut self,
        kind: Kind,
        wire: &proto::SessionSettings,
        base: Settings,
    ) -> Settings {
        // The two of a private session.
        let capacity = if kind == Kind::Private { 2 } else { base.capacity };
        let exclusive = wire.exclusive.unwrap_or(base.exclusive);
        let durability = self.durability(wire.durability).unwrap_or(base.durability);
        let rules = self.rules("settings.rules", &wire.rules);
        let mut settings = Settings { capacity, exclusive, durability, rules, ..base.clone() };
        for one in SETTINGS {
            if let Some(change) = self.setting(kind, one, wire, &base) {
                settings.change(change);
            }
        }
        settings
    }

    /// What is to be stored; none = as usual.
    fn durability(&mut self, durability: i32) -> Option<Durability> {
        match proto::Durability::try_from(durability) {
            Ok(proto::Durability::Unspecified) => None,
            Ok(proto::Durability::None) => Some(Durability::None),
            Ok(proto::Durability::Async) => Some(Durability::Async),
            Ok(proto::Durability::Sync) => Some(Durability::Sync),
            Err(_) => {
                self.fault("settings.durability", format!("{durability} is no durability"));
                None
            }
        }
    }

    /// The settings that a mask names; what is named and absent goes back to its default.
    pub fn settings_update(
        &mut self,
        kind: Kind,
        wire: &proto::SessionSettings,
        mask: Option<prost_types::FieldMask>,
        base: &Settings,
    ) -> Vec<Setting> {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.is_empty() {
            self.fault("update_mask", "must name at least one setting");
        }
        let mut known = HashSet::new();
        let mut changes = Vec::new();
        let mut all = Some(SETTINGS);
        for name in &paths {
            let field = path("update_mask", name);
            let Some(one) = SETTINGS.iter().find(|one| one.name == name) else {
                // What there is instead is said once.
                let names = |all: &[OneSetting]| all.iter().map(|one| one.name).collect::<Vec<_>>();
                let there_are =
                    all.take().map(|all| format!("; there are {}", names(all).join(", ")));
                self.fault(field, format!("is no setting{}", there_are.unwrap_or_default()));
                continue;
            };
            if !known.insert(name) {
                self.fault(field, "is named twice");
            } else if matches!(name.as_str(), "exclusive" | "durability" | "rules") {
                self.fault(field, "is fixed at the opening");
            } else {
                changes.extend(self.setting(kind, one, wire, base));
            }
        }
        changes
    }

    /// One setting by its name on the wire, its default where it is absent.
    fn setting(
        &mut self,
        kind: Kind,
        one: &OneSetting,
        wire: &proto::SessionSettings,
        base: &Settings,
    ) -> Option<Setting> {
        let field = format!("settings.{}", one.name);
        let out_of_place = match one.sessions {
            Sessions::Hosted if kind != Kind::Hosted => Some("is for hosted sessions only"),
            Sessions::Shared if kind == Kind::Private => Some("is for shared sessions only"),
            _ => None,
        };
        match out_of_place {
            // What has no place here is not looked into: one fault of it is enough.
            Some(fault) if (one.is_set)(wire) => {
                self.fault(field, fault);
                None
            }
            Some(_) => None,
            None => (one.read)(self, &field, wire, base),
        }
    }
}

/// A setting as the wire has it.
struct OneSetting {
    name: &'static str,
    sessions: Sessions,
    is_set: fn(&proto::SessionSettings) -> bool,
    read: fn(&mut Door<'_>, &str, &proto::SessionSettings, &Settings) -> Option<Setting>,
}

/// Which sessions have a setting.
enum Sessions {
    All,
    Shared,
    Hosted,
}

/// The table of settings: each by its name on the wire, the sessions that have it, and how it is read.
/// A setting that is not among them does not compile.
macro_rules! settings {
    ($($name:ident: $sessions:ident, |$door:ident, $field:ident, $value:ident, $base:ident| $read:expr;)*) => {
        const SETTINGS: &[OneSetting] = &[$(OneSetting {
            name: stringify!($name),
            sessions: Sessions::$sessions,
            is_set: |wire| is_set(&wire.$name),
            read: |$door, $field, wire, $base| {
                let $value = &wire.$name;
                $read
            },
        }),*];

        const _: fn(proto::SessionSettings) = |wire| {
            let proto::SessionSettings { $($name: _),* } = wire;
        };
    };
}

settings! {
    name: Shared, |door, field, name, _base| {
        let name = if name.is_empty() { None } else { door.named(field, name) };
        Some(Setting::Name(name))
    };
    propnames: All, |door, field, keys, _base| Some(Setting::Propnames(door.keys(field, keys)));
    hostprops: Hosted, |door, field, keys, _base| Some(Setting::Hostprops(door.keys(field, keys)));
    tick_interval: All, |door, field, span, base| {
        Some(Setting::Tick(door.span(field, *span, 1000..=60 * SECOND, base.tick)))
    };
    pacing: All, |door, field, pacing, base| {
        Some(Setting::Pacing(match proto::Pacing::try_from(*pacing) {
            Ok(proto::Pacing::Unspecified) => base.pacing,
            Ok(proto::Pacing::Tick) => Pacing::Tick,
            Ok(proto::Pacing::Eager) => Pacing::Eager,
            Err(_) => {
                door.fault(field, format!("{pacing} is no pacing"));
                base.pacing
            }
        }))
    };
    capacity: Shared, |door, field, capacity, base| {
        let most = door.limits.members;
        let capacity = capacity.map_or(base.capacity, |capacity| capacity as usize);
        if capacity == 0 || capacity > most {
            door.fault(field, format!("must be between 1 and {most}"));
        }
        Some(Setting::Capacity(capacity))
    };
    locked: Shared, |_door, _field, locked, base| {
        Some(Setting::Locked(locked.unwrap_or(base.locked)))
    };
    unlisted: Shared, |_door, _field, unlisted, base| {
        Some(Setting::Unlisted(unlisted.unwrap_or(base.unlisted)))
    };
    metadata: All, |door, field, metadata, _base| {
        let size: usize =
            metadata.iter().map(|(key, value)| key.len() + value.encoded_len() + 8).sum();
        if size > METADATA_BYTES {
            door.fault(field, format!("has {size} bytes, more than {METADATA_BYTES}"));
        }
        let most = door.limits.props_per_user;
        if metadata.len() > most {
            door.fault(field, format!("has more than {most} keys"));
        }
        let mut metadata = door.values(field, metadata.clone());
        metadata.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Some(Setting::Metadata(metadata.into()))
    };
    successors: Hosted, |door, field, successors, _base| {
        if successors.len() > SUCCESSORS {
            door.fault(field, format!("has more than {SUCCESSORS} ids"));
        }
        let ids = successors.iter().enumerate();
        let users: Vec<_> =
            ids.filter_map(|(at, id)| door.user(&format!("{field}[{at}]"), id)).collect();
        Some(Setting::Successors(users.into()))
    };
    host_grace: Hosted, |door, field, span, base| {
        Some(Setting::HostGrace(door.span(field, *span, 0..=3600 * SECOND, base.host_grace)))
    };
    inherit_host_data: Hosted, |_door, _field, inherits, base| {
        Some(Setting::InheritHostData(inherits.unwrap_or(base.inherit_host_data)))
    };
    presence: All, |door, field, presence, base| {
        Some(Setting::Presence(door.presence(field, *presence).or(base.presence)))
    };
    rejoin_grace: All, |door, field, span, base| {
        Some(Setting::RejoinGrace(door.span(field, *span, 0..=DAY, base.rejoin_grace)))
    };
    empty_ttl: All, |door, field, span, base| {
        Some(Setting::EmptyTtl(door.span(field, *span, 0..=365 * DAY, base.empty_ttl)))
    };
    max_age: All, |door, field, span, base| {
        Some(Setting::MaxAge(door.span(field, *span, 0..=36500 * DAY, base.max_age)))
    };
    // Fixed at the opening: see `Door::settings`.
    exclusive: Shared, |_door, _field, _exclusive, _base| None;
    // Likewise.
    durability: All, |_door, _field, _durability, _base| None;
    // Likewise.
    rules: All, |_door, _field, _rules, _base| None;
    // It is hashed before it becomes a setting: see `Door::new_password`.
    password: Shared, |_door, _field, _password, _base| None;
    data_role: All, |door, field, role, base| {
        Some(Setting::DataRole(door.role(field, *role).unwrap_or(base.data_role)))
    };
    reset_role: All, |door, field, role, base| {
        let role = door.role(field, *role).unwrap_or(base.reset_role);
        if !matches!(role, Role::Admin | Role::Member) {
            door.fault(field, "must be ADMIN or MEMBER");
        }
        Some(Setting::ResetRole(role))
    };
}

/// Whether a field of a message says something.
fn is_set<T: Default + PartialEq>(value: &T) -> bool {
    *value != T::default()
}
