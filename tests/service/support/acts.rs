//! Acts on others, and questions about single members.

use super::{Service, in_time, reply, sent};
use sessiond::proto;
use tonic::Status;

/// What becomes of an act.
pub type Answer<T> = Result<T, Status>;

impl Service {
    /// Joins as the whole request says, or is refused.
    pub async fn try_join_as(
        &self,
        request: proto::JoinSessionRequest,
    ) -> Answer<proto::JoinSessionResponse> {
        reply(in_time(self.sessions().join_session(request)).await)
    }

    /// Who is in a session, in join order, with their roles, after the next tick.
    pub async fn roll(&self, session: &str) -> Vec<(String, proto::Role)> {
        self.tick();
        let members = self.info(session, "").await.members;
        members.into_iter().map(|it| (it.user_id.clone(), it.role())).collect()
    }

    /// Their names only.
    pub async fn names(&self, session: &str) -> Vec<String> {
        self.roll(session).await.into_iter().map(|(user, _)| user).collect()
    }

    /// Gives a role; no user = the app does it.
    pub async fn set_role(&self, session: &str, user: &str, target: &str, role: proto::Role) {
        self.try_set_role(session, user, target, role).await.expect("it is given");
    }

    /// Gives a role, or is refused.
    pub async fn try_set_role(
        &self,
        session: &str,
        user: &str,
        target: &str,
        role: proto::Role,
    ) -> Answer<proto::SetRoleResponse> {
        let request = proto::SetRoleRequest {
            session_id: session.to_owned(),
            user_id: user.to_owned(),
            target_user_id: target.to_owned(),
            role: role.into(),
            ..Default::default()
        };
        reply(in_time(self.sessions().set_role(sent(request))).await)
    }

    /// Kicks somebody for a reason, or is refused.
    pub async fn try_kick(
        &self,
        session: &str,
        user: &str,
        target: &str,
        reason: &str,
    ) -> Answer<proto::KickUserResponse> {
        let request = proto::KickUserRequest {
            session_id: session.to_owned(),
            user_id: user.to_owned(),
            target_user_id: target.to_owned(),
            reason: reason.to_owned(),
            ..Default::default()
        };
        reply(in_time(self.sessions().kick_user(sent(request))).await)
    }

    /// Bans somebody for ever, or is refused.
    pub async fn try_ban(
        &self,
        session: &str,
        user: &str,
        target: &str,
    ) -> Answer<proto::BanUserResponse> {
        self.try_ban_with(ban_of(session, user, target)).await
    }

    /// Bans as the whole request says, or is refused.
    pub async fn try_ban_with(
        &self,
        request: proto::BanUserRequest,
    ) -> Answer<proto::BanUserResponse> {
        reply(in_time(self.sessions().ban_user(sent(request))).await)
    }

    /// Ends a ban, or is refused.
    pub async fn try_unban(
        &self,
        session: &str,
        user: &str,
        target: &str,
    ) -> Answer<proto::UnbanUserResponse> {
        let request = proto::UnbanUserRequest {
            session_id: session.to_owned(),
            user_id: user.to_owned(),
            target_user_id: target.to_owned(),
            ..Default::default()
        };
        reply(in_time(self.sessions().unban_user(sent(request))).await)
    }

    /// Hands the hosting on, or is refused; no target = by the order.
    pub async fn try_swap_host(
        &self,
        session: &str,
        user: &str,
        target: &str,
        term: u64,
    ) -> Answer<proto::SwapHostResponse> {
        let request = proto::SwapHostRequest {
            session_id: session.to_owned(),
            user_id: user.to_owned(),
            target_user_id: target.to_owned(),
            term,
            ..Default::default()
        };
        reply(in_time(self.sessions().swap_host(sent(request))).await)
    }

    /// The first of these users and roles, or a refusal.
    pub async fn try_first_match(
        &self,
        session: &str,
        user: &str,
        candidates: &[&str],
        roles: &[proto::Role],
    ) -> Answer<proto::GetFirstMatchResponse> {
        let request = proto::GetFirstMatchRequest {
            session_id: session.to_owned(),
            user_id: user.to_owned(),
            candidate_ids: candidates.iter().map(ToString::to_string).collect(),
            roles: roles.iter().map(|role| (*role).into()).collect(),
            ..Default::default()
        };
        reply(in_time(self.sessions().get_first_match(sent(request))).await)
    }

    /// What somebody changed, or a refusal; no position = what is pending.
    pub async fn try_updated(
        &self,
        session: &str,
        user: &str,
        target: &str,
        since: Option<proto::Position>,
    ) -> Answer<proto::GetUpdatedUserDataResponse> {
        let request = proto::GetUpdatedUserDataRequest {
            session_id: session.to_owned(),
            user_id: user.to_owned(),
            target_user_id: target.to_owned(),
            since,
            ..Default::default()
        };
        reply(in_time(self.sessions().get_updated_user_data(sent(request))).await)
    }

    /// Resets a session, with a new format or the one that is there, or is refused.
    pub async fn try_reset(
        &self,
        session: &str,
        user: &str,
        schema: Option<proto::Schema>,
    ) -> Answer<proto::Position> {
        let request = proto::ResetSessionRequest {
            session_id: session.to_owned(),
            user_id: user.to_owned(),
            schema,
            ..Default::default()
        };
        let answer = reply(in_time(self.sessions().reset_session(sent(request))).await);
        answer.map(|reply| reply.position.expect("it has a position"))
    }

    /// Has things sent now, or is refused; no target = to all.
    pub async fn try_transmit(
        &self,
        session: &str,
        user: &str,
        target: &str,
        resend: bool,
    ) -> Answer<proto::TransmitSessionUpdatesResponse> {
        let request = proto::TransmitSessionUpdatesRequest {
            session_id: session.to_owned(),
            user_id: user.to_owned(),
            target_user_id: target.to_owned(),
            resend,
            ..Default::default()
        };
        reply(in_time(self.sessions().transmit_session_updates(sent(request))).await)
    }
}

/// What bans somebody for ever.
pub fn ban_of(session: &str, user: &str, target: &str) -> proto::BanUserRequest {
    proto::BanUserRequest {
        session_id: session.to_owned(),
        user_id: user.to_owned(),
        target_user_id: target.to_owned(),
        reason: "cheating".to_owned(),
        ..Default::default()
    }
}
