//! SessionServer: a session fixes the format of its data when it is created, a player is in one
//! session at a time, and everybody hears of everybody.
//!
//! Its profile here is a room that is exclusive and has a schema by example, that any member may
//! reset, and whose members are tied to their connection.

mod error;

use crate::support::*;
use sessiond::{
    config::Config,
    proto::{self, DepartureReason, EndReason, Presence, Role, SnapshotReason},
};
use tonic::{Code, Status};

/// The end time of the example.
const END_TIME: i64 = 1_262_304_000;

/// A format, given by the default of each key.
fn format_of<const D: usize, const P: usize>(
    session_data: [(&str, proto::Value); D],
    player_data: [(&str, proto::Value); P],
) -> proto::Schema {
    proto::Schema {
        data_example: props(session_data),
        props_example: props(player_data),
        ..Default::default()
    }
}

/// The format of the example: a match that ends, and players that have a name.
fn match_format() -> proto::Schema {
    format_of([("endTimeInMS", int(END_TIME))], [("name", text("__unset__"))])
}

/// Whose connection is lost is gone.
fn tied_join() -> proto::JoinOptions {
    proto::JoinOptions { presence: Presence::Tied.into(), ..Default::default() }
}

/// createSession by a player whose id the server makes.
fn create_session(format: proto::Schema) -> proto::OpenSharedSessionRequest {
    proto::OpenSharedSessionRequest {
        settings: Some(proto::SessionSettings {
            exclusive: Some(true),
            rejoin_grace: Some(ms(0)),
            reset_role: Role::Member.into(),
            ..Default::default()
        }),
        join: Some(tied_join()),
        schema: Some(format),
        ..Default::default()
    }
}

/// A player in a session, with the connection that hears of everything.
struct Player {
    session_id: String,
    player_id: String,
    heard: Watcher,
}

impl Player {
    /// createSession.
    async fn creates(service: &Service, format: proto::Schema) -> Self {
        let created = service.try_open(create_session(format)).await.expect("it is created");
        let session = created.session.expect("it is told");
        Self::connects(service, session.session_id, created.user_id).await
    }

    /// joinSession with an id.
    async fn joins(service: &Service, session_id: &str) -> Self {
        let joined = service.try_join(session_id, "", tied_join()).await.expect("it joins");
        Self::connects(service, joined.session_id, joined.user_id).await
    }

    async fn connects(service: &Service, session_id: String, player_id: String) -> Self {
        let heard = service.watch(&session_id, &player_id).await;
        Self { session_id, player_id, heard }
    }

    /// updatePlayer: its own data.
    async fn update_player<const N: usize>(
        &self,
        service: &Service,
        player_data: [(&str, proto::Value); N],
    ) -> Result<(), Status> {
        let write = write(player_data).in_session(&self.session_id);
        service.try_write(&self.player_id, write).await.map(drop)
    }

    /// The data of the session.
    async fn update_session_data<const N: usize>(
        &self,
        service: &Service,
        session_data: [(&str, proto::Value); N],
    ) -> Result<(), Status> {
        let set = props(session_data);
        let request = data_of(&self.session_id, &self.player_id);
        let request = proto::SetSessionDataRequest { set, ..request };
        service.try_set_data(request).await.map(drop)
    }

    /// updateSession: a new format.
    async fn update_session(&self, service: &Service, format: proto::Schema) -> Result<(), Status> {
        let request = proto::ResetSessionRequest {
            session_id: self.session_id.clone(),
            user_id: self.player_id.clone(),
            schema: Some(format),
            ..Default::default()
        };
        in_time(service.sessions().reset_session(sent(request))).await.map(drop)
    }

    /// leaveSession.
    async fn leaves(&self, service: &Service) {
        service.leave(&self.session_id, &self.player_id).await;
    }

    /// The data of a player, as this one knows it.
    #[track_caller]
    fn player_data(&self, player: &Player) -> Shown {
        self.heard.rebuilt.props(&player.player_id)
    }

    /// The data of the session, as this one knows it.
    fn session_data(&self) -> &Shown {
        &self.heard.rebuilt.state.data
    }

