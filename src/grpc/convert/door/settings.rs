//! The settings of sessions.

use super::{DAY, Door, path};
use crate::{
    engine::Password,
    proto,
    session::{
        command::Setting,
        limits::SECOND,
        role::Role,
        settings::{Kind, Pacing, Settings},
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
                if settings.presence == 0 {
                    settings.presence = proto::Presence::Tied.into();
                }
                settings.rejoin_grace.get_or_insert_default();
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
        let mut settings = base.clone();
        for name in SETTINGS {
            if let Some(change) = self.setting(kind, name, wire, &base) {
                settings.change(change);
            }
        }
        settings.exclusive = wire.exclusive.unwrap_or(false);
        if settings.exclusive && kind == Kind::Private {
            self.fault("settings.exclusive", "is for shared sessions only");
        }
        settings
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
            if !SETTINGS.contains(&name.as_str()) {
                // What there is instead is said once.
                let there_are = all.take().map(|all| format!("; there are {}", all.join(", ")));
                self.fault(field, format!("is no setting{}", there_are.unwrap_or_default()));
            } else if !known.insert(name) {
                self.fault(field, "is named twice");
            } else if name == "exclusive" {
                self.fault(field, "is fixed at the opening");
            } else {
                changes.extend(self.setting(kind, name, wire, base));
            }
        }
        changes
    }

    /// One setting by its name on the wire, its default where it is absent.
    fn setting(
        &mut self,
        kind: Kind,
        name: &str,
        wire: &proto::SessionSettings,
        base: &Settings,
    ) -> Option<Setting> {
        let field = format!("settings.{name}");
        // What has no place here is not looked into: one fault of it is enough.
        let hosted = |door: &mut Self, is_set: bool| {
            let is_out_of_place = is_set && kind != Kind::Hosted;
            if is_out_of_place {
                door.fault(&field, "is for hosted sessions only");
            }
            (!is_out_of_place).then_some(())
        };
        let shared = |door: &mut Self, is_set: bool| {
            let is_out_of_place = is_set && kind == Kind::Private;
            if is_out_of_place {
                door.fault(&field, "is for shared sessions only");
            }
            (!is_out_of_place).then_some(())
        };
        Some(match name {
            "name" => {
                shared(self, !wire.name.is_empty())?;
                let name = if wire.name.is_empty() { None } else { self.named(&field, &wire.name) };
                Setting::Name(name)
            }
            "propnames" => Setting::Propnames(self.keys(&field, &wire.propnames)),
            "hostprops" => {
                hosted(self, !wire.hostprops.is_empty())?;
                Setting::Hostprops(self.keys(&field, &wire.hostprops))
            }
            "tick_interval" => {
                let range = (1000, 60 * SECOND);
                Setting::Tick(self.span(&field, wire.tick_interval, range, base.tick))
            }
            "pacing" => Setting::Pacing(match proto::Pacing::try_from(wire.pacing) {
                Ok(proto::Pacing::Unspecified | proto::Pacing::Tick) => Pacing::Tick,
                Ok(proto::Pacing::Eager) => Pacing::Eager,
                Err(_) => {
                    self.fault(&field, format!("{} is no pacing", wire.pacing));
                    Pacing::Tick
                }
            }),
            "capacity" if kind == Kind::Private => {
                shared(self, wire.capacity.is_some())?;
                Setting::Capacity(2)
            }
            "capacity" => {
                let most = self.limits.members;
                let capacity = wire.capacity.map_or(most, |capacity| capacity as usize);
                if capacity == 0 || capacity > most {
                    self.fault(&field, format!("must be between 1 and {most}"));
                }
                Setting::Capacity(capacity)
            }
            "locked" => {
                shared(self, wire.locked.is_some())?;
                Setting::Locked(wire.locked.unwrap_or(false))
            }
            "unlisted" => {
                shared(self, wire.unlisted.is_some())?;
                Setting::Unlisted(wire.unlisted.unwrap_or(false))
            }
            "metadata" => {
                let size: usize = wire
                    .metadata
                    .iter()
                    .map(|(key, value)| key.len() + value.encoded_len() + 8)
                    .sum();
                if size > METADATA_BYTES {
                    self.fault(&field, format!("has {size} bytes, more than {METADATA_BYTES}"));
                }
                if wire.metadata.len() > self.limits.props_per_user {
                    let most = self.limits.props_per_user;
                    self.fault(&field, format!("has more than {most} keys"));
                }
                let mut metadata = self.values(&field, wire.metadata.clone());
                metadata.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                Setting::Metadata(metadata.into())
            }
            "successors" => {
                hosted(self, !wire.successors.is_empty())?;
                if wire.successors.len() > SUCCESSORS {
                    self.fault(&field, format!("has more than {SUCCESSORS} ids"));
                }
                let ids = wire.successors.iter().enumerate();
                let users: Vec<_> =
                    ids.filter_map(|(at, id)| self.user(&format!("{field}[{at}]"), id)).collect();
                Setting::Successors(users.into())
            }
            "host_grace" => {
                hosted(self, wire.host_grace.is_some())?;
                Setting::HostGrace(self.span(&field, wire.host_grace, (0, 3600 * SECOND), 0))
            }
            "inherit_host_data" => {
                hosted(self, wire.inherit_host_data.is_some())?;
                Setting::InheritHostData(wire.inherit_host_data.unwrap_or(true))
            }
            "presence" => Setting::Presence(self.presence(&field, wire.presence)),
            "rejoin_grace" => Setting::RejoinGrace(self.span(
                &field,
                wire.rejoin_grace,
                (0, DAY),
                base.rejoin_grace,
            )),
            "empty_ttl" => Setting::EmptyTtl(self.span(&field, wire.empty_ttl, (0, 365 * DAY), 0)),
            "max_age" => Setting::MaxAge(self.span(&field, wire.max_age, (0, 36500 * DAY), 0)),
            "data_role" => {
                let role = self.role(&field, wire.data_role);
                Setting::DataRole(role.unwrap_or(Role::Member))
            }
            // Fixed at the opening: no change of a setting.
            "exclusive" => return None,
            "password" => {
                // What it is goes its own way: see `Door::new_password`.
                shared(self, wire.password.as_ref().is_some_and(|text| !text.is_empty()))?;
                return None;
            }
            "reset_role" => Setting::ResetRole(match self.role(&field, wire.reset_role) {
                None => Role::Admin,
                Some(role @ (Role::Admin | Role::Member)) => role,
                Some(_) => {
                    self.fault(&field, "must be ADMIN or MEMBER");
                    Role::Admin
                }
            }),
            _ => return None,
        })
    }
}

/// Every setting by its name on the wire.
const SETTINGS: [&str; 20] = [
    "name",
    "propnames",
    "hostprops",
    "tick_interval",
    "pacing",
    "capacity",
    "locked",
    "unlisted",
    "metadata",
    "successors",
    "host_grace",
    "inherit_host_data",
    "presence",
    "rejoin_grace",
    "empty_ttl",
    "max_age",
    "exclusive",
    "password",
    "data_role",
    "reset_role",
];
