//! The fixed format of a session, and the reset that replaces it.

use crate::support::*;
use sessiond::proto::{
    self, Field, FieldType, JoinOptions, OpenSharedSessionRequest, PropsWrite, Role, Schema,
    SessionSettings, SnapshotReason,
};
use tonic::Code;

/// What SessionServer's own example opens: players have a name, the session ends at some time.
fn game() -> Schema {
    Schema {
        props_example: props([("name", text("unset")), ("pos", map([("x", int(0))]))]),
        data_example: props([("endTime", int(1_262_304_000))]),
        private_data_example: props([("secret", text("none"))]),
        ..Default::default()
    }
}

fn playing(session: &str, user: &str) -> OpenSharedSessionRequest {
    OpenSharedSessionRequest {
        schema: Some(game()),
        ..opening(session, user, SessionSettings::default())
    }
}

async fn open(service: &Service, session: &str, user: &str) {
    service.try_open(playing(session, user)).await.expect("it opens");
}

fn typed(of: FieldType) -> Field {
    Field { r#type: of.into(), ..Default::default() }
}

fn by_fields<const N: usize>(fields: [(&str, Field); N]) -> Schema {
    let props = fields.into_iter().map(|(key, field)| (key.to_owned(), field)).collect();
    Schema { props, ..Default::default() }
}

#[tokio::test]
async fn the_newcomer_has_the_defaults_and_the_format_is_shown_by_its_fields() {
    let service = Service::start().await;
    let opened = service.try_open(playing("match", "ada")).await.expect("it opens");
    let schema = opened.session.and_then(|session| session.schema).expect("it is shown");
    let number = FieldType::Number.into();
    let end_time =
        Field { r#type: number, default_value: Some(int(1_262_304_000)), ..Default::default() };
    assert_eq!(schema.data, [("endTime".to_owned(), end_time)].into());
    assert_eq!(schema.props["name"].r#type, i32::from(FieldType::Text));
    let x = Field { r#type: number, ..Default::default() };
    assert_eq!(schema.props["pos"].fields, [("x".to_owned(), x)].into());
    assert!(schema.props_example.is_empty() && schema.data_example.is_empty());

    service.join_with("match", "bob", [("name", text("Bob"))]).await;
    service.spectate("match", "spy").await;
    service.tick();
    let bob = service.watch("match", "bob").await;
    let unset = |name: &str| shown([("name", text(name)), ("pos", map([("x", int(0))]))]);
    assert_eq!(bob.rebuilt.props("ada"), unset("unset"));
    assert_eq!(bob.rebuilt.props("bob"), unset("Bob"));
    assert_eq!(bob.rebuilt.props("spy"), shown([]));
    assert_eq!(bob.rebuilt.state.data, shown([("endTime", int(1_262_304_000))]));

    // What is shown is what may be given again.
    let mut again = playing("again", "ada");
    again.schema = Some(schema.clone());
    let again = service.try_open(again).await.expect("it opens").session;
    assert_eq!(again.and_then(|session| session.schema), Some(schema));
}

#[tokio::test]
async fn the_format_of_private_data_is_shown_to_those_who_see_that_data() {
    let service = Service::start().await;
    open(&service, "match", "ada").await;
    service.join("match", "bob").await;
    service.tick();
    for (user, sees) in [("ada", true), ("", true), ("bob", false), ("stranger", false)] {
        let info = service.info("match", user).await.session.and_then(|it| it.schema);
        assert_eq!(!info.expect("it is shown").private_data.is_empty(), sees, "{user:?} asks");
        let request = proto::ListSessionsRequest { user_id: user.to_owned(), ..Default::default() };
        let listed = service.try_list(request).await.expect("it lists").sessions.remove(0);
        let listed = listed.schema.expect("it is shown");
        assert_eq!(!listed.private_data.is_empty(), sees, "{user:?} lists");
    }
    for (user, sees) in [("ada", true), ("bob", false)] {
        let watcher = service.watch("match", user).await;
        let schema = watcher.rebuilt.session().schema.clone().expect("it is shown");
        assert_eq!(!schema.private_data.is_empty(), sees, "{user} watches");
        assert_eq!(!watcher.rebuilt.state.private_data.is_empty(), sees);
    }
}

#[tokio::test]
async fn wrong_keys_and_types_are_refused_whole_with_every_violation_and_others_see_nothing() {
    let service = Service::start().await;
    open(&service, "match", "ada").await;
    service.join("match", "bob").await;
    service.tick();
    let mut bob = service.watch("match", "bob").await;
    let revision = service.revision("match").await;
    let fields = [("nmae".to_owned(), prost_types::Value::from("Ada"))].into();
    let wrong = PropsWrite {
        json: Some(prost_types::Struct { fields }),
        remove: vec!["gone".to_owned()],
        ..write([("name", int(1)), ("pos", map([("x", text("a")), ("y", int(0))]))])
    };
    let named = [
        r#"write.json["nmae"]"#,
        r#"write.remove["gone"]"#,
        r#"write.set["name"]"#,
        r#"write.set["pos"]["x"]"#,
        r#"write.set["pos"]["y"]"#,
    ];
    refused(service.try_write("ada", wrong.clone().in_session("match")).await).blames(&named);

    let mut stream = service.stream("match", "ada").await;
    let seq = stream.write(wrong.in_session("match"));
    stream.until_acked(&service, seq).await;
    let told = &stream.refusals[0];
    assert_eq!(told.reason, i32::from(proto::ErrorReason::InvalidFields));
    let mut found: Vec<_> = told.fields.iter().map(|it| &*it.field).collect();
    found.sort();
    assert_eq!(found, named);

    let mut backend = service.gateway("backend").await;
    backend.attach(vec![attach(1, "bob", "match")]);
    let entry = |(number, name): (u64, &str)| proto::DictionaryEntry { number, name: name.into() };
    let entries = [(1, "pos"), (2, "name")].map(entry).into();
    let column = |prop| proto::Column { prop, ..Default::default() };
    let columns = vec![
        proto::Column { values: vec![map([("x", text("a"))])], ..column(1) },
        proto::Column { integers: vec![1], ..column(2) },
    ];
    let row = || proto::Block { users: vec![1], columns: columns.clone(), ..Default::default() };
    let seq = backend.send(proto::GatewayRequest {
        dictionary: Some(proto::Dictionary { props: entries }),
        blocks: vec![row()],
        writes: vec![write_of(1, write([("x", int(1))])), write_of(1, write([("name", int(1))]))],
        ..Default::default()
    });
    let refusals = backend.refusals_of(&service, seq).await;
    let blamed = refusals.iter().flat_map(|it| &it.fields).map(|it| &*it.field);
    let blamed: Vec<_> = blamed.collect();
    let named = [
        r#"blocks[0].columns[0]["x"]"#,
        "blocks[0].columns[1]",
        r#"writes[0].write.set["x"]"#,
        r#"writes[1].write.set["name"]"#,
    ];
    assert_eq!(blamed, named);

    let mut request = data_of("match", "ada");
    (request.set, request.private_set) =
        (props([("end", int(1))]), props([("secret", flag(true))]));
    let told = refused(service.try_set_data(request).await);
    told.blames(&[r#"set["end"]"#, r#"private_set["secret"]"#]);
    let join = JoinOptions { props: props([("nmae", text("Kim"))]), ..Default::default() };
    let told = refused(service.try_join("match", "kim", join.clone()).await);
    told.blames(&[r#"join.props["nmae"]"#]);
    let mut stream = stream_open("match", "kim");
    stream.subscriptions[0].join = Some(join);
    let told = service.open_stream(stream).await.refused().await;
    told.blames(&[r#"open.subscriptions[0].join.props["nmae"]"#]);
    let mut request = playing("other", "ada");
    (request.data, request.private_data) = (props([("end", int(1))]), props([("x", int(1))]));
    let told = refused(service.try_open(request).await);
    told.blames(&[r#"data["end"]"#, r#"private_data["x"]"#]);
    let mut request = playing("other", "ada");
    request.data = props([("end", int(1))]);
    let wrong = props([("nmae", text("Ada")), ("name", int(1))]);
    request.join = Some(JoinOptions { props: wrong, ..Default::default() });
    let told = refused(service.try_open(request).await);
    told.blames(&[r#"data["end"]"#, r#"join.props["nmae"]"#, r#"join.props["name"]"#]);

    service.tick();
    assert_eq!(bob.glance().await, None);
    assert_eq!(service.revision("match").await, revision, "nothing changed");
}

#[tokio::test]
async fn a_key_that_only_higher_roles_write_is_refused_by_its_name() {
    let service = Service::start().await;
    let rank = Field {
        writer: Role::Admin.into(),
        default_value: Some(int(1)),
        ..typed(FieldType::Integer)
    };
    let schema = by_fields([("rank", rank), ("x", typed(FieldType::Any))]);
    let request = OpenSharedSessionRequest { schema: Some(schema), ..playing("match", "ada") };
    service.try_open(request).await.expect("it opens");
    service.join("match", "bob").await;
    let both = || write([("rank", int(9)), ("x", int(9))]).in_session("match");
    let told = refused(service.try_write("bob", both()).await);
    told.is(Code::PermissionDenied, "NOT_A_WRITER").names(&[r#"write.set["rank"]"#]);
    service.try_write("ada", both()).await.expect("the owner may");
    service.tick();
    let bob = service.watch("match", "bob").await;
    assert_eq!(bob.rebuilt.props("bob"), shown([("rank", int(1))]));
    assert_eq!(bob.rebuilt.props("ada"), shown([("rank", int(9)), ("x", int(9))]));
}

#[tokio::test]
async fn every_fault_of_a_schema_is_named_and_nothing_is_opened() {
    let service = Service::start().await;
    let out_of_bounds =
        Field { max: Some(5.0), default_value: Some(int(6)), ..typed(FieldType::Integer) };
    let inner = [("x".to_owned(), Field { default_value: Some(int(0)), ..Default::default() })];
    let schema = Schema {
        data: [("d".to_owned(), Field { r#type: 99, writer: 99, ..Default::default() })].into(),
        data_example: props([("d", int(1))]),
        private_data_example: props([("", int(1)), ("none", no_kind()), ("deep", nested(9))]),
        ..by_fields([
            ("default", out_of_bounds),
            ("bounds", Field { min: Some(2.0), max: Some(1.0), ..typed(FieldType::Number) }),
            ("fields", Field { fields: inner.into(), ..typed(FieldType::Text) }),
            ("items", Field { items: Some(Box::default()), ..typed(FieldType::Map) }),
            ("writer", Field { writer: Role::Spectator.into(), ..typed(FieldType::Any) }),
            ("unset", Field { default_value: Some(no_kind()), ..Default::default() }),
        ])
    };
    let deep = format!(r#"schema.private_data_example["deep"]{}"#, "[0]".repeat(8));
    let named = [
        r#"schema.props["default"].default_value"#,
        r#"schema.props["bounds"].max"#,
        r#"schema.props["fields"].fields"#,
        r#"schema.props["fields"].fields["x"].type"#,
        r#"schema.props["items"].items"#,
        r#"schema.props["items"].items.type"#,
        r#"schema.props["writer"].writer"#,
        r#"schema.props["unset"].type"#,
        r#"schema.props["unset"].default_value"#,
        r#"schema.data["d"].type"#,
        r#"schema.data["d"].writer"#,
        r#"schema.data_example"#,
        r#"schema.private_data_example[""]"#,
        r#"schema.private_data_example["none"]"#,
        &deep,
    ];
    let request =
        OpenSharedSessionRequest { schema: Some(schema.clone()), ..playing("match", "ada") };
    refused(service.try_open(request).await).blames(&named);
    refused(service.try_info("match", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
    open(&service, "match", "ada").await;
    let before = service.info("match", "").await;
    refused(service.try_reset("match", "ada", Some(schema)).await).blames(&named);
    service.tick();
    assert_eq!(service.info("match", "").await, before);
}

#[tokio::test]
async fn the_keys_and_the_bytes_of_a_schema_are_bounded() {
    let service = Service::start_with(|config| config.max_request_bytes = 1024 * 1024).await;
    let of_keys = |keys: usize| Schema {
        props: (0..keys).map(|key| (key.to_string(), typed(FieldType::Any))).collect(),
        ..Default::default()
    };
    let of_examples = |keys: usize| Schema {
        props_example: (0..keys).map(|key| (key.to_string(), int(0))).collect(),
        ..Default::default()
    };
    // 16 defaults with their keys and heads.
    let of_bytes = |bytes: usize| Schema {
        data_example: (0..16).map(|key| (format!("{key:02}"), data(bytes))).collect(),
        ..Default::default()
    };
    let open = async |schema: Schema| {
        let request = OpenSharedSessionRequest { schema: Some(schema), ..playing("", "ada") };
        service.try_open(request).await
    };
    for fits in [of_keys(256), of_examples(256), of_bytes(16_360)] {
        open(fits).await.expect("it fits");
    }
    for (schema, field) in [
        (of_keys(257), "schema.props"),
        (of_keys(10_000), "schema.props"),
        (of_examples(257), "schema.props_example"),
        (of_bytes(16_380), "schema"),
    ] {
        refused(open(schema).await).blames(&[field]);
    }
    service.is_fine().await;
}

#[tokio::test]
async fn writes_up_a_stream_are_acked_across_a_reset() {
    let service = Service::start().await;
    open(&service, "match", "ada").await;
    service.tick();
    let mut ada = service.stream("match", "ada").await;
    let seq = ada.write(write([("name", text("Ada"))]).in_session("match"));
    // The write is accepted when the session has a frame to make.
    in_time(async {
        while service
            .try_updated("match", "ada", "", None)
            .await
            .expect("it is in")
            .change
            .is_none()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    service.try_reset("match", "ada", None).await.expect("it is reset");
    assert_eq!(ada.next_snapshot().await, SnapshotReason::ResetSchema);
    assert_eq!(ada.rebuilt.props("ada")["name"], show(&text("unset")));
    assert_eq!((ada.acked_seq, ada.refusals.len()), (seq, 0), "accepted, and then discarded");
    let seq = ada.write(write([("name", text("Countess"))]).in_session("match"));
    ada.until_acked(&service, seq).await;
    assert_eq!(ada.rebuilt.props("ada")["name"], show(&text("Countess")));
}

#[tokio::test]
async fn who_is_behind_gets_the_snapshot_of_the_last_reset_and_what_came_after_it() {
    let service = Service::start().await;
    open(&service, "match", "ada").await;
    service.tick();
    let mut ada = service.watch("match", "ada").await;
    for n in 0..3 {
        service.set_in("match", "ada", [("name", text(n.to_string()))]).await;
        service.tick();
        service.try_reset("match", "ada", None).await.expect("it is reset");
        service.set_in("match", "ada", [("name", text(format!("after {n}")))]).await;
        service.tick();
    }
    while ada.rebuilt.revision < service.revision("match").await {
        ada.next().await;
    }
    assert_eq!(ada.rebuilt.props("ada")["name"], show(&text("after 2")));
    assert_eq!(ada.rebuilt.state, service.watch("match", "ada").await.rebuilt.state);
}

#[tokio::test]
async fn a_reset_ends_the_streams_of_who_left_in_the_frame_before() {
    let service = Service::start().await;
    open(&service, "match", "ada").await;
    service.join("match", "bob").await;
    service.tick();
    let mut bob = service.watch("match", "bob").await;
    let kicked = service.try_kick("match", "ada", "bob", "").await;
    kicked.expect("he is kicked");
    service.try_reset("match", "ada", None).await.expect("it is reset");
    bob.end().await.is(proto::EndReason::Kicked, Code::PermissionDenied);
}

#[tokio::test]
async fn resets_count_as_updates_of_the_user() {
    let service = Service::start_with(|config| config.max_updates_per_second = 2).await;
    open(&service, "match", "ada").await;
    for _ in 0..2 {
        service.try_reset("match", "ada", None).await.expect("it is reset");
    }
    let told = refused(service.try_reset("match", "ada", None).await);
    told.is(Code::ResourceExhausted, "RATE_LIMITED");
    service.try_reset("match", "", None).await.expect("the app is not bounded");
}

#[tokio::test]
async fn a_private_session_may_have_a_format_too() {
    let service = Service::start().await;
    service.set("ada", [("name", text("of the user"))]).await;
    let with_schema = |set, of_data| proto::OpenPrivateSessionRequest {
        schema: Some(game()),
        props: set,
        data: of_data,
        ..private("ada", "ada", "bob")
    };
    let wrong = with_schema(props([("nmae", int(1))]), props([]));
    let told = refused(service.sessions().open_private_session(sent(wrong)).await);
    told.blames(&[r#"props["nmae"]"#]);
    let wrong = with_schema(props([]), props([("end", int(1))]));
    let told = refused(service.sessions().open_private_session(sent(wrong)).await);
    told.blames(&[r#"data["end"]"#]);
    let wrong = with_schema(props([("nmae", int(1))]), props([("end", int(1))]));
    let told = refused(service.sessions().open_private_session(sent(wrong)).await);
    told.blames(&[r#"props["nmae"]"#, r#"data["end"]"#]);
    let right = with_schema(props([("pos", map([("x", num(0.5))]))]), props([]));
    let opened = service.sessions().open_private_session(sent(right)).await.expect("it opens");
    let schema = opened.into_inner().session.and_then(|session| session.schema);
    assert!(!schema.expect("it is shown").private_data.is_empty(), "the source sees all of it");

    let mut bob = service.listen("ada", "bob").await;
    let expected = shown([("name", text("unset")), ("pos", map([("x", num(0.5))]))]);
    assert_eq!(bob.rebuilt.props("ada"), expected);
    let schema = bob.rebuilt.session().schema.clone().expect("it is shown");
    assert!(schema.private_data.is_empty(), "the listener does not");
    // Neither a write on the user nor its coming and going brings in what is set on it.
    let told = refused(service.try_write("ada", write([("name", text("later"))])).await);
    told.is(Code::FailedPrecondition, "SESSION_ID_NEEDED");
    service.open_room("room", "ada").await;
    service.join("ada-bob", "ada").await;
    service.tick();
    service.set_in("ada-bob", "ada", [("name", text("Ada"))]).await;
    service.tick();
    while bob.rebuilt.props("ada")["name"] != show(&text("Ada")) {
        assert_eq!(bob.rebuilt.props("ada")["name"], show(&text("unset")));
        bob.next_changes().await;
    }
    service.try_reset("ada-bob", "ada", None).await.expect("the source owns it");
    while bob.next().await != Step::Snapshot(SnapshotReason::ResetSchema) {}
    assert_eq!(bob.rebuilt.props("ada")["pos"], show(&map([("x", int(0))])));
    let told = refused(service.try_reset("ada-bob", "bob", None).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
}

#[tokio::test]
async fn the_profile_of_session_server_is_one_setting() {
    let service = Service::start().await;
    let profile = proto::SessionProfile::SessionServer.into();
    let mut request = opening("match", "ada", SessionSettings::default());
    request.profile = profile;
    refused(service.try_open(request.clone()).await).blames(&["schema"]);
    let props_example = props([("name", text("__unset__"))]);
    request.schema = Some(proto::Schema { props_example, ..Default::default() });
    let opened = service.try_open(request.clone()).await.expect("it opens");
    let settings = opened.session.and_then(|session| session.settings).expect("all settings");
    assert_eq!(settings.exclusive, Some(true));
    assert_eq!(settings.reset_role(), Role::Member);
    assert_eq!(settings.presence(), proto::Presence::Tied);
    assert_eq!(settings.rejoin_grace, Some(ms(0)), "who is lost leaves at once");
    // What is given wins.
    request.session_id = "other".to_owned();
    request.user_id = "bob".to_owned();
    let rejoin_grace = Some(ms(7));
    request.settings =
        Some(SessionSettings { exclusive: Some(false), rejoin_grace, ..Default::default() });
    let opened = service.try_open(request.clone()).await.expect("it opens");
    let settings = opened.session.and_then(|session| session.settings).expect("all settings");
    assert_eq!((settings.exclusive, settings.rejoin_grace), (Some(false), rejoin_grace));
    assert_eq!(settings.presence(), proto::Presence::Tied);
    (request.session_id, request.profile) = ("third".to_owned(), 7);
    refused(service.try_open(request).await).blames(&["profile"]);
}

#[tokio::test]
async fn defaults_are_told_to_those_who_see_the_values() {
    let service = Service::start().await;
    let mut request = opening(
        "lecture",
        "host",
        SessionSettings { hostprops: vec!["slide".to_owned()], ..Default::default() },
    );
    request.kind = proto::SessionKind::Hosted.into();
    request.schema = Some(proto::Schema {
        props_example: props([("slide", text("first")), ("notes", text("hidden"))]),
        data_example: props([("plan", text("for members"))]),
        ..Default::default()
    });
    service.try_open(request).await.expect("it opens");
    service.join("lecture", "ada").await;
    service.tick();
    let told = |session: Option<proto::SessionInfo>| {
        let schema = session.and_then(|session| session.schema).expect("it has one");
        let has_default = |fields: &std::collections::BTreeMap<String, proto::Field>, key: &str| {
            fields[key].default_value.is_some()
        };
        [("slide", &schema.props), ("notes", &schema.props), ("plan", &schema.data)]
            .map(|(key, fields)| has_default(fields, key))
    };
    for (user, expected) in [
        ("host", [true, true, true]),
        ("", [true, true, true]),
        ("ada", [true, false, true]),
        ("eve", [false, false, false]),
    ] {
        assert_eq!(told(service.info("lecture", user).await.session), expected, "{user}");
        if user != "eve" {
            let watcher = service.watch("lecture", user).await;
            assert_eq!(told(watcher.rebuilt.state.session.clone()), expected, "{user}");
        }
    }
}
