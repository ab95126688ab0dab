//! What the wire's messages that hold a password show of themselves: everything but that, so that no
//! log and no panic tells it.

use crate::proto::{JoinOptions, SessionSettings};
use std::fmt;

macro_rules! hides_its_password {
    ($message:ident { $($field:ident),* }) => {
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Named one by one: a new field that is forgotten here does not compile.
                let Self { password: _, $($field),* } = self;
                let mut shown = f.debug_struct(stringify!($message));
                shown.field("password", &format_args!("***"));
                $(shown.field(stringify!($field), $field);)*
                shown.finish()
            }
        }
    };
}

hides_its_password!(JoinOptions { spectator, presence, props, r#move });

hides_its_password!(SessionSettings {
    name,
    propnames,
    hostprops,
    tick_interval,
    pacing,
    capacity,
    locked,
    unlisted,
    metadata,
    successors,
    host_grace,
    inherit_host_data,
    rejoin_grace,
    empty_ttl,
    max_age,
    exclusive,
    data_role,
    reset_role,
    presence,
    durability,
    rules
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::OpenSharedSessionRequest;

    #[test]
    fn no_message_shows_a_password() {
        let password = "open sesame".to_owned();
        let settings = SessionSettings { password: Some(password.clone()), ..Default::default() };
        let join = JoinOptions { password, ..Default::default() };
        let (settings, join) = (Some(settings), Some(join));
        let request = OpenSharedSessionRequest { settings, join, ..Default::default() };
        let shown = format!("{request:?}");
        assert!(!shown.contains("sesame") && shown.contains("password: ***"), "{shown}");
    }
}
