//! Who may do what.

use super::{error::Refusal, role::Role};

/// In what capacity somebody acts on a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The app itself: it may do everything.
    App,
    /// Somebody who has joined.
    Joined(Role),
    /// Somebody who has not joined, with a role that waits for the user.
    Away(Role),
    /// Somebody without any role here.
    Outsider,
}

/// What somebody may want to do; one line of the table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// End the session.
    Delete,
    /// Change settings.
    Update,
    /// Set all values back, where the settings let this role.
    Reset(Role),
    /// Write one's own props.
    WriteProps,
    /// Write the shared session data, where the settings let this role.
    WriteData(Role),
    /// Receive updates.
    Receive,
    /// Kick, ban, unban, swap the host.
    Moderate,
    /// Hold places for others.
    Reserve,
    /// Give this role to somebody.
    SetRole(Role),
}

/// The table. Roles hold for people who have not joined, except for acts of members.
pub fn check(standing: Standing, act: Act) -> Result<(), Refusal> {
    let (needs, joined) = match act {
        Act::Delete => (Role::Owner, false),
        Act::Update | Act::Reserve => (Role::Admin, false),
        Act::Reset(role) => (role, false),
        Act::WriteProps => (Role::Member, true),
        Act::WriteData(role) => (role, true),
        Act::Receive => (Role::Spectator, true),
        Act::Moderate => (Role::Moderator, false),
        Act::SetRole(Role::Owner | Role::Admin) => (Role::Owner, false),
        Act::SetRole(_) => (Role::Admin, false),
    };
    match standing {
        Standing::App => Ok(()),
        Standing::Joined(role) if role >= needs => Ok(()),
        Standing::Away(role) if role >= needs && !joined => Ok(()),
        // What a member may is done by joining.
        Standing::Away(_) | Standing::Outsider if joined || needs <= Role::Member => {
            Err(Refusal::NotAMember)
        }
        _ => Err(Refusal::RoleTooLow { needs }),
    }
}

/// Nobody acts on somebody of the same or a higher rank; the app is above all.
pub fn check_rank(standing: Standing, target: Option<Role>) -> Result<(), Refusal> {
    match standing {
        Standing::App => Ok(()),
        Standing::Joined(role) | Standing::Away(role) if Some(role) > target => Ok(()),
        _ => Err(Refusal::TargetRank),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_denies_below_and_allows_from_the_role_on() {
        let roles = [Role::Spectator, Role::Member, Role::Moderator, Role::Admin, Role::Owner];
        let table = [
            (Act::Delete, Role::Owner),
            (Act::Update, Role::Admin),
            (Act::Reserve, Role::Admin),
            (Act::Reset(Role::Admin), Role::Admin),
            (Act::Reset(Role::Member), Role::Member),
            (Act::WriteProps, Role::Member),
            (Act::WriteData(Role::Moderator), Role::Moderator),
            (Act::Receive, Role::Spectator),
            (Act::Moderate, Role::Moderator),
            (Act::SetRole(Role::Spectator), Role::Admin),
            (Act::SetRole(Role::Moderator), Role::Admin),
            (Act::SetRole(Role::Admin), Role::Owner),
            (Act::SetRole(Role::Owner), Role::Owner),
        ];
        for (act, least) in table {
            assert!(check(Standing::App, act).is_ok());
            assert!(check(Standing::Outsider, act).is_err());
            for role in roles {
                assert_eq!(
                    check(Standing::Joined(role), act).is_ok(),
                    role >= least,
                    "{act:?} {role}"
                );
            }
        }
    }

    #[test]
    fn nobody_acts_on_somebody_of_the_same_or_a_higher_rank() {
        let roles = [Role::Spectator, Role::Member, Role::Moderator, Role::Admin, Role::Owner];
        for actor in roles {
            for target in roles {
                let outcome = check_rank(Standing::Joined(actor), Some(target));
                assert_eq!(outcome.is_ok(), actor > target, "{actor} on {target}");
            }
            assert!(check_rank(Standing::App, Some(actor)).is_ok());
            assert!(check_rank(Standing::Outsider, Some(actor)).is_err());
        }
    }

    #[test]
    fn a_role_that_waits_administers_but_does_not_write_or_receive() {
        assert!(check(Standing::Away(Role::Owner), Act::Delete).is_ok());
        assert_eq!(check(Standing::Away(Role::Owner), Act::Receive), Err(Refusal::NotAMember));
        assert_eq!(check(Standing::Away(Role::Owner), Act::WriteProps), Err(Refusal::NotAMember));
    }
}
