//! What an app may be limited in, and how far.

/// What an app may be limited in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppLimit {
    /// Sessions that are open.
    Sessions,
    /// Users that are remembered.
    Users,
    /// Members of all sessions, together.
    Members,
    /// Streams that are open; users of gateways are none.
    Streams,
    /// Updates of all users, a second.
    Updates,
    /// Calls with one reply, a second.
    Calls,
    /// Bytes of requests, a second.
    BytesIn,
    /// Bytes of replies and updates, a second.
    BytesOut,
    /// Microseconds of the threads that check passwords, a second.
    PasswordTime,
    /// Microseconds of the threads that run functions of object streams, a second.
    FunctionTime,
}

impl AppLimit {
    /// All of them, each at its own place.
    pub const ALL: [Self; 10] = [
        Self::Sessions,
        Self::Users,
        Self::Members,
        Self::Streams,
        Self::Updates,
        Self::Calls,
        Self::BytesIn,
        Self::BytesOut,
        Self::PasswordTime,
        Self::FunctionTime,
    ];

    /// What operators and clients call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Users => "users",
            Self::Members => "members",
            Self::Streams => "streams",
            Self::Updates => "updates-per-second",
            Self::Calls => "calls-per-second",
            Self::BytesIn => "bytes-in-per-second",
            Self::BytesOut => "bytes-out-per-second",
            Self::PasswordTime => "password-time-per-second",
            Self::FunctionTime => "function-time-per-second",
        }
    }

    /// Whether it is of time on threads, and its value of microseconds.
    pub fn is_time(self) -> bool {
        matches!(self, Self::PasswordTime | Self::FunctionTime)
    }

    pub(super) fn place(self) -> usize {
        self as usize
    }
}

/// How far an app is limited. What is not set has the limits of the server alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppLimits([Option<u64>; AppLimit::ALL.len()]);

impl AppLimits {
    /// What it is set to; none = it has no limit of its own.
    pub fn most(&self, limit: AppLimit) -> Option<u64> {
        self.0[limit.place()]
    }

    /// Sets one.
    pub fn set(&mut self, limit: AppLimit, most: Option<u64>) {
        self.0[limit.place()] = most;
    }

    /// The same with one set.
    pub fn with(mut self, limit: AppLimit, most: u64) -> Self {
        self.set(limit, Some(most));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_place_and_a_name_of_its_own() {
        for (place, limit) in AppLimit::ALL.into_iter().enumerate() {
            assert_eq!(limit.place(), place);
            let named = AppLimit::ALL.iter().filter(|other| other.name() == limit.name());
            assert_eq!(named.count(), 1, "{limit:?}");
        }
    }
}
