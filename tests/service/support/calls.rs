//! The unary calls: those that a test expects to succeed, and each as `try_` where it may be refused.
//! No user = the app calls.

use super::*;

/// What becomes of a call.
pub type Answer<T> = Result<T, Status>;

/// The reply of a unary call, which says which node answered.
fn reply<T>(answer: Result<Response<T>, Status>) -> Answer<T> {
    let metadata = match &answer {
        Ok(response) => response.metadata(),
        Err(status) => status.metadata(),
    };
    assert_eq!(metadata.get(NODE_METADATA).expect("every response names the node"), NODE);
    answer.map(Response::into_inner)
}

/// Calls with these arguments: the fields of the request that they are, and those that they make.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) = $call:ident
        $request:ident { $($field:ident: $value:expr),* } -> $response:ident;)*) => {
        impl Service {
            $($(#[$doc])* pub async fn $name(&self, $($arg: $type),*) -> Answer<proto::$response> {
                let request = proto::$request {
                    $($field: $value.into(),)*
                    ..Default::default()
                };
                reply(in_time(self.sessions().$call(sent(request))).await)
            })*
        }
    };
}

/// Calls with whole requests.
macro_rules! whole_calls {
    ($($(#[$doc:meta])* $name:ident = $call:ident($request:ident) -> $response:ident;)*) => {
        impl Service {
            $($(#[$doc])* pub async fn $name(
                &self,
                request: proto::$request,
            ) -> Answer<proto::$response> {
                reply(in_time(self.sessions().$call(sent(request))).await)
            })*
        }
    };
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

whole_calls! {
    /// Opens a session.
    try_open = open_shared_session(OpenSharedSessionRequest) -> OpenSharedSessionResponse;
    /// Opens a private session.
    try_open_as = open_private_session(OpenPrivateSessionRequest) -> OpenPrivateSessionResponse;
    /// Joins.
    try_join_as = join_session(JoinSessionRequest) -> JoinSessionResponse;
    /// A page of sessions.
    try_list = list_sessions(ListSessionsRequest) -> ListSessionsResponse;
    /// Bans.
    try_ban_with = ban_user(BanUserRequest) -> BanUserResponse;
}

calls! {
    /// Joins a session.
    try_join(session: &str, user: &str, join: JoinOptions) = join_session
        JoinSessionRequest { session_id: session, user_id: user, join: join } -> JoinSessionResponse;
    /// Holds places for so many milliseconds.
    try_reserve(session: &str, user: &str, targets: &[&str], span: u64) = reserve_seats
        ReserveSeatsRequest {
            session_id: session, user_id: user, target_user_ids: texts(targets), duration: ms(span)
        } -> ReserveSeatsResponse;
    /// Gives places back.
    try_release(session: &str, user: &str, targets: &[&str]) = release_seats
        ReleaseSeatsRequest {
            session_id: session, user_id: user, target_user_ids: texts(targets)
        } -> ReleaseSeatsResponse;
    /// Leaves.
    try_leave(session: &str, user: &str, keep_role: bool) = leave_session LeaveSessionRequest {
        session_id: session, user_id: user, keep_role: keep_role
    } -> LeaveSessionResponse;
    /// What somebody learns about a session.
    try_info(session: &str, user: &str) = get_session_info
        GetSessionInfoRequest { session_id: session, user_id: user } -> GetSessionInfoResponse;
    /// The session of a name.
    try_info_by_name(name: &str, user: &str) = get_session_info
        GetSessionInfoRequest { name: name, user_id: user } -> GetSessionInfoResponse;
    /// Changes the settings that `mask` names.
    try_update(session: &str, user: &str, mask: &[&str], to: SessionSettings) = update_session
        UpdateSessionRequest {
            session_id: session,
            user_id: user,
            settings: to,
            update_mask: prost_types::FieldMask { paths: texts(mask) }
        } -> UpdateSessionResponse;
    /// Gives a role.
    try_set_role(session: &str, user: &str, target: &str, role: proto::Role) = set_role
        SetRoleRequest {
            session_id: session, user_id: user, target_user_id: target, role: role
        } -> SetRoleResponse;
    /// Kicks somebody for a reason.
    try_kick(session: &str, user: &str, target: &str, reason: &str) = kick_user
        KickUserRequest {
            session_id: session, user_id: user, target_user_id: target, reason: reason
        } -> KickUserResponse;
    /// Ends a ban.
    try_unban(session: &str, user: &str, target: &str) = unban_user UnbanUserRequest {
        session_id: session, user_id: user, target_user_id: target
    } -> UnbanUserResponse;
    /// Hands the hosting on; no target = by the order.
    try_swap_host(session: &str, user: &str, target: &str, term: u64) = swap_host
        SwapHostRequest {
            session_id: session, user_id: user, target_user_id: target, term: term
        } -> SwapHostResponse;
    /// The first of these users and roles.
    try_first_match(session: &str, user: &str, candidates: &[&str], roles: &[proto::Role])
        = get_first_match GetFirstMatchRequest {
            session_id: session,
            user_id: user,
            candidate_ids: texts(candidates),
            roles: roles.iter().map(|role| (*role).into()).collect::<Vec<_>>()
        } -> GetFirstMatchResponse;
    /// What somebody changed; no position = what is pending.
    try_updated(session: &str, user: &str, target: &str, since: Option<proto::Position>)
        = get_updated_user_data GetUpdatedUserDataRequest {
            session_id: session, user_id: user, target_user_id: target, since: since
        } -> GetUpdatedUserDataResponse;
    /// Has things sent now; no target = to all.
    try_transmit(session: &str, user: &str, target: &str, resend: bool)
        = transmit_session_updates TransmitSessionUpdatesRequest {
            session_id: session, user_id: user, target_user_id: target, resend: resend
        } -> TransmitSessionUpdatesResponse;
    /// Ends a session.
    delete(session: &str, user: &str) = delete_session
        DeleteSessionRequest { session_id: session, user_id: user } -> DeleteSessionResponse;
    /// Resets a session, with a new format or the one that is there.
    reset(session: &str, user: &str, schema: Option<proto::Schema>) = reset_session
        ResetSessionRequest {
            session_id: session, user_id: user, schema: schema
        } -> ResetSessionResponse;
}

impl Service {
    /// Opens a room as a user, who joins and owns it.
    pub async fn open_room(&self, session: &str, user: &str) -> proto::Position {
        self.open_room_with(session, user, SessionSettings::default()).await
    }

    /// Opens a room with settings.
    pub async fn open_room_with(
        &self,
        session: &str,
        user: &str,
        settings: SessionSettings,
    ) -> proto::Position {
        let open = self.try_open(opening(session, user, settings)).await;
        open.expect("it opens").position.expect("it has a position")
    }

    /// Opens a hosted session with settings; who opens it hosts it.
    pub async fn open_hosted(&self, session: &str, user: &str, settings: SessionSettings) {
        let mut opening = opening(session, user, settings);
        opening.kind = proto::SessionKind::Hosted.into();
        self.try_open(opening).await.expect("it opens");
        self.tick();
    }

    /// Opens a private session, which is named after its pair.
    pub async fn try_open_private(
        &self,
        user: &str,
        source: &str,
        listener: &str,
    ) -> Answer<proto::OpenPrivateSessionResponse> {
        self.try_open_as(private(user, source, listener)).await
    }

    /// Joins a session, to stay until it leaves.
    pub async fn join(&self, session: &str, user: &str) -> proto::JoinSessionResponse {
        self.try_join(session, user, JoinOptions::default()).await.expect("it joins")
    }

    /// Joins with props that only this session shows.
    pub async fn join_with<const N: usize>(
        &self,
        session: &str,
        user: &str,
        set: [(&str, proto::Value); N],
    ) -> proto::JoinSessionResponse {
        let join = JoinOptions { props: props(set), ..Default::default() };
        self.try_join(session, user, join).await.expect("it joins")
    }

    /// Joins as somebody who only receives.
    pub async fn spectate(&self, session: &str, user: &str) -> proto::JoinSessionResponse {
        let join = JoinOptions { spectator: true, ..Default::default() };
        self.try_join(session, user, join).await.expect("it joins")
    }

    /// Leaves, giving the role up.
    pub async fn leave(&self, session: &str, user: &str) {
        self.try_leave(session, user, false).await.expect("it leaves");
    }

    /// Ends a session, or is refused.
    pub async fn try_delete(&self, session: &str, user: &str) -> Answer<()> {
        self.delete(session, user).await.map(drop)
    }

    /// Resets a session, or is refused.
    pub async fn try_reset(
        &self,
        session: &str,
        user: &str,
        schema: Option<proto::Schema>,
    ) -> Answer<proto::Position> {
        let answer = self.reset(session, user, schema).await;
        answer.map(|reply| reply.position.expect("it has a position"))
    }

    /// Gives a role.
    pub async fn set_role(&self, session: &str, user: &str, target: &str, role: proto::Role) {
        self.try_set_role(session, user, target, role).await.expect("it is given");
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

    /// Sets props on a user, for all its sessions.
    pub async fn set<const N: usize>(
        &self,
        user: &str,
        set: [(&str, proto::Value); N],
    ) -> Vec<proto::WriteResult> {
        self.try_write(user, write(set)).await.expect("it is written")
    }

    /// Sets props of a user in one session only; returns the frame that shows them.
    pub async fn set_in<const N: usize>(
        &self,
        session: &str,
        user: &str,
        set: [(&str, proto::Value); N],
    ) -> u64 {
        let results = self.try_write(user, write(set).in_session(session)).await;
        revision_of(&results.expect("it is written"))
    }

    /// Removes props of a user in one session.
    pub async fn remove_in(&self, session: &str, user: &str, keys: &[&str]) -> u64 {
        let results = self.try_write(user, removal(keys).in_session(session)).await;
        revision_of(&results.expect("it is removed"))
    }

    /// Writes props, or is refused.
    pub async fn try_write(
        &self,
        user: &str,
        write: proto::PropsWrite,
    ) -> Answer<Vec<proto::WriteResult>> {
        let (user_id, write) = (user.to_owned(), Some(write));
        let request = proto::SetUserPropsRequest { user_id, write, ..Default::default() };
        self.try_set_props(request).await
    }

    /// Writes props as the whole request says, or is refused.
    pub async fn try_set_props(
        &self,
        request: proto::SetUserPropsRequest,
    ) -> Answer<Vec<proto::WriteResult>> {
        let answer = in_time(self.sessions().set_user_props(sent(request))).await;
        reply(answer).map(|reply| reply.results)
    }

    /// Sets shared session data.
    pub async fn set_data<const N: usize>(
        &self,
        session: &str,
        user: &str,
        set: [(&str, proto::Value); N],
    ) {
        let request = proto::SetSessionDataRequest { set: props(set), ..data_of(session, user) };
        self.try_set_data(request).await.expect("it is written");
    }

    /// Sets private session data.
    pub async fn set_private_data<const N: usize>(
        &self,
        session: &str,
        user: &str,
        set: [(&str, proto::Value); N],
    ) {
        let private_set = props(set);
        let request = proto::SetSessionDataRequest { private_set, ..data_of(session, user) };
        self.try_set_data(request).await.expect("it is written");
    }

    /// Writes session data, or is refused.
    pub async fn try_set_data(
        &self,
        request: proto::SetSessionDataRequest,
    ) -> Answer<proto::Position> {
        let answer = in_time(self.sessions().set_session_data(sent(request))).await;
        reply(answer).map(|reply| reply.position.expect("it has a position"))
    }

    /// Changes the settings that `mask` names.
    pub async fn update(&self, session: &str, user: &str, mask: &[&str], to: SessionSettings) {
        self.try_update(session, user, mask, to).await.expect("it is updated");
    }

    /// What somebody learns about a session.
    pub async fn info(&self, session: &str, user: &str) -> proto::GetSessionInfoResponse {
        self.try_info(session, user).await.expect("it is there")
    }

    /// The last frame of a session.
    pub async fn revision(&self, session: &str) -> u64 {
        self.info(session, "").await.position.expect("it has a position").revision
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

    /// Proves that the server is still fine: a session is opened, changed, watched and ended.
    pub async fn is_fine(&self) {
        self.open_room("still fine", "somebody").await;
        let mut watcher = self.watch("still fine", "somebody").await;
        self.set_in("still fine", "somebody", [("x", int(1))]).await;
        self.tick();
        watcher.next_changes().await;
        assert_eq!(watcher.rebuilt.props("somebody"), shown([("x", int(1))]));
        self.try_delete("still fine", "somebody").await.expect("it is deleted");
        watcher.end().await.is_ok(proto::EndReason::Deleted);
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