    /// Whether it knows somebody.
    fn knows(&self, player: &Player) -> bool {
        self.heard.rebuilt.knows(&player.player_id)
    }
}

fn name(name: &str) -> [(&'static str, proto::Value); 1] {
    [("name", text(name))]
}

/// Two players in the match of the example, who know of each other.
async fn a_match_of_two(service: &Service) -> (Player, Player) {
    let mut cloud = Player::creates(service, match_format()).await;
    let mut now = Player::joins(service, &cloud.session_id).await;
    service.tick();
    cloud.heard.next_changes().await;
    now.heard.next_changes().await;
    (cloud, now)
}

#[test]
fn the_server_listens_on_port_7000_by_default() {
    assert_eq!(Config::default().listen.port(), 7000);
}

#[tokio::test]
async fn upon_joining_the_player_receives_session_id_player_id_and_session_data() {
    let service = Service::start().await;
    let creator = Player::creates(&service, match_format()).await;
    let joined = service.try_join(&creator.session_id, "", tied_join()).await.expect("error 0");
    assert_eq!(joined.session_id, creator.session_id);
    assert!(!joined.user_id.is_empty() && joined.user_id != creator.player_id);
    let snapshot = Rebuilt::from_snapshot(joined.snapshot.expect("the state comes with it"));
    assert_eq!(snapshot.state.data, shown([("endTimeInMS", int(END_TIME))]));
}

#[tokio::test]
async fn for_each_player_already_in_the_session_a_player_join_is_sent() {
    let service = Service::start().await;
    let mut cloud = Player::creates(&service, match_format()).await;
    let mut now = Player::joins(&service, &cloud.session_id).await;
    cloud.update_player(&service, name("CloudOfDust")).await.expect("error 0");
    now.update_player(&service, name("NowYouSeeMe")).await.expect("error 0");
    service.tick();
    cloud.heard.next_changes().await;
    now.heard.next_changes().await;

    let newcomer = Player::joins(&service, &cloud.session_id).await;
    assert_eq!(newcomer.player_data(&now), shown(name("NowYouSeeMe")));
    assert_eq!(newcomer.player_data(&cloud), shown(name("CloudOfDust")));
    service.tick();
    for player in [&mut cloud, &mut now] {
        let told = player.heard.next_changes().await;
        assert_eq!(told.members.len(), 1, "playerJoin tells of the newcomer only");
        assert_eq!(told.members[0].user_id, newcomer.player_id);
        assert_eq!(player.player_data(&newcomer), shown(name("__unset__")));
    }
}

#[tokio::test]
async fn numbers_that_the_example_gives_as_integers_may_have_fractions() {
    let service = Service::start().await;
    let (mut cloud, now) = a_match_of_two(&service).await;
    let data = [("endTimeInMS", num(1_262_304_000.5))];
    now.update_session_data(&service, data.clone()).await.expect("a number is a number");
    service.tick();
    cloud.heard.next_changes().await;
    assert_eq!(cloud.session_data(), &shown(data));
    let data = [("endTimeInMS", int(5))];
    now.update_session_data(&service, data.clone()).await.expect("a number is a number");
    service.tick();
    cloud.heard.next_changes().await;
    assert_eq!(cloud.session_data(), &shown(data));
}

#[tokio::test]
async fn updating_the_session_will_yield_in_a_reset_of_everything_to_the_supplied_defaults() {
    let service = Service::start().await;
    let (mut cloud, mut now) = a_match_of_two(&service).await;
    now.update_player(&service, name("NowYouSeeMe")).await.expect("error 0");
    now.update_session_data(&service, [("endTimeInMS", int(1))]).await.expect("error 0");
    service.tick();
    cloud.heard.next_changes().await;
    now.heard.next_changes().await;

    // Any player may; what was written and not shown yet goes with the rest.
    cloud.update_player(&service, name("CloudOfDust")).await.expect("error 0");
    let format = format_of([("round", int(1))], [("team", text("none")), ("name", text("?"))]);
    now.update_session(&service, format).await.expect("error 0");
    service.advance(TICK);
    let player_data = shown([("team", text("none")), ("name", text("?"))]);
    for player in [&mut cloud, &mut now] {
        assert_eq!(player.heard.next_snapshot().await, SnapshotReason::ResetSchema);
        assert_eq!(player.session_data(), &shown([("round", int(1))]));
    }
    for player in [&cloud, &now] {
        assert_eq!(player.player_data(&cloud), player_data);
        assert_eq!(player.player_data(&now), player_data);
    }

    // The old format is gone, for those who come later as well.
    let told = refused(cloud.update_session_data(&service, [("endTimeInMS", int(1))]).await);
    told.blames(&[r#"set["endTimeInMS"]"#]);
    let late = Player::joins(&service, &cloud.session_id).await;
    assert_eq!(late.session_data(), &shown([("round", int(1))]));
    assert_eq!(late.player_data(&now), player_data);
    service.tick();
    now.heard.next_changes().await;
    assert_eq!(now.player_data(&late), player_data);
    late.update_player(&service, [("team", text("red"))]).await.expect("error 0");
    let told = refused(late.update_player(&service, [("team", int(1))]).await);
    told.blames(&[r#"write.set["team"]"#]);
}

#[tokio::test]
async fn if_a_player_leaves_the_player_leave_event_will_be_sent_to_all_remaining_players() {
    let service = Service::start().await;
    let (mut cloud, mut now) = a_match_of_two(&service).await;
    now.update_player(&service, name("NowYouSeeMe")).await.expect("error 0");
    now.leaves(&service).await;
    service.tick();
    let told = cloud.heard.next_changes().await;
    assert_eq!((told.left.len(), &told.left[0].user_id), (1, &now.player_id));
    assert_eq!(told.left[0].reason(), DepartureReason::Left);
    now.heard.end().await.is_ok(EndReason::Left);

    // Associated player data is dropped.
    assert!(!cloud.knows(&now));
    service.try_join(&cloud.session_id, &now.player_id, tied_join()).await.expect("it is back");
    service.tick();
    cloud.heard.next_changes().await;
    assert_eq!(cloud.player_data(&now), shown(name("__unset__")));
}

async fn join_newest(
    service: &Service,
    player_id: &str,
) -> Result<proto::JoinSessionResponse, Status> {
    let request = proto::JoinSessionRequest {
        newest: true,
        user_id: player_id.to_owned(),
        join: Some(tied_join()),
        ..Default::default()
    };
    in_time(service.sessions().join_session(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn commands_are_json_encoded_objects_over_one_connection() {
    let service = Service::start().await;
    let mut creator = Player::creates(&service, match_format()).await;
    let mut open = stream_open(&creator.session_id, "");
    open.subscriptions[0].join = Some(tied_join());
    let mut socket = service.open_stream(open).await;
    socket.next_snapshot().await;
    assert!(!socket.user_id.is_empty(), "the server gives the id");

    let json = |value| {
        let fields = [("name".to_owned(), prost_types::Value { kind: Some(value) })];
        let json = Some(prost_types::Struct { fields: fields.into() });
        proto::PropsWrite { json, ..Default::default() }.in_session(&creator.session_id)
    };
    use prost_types::value::Kind::{NumberValue, StringValue};
    let (fits, does_not) = (json(StringValue("NowYouSeeMe".to_owned())), json(NumberValue(7.0)));
    let first = socket.write(fits);
    socket.until_acked(&service, first).await;
    let second = socket.write(does_not);
    socket.until_acked(&service, second).await;
    let [refusal] = &*socket.refusals else { panic!("one is refused: {:?}", socket.refusals) };
    assert_eq!((refusal.seq, refusal.code), (second, Code::InvalidArgument as i32));
    let fields: Vec<_> = refusal.fields.iter().map(|it| &*it.field).collect();
    assert_eq!(fields, [r#"write.json["name"]"#]);

    let (player_id, expected) = (socket.user_id.clone(), shown(name("NowYouSeeMe")));
    let has_name = |it: &Rebuilt| it.knows(&player_id) && it.props(&player_id) == expected;
    service.tick_until(&mut creator.heard, has_name).await;
}
