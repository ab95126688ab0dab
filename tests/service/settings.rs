//! Settings: their defaults, their ranges, and how they change.

use crate::support::*;
use sessiond::proto::{Durability, Pacing, Presence, Role, SessionSettings};

#[tokio::test]
async fn what_is_not_chosen_has_its_default() {
    let service = Service::with_room().await;
    let settings = service.watch("finals", "ada").await.rebuilt.session().settings.clone();
    let expected = SessionSettings {
        tick_interval: Some(ms(10)),
        pacing: Pacing::Tick.into(),
        capacity: Some(10_000),
        locked: Some(false),
        unlisted: Some(false),
        host_grace: Some(ms(0)),
        inherit_host_data: Some(true),
        rejoin_grace: Some(ms(10_000)),
        empty_ttl: Some(ms(0)),
        max_age: Some(ms(0)),
        exclusive: Some(false),
        data_role: Role::Member.into(),
        reset_role: Role::Admin.into(),
        durability: Durability::None.into(),
        ..Default::default()
    };
    assert_eq!(settings, Some(expected));
}

fn chosen() -> SessionSettings {
    SessionSettings {
        name: "the finals".to_owned(),
        propnames: vec!["a".to_owned(), "b".to_owned()],
        hostprops: vec!["b".to_owned(), "c".to_owned()],
        tick_interval: Some(ms(25)),
        pacing: Pacing::Eager.into(),
        capacity: Some(5),
        locked: Some(true),
        unlisted: Some(true),
        metadata: props([("map", text("dust")), ("score", map([("red", int(1))]))]),
        successors: vec!["bob".to_owned(), "ada".to_owned()],
        host_grace: Some(ms(1_500)),
        inherit_host_data: Some(false),
        rejoin_grace: Some(ms(2_500)),
        empty_ttl: Some(ms(3_500)),
        max_age: Some(ms(3_600_000)),
        exclusive: Some(false),
        password: None,
        data_role: Role::Owner.into(),
        reset_role: Role::Member.into(),
        presence: Presence::Tied.into(),
        durability: Durability::None.into(),
        rules: vec![],
    }
}

const ALL: [&str; 18] = [
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
    "rejoin_grace",
    "empty_ttl",
    "max_age",
    "data_role",
    "presence",
    "reset_role",
];

#[tokio::test]
async fn every_setting_is_chosen_at_the_opening_or_later_and_taken_back() {
    let service = Service::start().await;
    let asked = SessionSettings { exclusive: None, ..chosen() };
    service.open_hosted("first", "ada", asked.clone()).await;
    let first = service.watch("first", "ada").await;
    assert_eq!(first.rebuilt.session().settings, Some(chosen()));
    service.try_delete("first", "ada").await.expect("it is deleted");

    service.open_hosted("second", "ada", SessionSettings::default()).await;
    let mut second = service.watch("second", "ada").await;
    let defaults = second.rebuilt.session().settings.clone();
    for name in ALL {
        let reply = service.try_update("second", "ada", &[name], asked.clone()).await;
        let reply = reply.expect("each is fine by itself");
        assert!(reply.settings.is_some() && reply.position.is_some());
    }
    service.advance(100);
    second.next().await;
    while second.rebuilt.session().settings != Some(chosen()) {
        second.next().await;
    }
    assert_eq!(
        service.info("second", "ada").await.session.and_then(|it| it.settings),
        Some(chosen())
    );
    let reply = service.try_update("second", "ada", &ALL, SessionSettings::default()).await;
    assert_eq!(reply.expect("they go back to their defaults").settings, defaults);
    service.advance(100);
    while second.rebuilt.session().settings != defaults {
        second.next().await;
    }
}

#[tokio::test]
async fn an_update_is_all_or_nothing() {
    let service = Service::start().await;
    service.open_hosted("lecture", "ada", SessionSettings::default()).await;
    let before = service.info("lecture", "ada").await;
    let settings = SessionSettings { host_grace: Some(ms(3_600_001)), ..chosen() };
    let told = refused(service.try_update("lecture", "ada", &ALL, settings).await);
    told.blames(&["settings.host_grace"]);
    service.tick();
    assert_eq!(service.info("lecture", "ada").await, before);
}

#[tokio::test]
async fn the_settings_of_hosts_are_for_hosted_sessions() {
    let service = Service::with_room().await;
    let mask = ["hostprops", "successors", "host_grace", "inherit_host_data"];
    let told = refused(service.try_update("finals", "ada", &mask, chosen()).await);
    let fields = [
        "settings.hostprops",
        "settings.successors",
        "settings.host_grace",
        "settings.inherit_host_data",
    ];
    told.blames(&fields);
    let asked = SessionSettings { exclusive: None, ..chosen() };
    refused(service.try_open(opening("other", "ada", asked)).await);
}

#[tokio::test]
async fn spans_are_taken_up_to_the_ends_of_their_ranges() {
    let service = Service::start().await;
    service.open_hosted("lecture", "ada", SessionSettings::default()).await;
    const DAY: u64 = 24 * 3_600_000;
    type Choose = fn(&mut SessionSettings) -> &mut Option<prost_types::Duration>;
    let ranges: [(&str, Choose, u64, u64); 4] = [
        ("tick_interval", |it| &mut it.tick_interval, 1, 60_000),
        ("host_grace", |it| &mut it.host_grace, 0, 3_600_000),
        ("rejoin_grace", |it| &mut it.rejoin_grace, 0, DAY),
        ("empty_ttl", |it| &mut it.empty_ttl, 0, 365 * DAY),
    ];
    for (name, choose, least, most) in ranges {
        let with = |span| {
            let mut settings = SessionSettings::default();
            *choose(&mut settings) = Some(span);
            settings
        };
        for fits in [least, most] {
            service.update("lecture", "ada", &[name], with(ms(fits))).await;
        }
        let below = match least {
            0 => prost_types::Duration { seconds: 0, nanos: -1_000_000 },
            _ => prost_types::Duration { seconds: 0, nanos: 999_000 },
        };
        let huge = prost_types::Duration { seconds: i64::MAX, nanos: i32::MAX };
        let tiny = prost_types::Duration { seconds: i64::MIN, nanos: i32::MIN };
        for beyond in [below, ms(most + 1), huge, tiny] {
            let answer = service.try_update("lecture", "ada", &[name], with(beyond)).await;
            refused(answer).blames(&[&format!("settings.{name}")]);
        }
    }
}

#[tokio::test]
async fn data_is_written_from_members_on_and_a_session_reset_from_members_or_admins_on() {
    let service = Service::with_room().await;
    for role in [Role::Owner, Role::Moderator, Role::Spectator] {
        let (reset_role, data_role) = (role.into(), Role::Spectator.into());
        let settings = SessionSettings { reset_role, data_role, ..Default::default() };
        let mask = ["reset_role", "data_role"];
        let told = refused(service.try_update("finals", "ada", &mask, settings).await);
        told.blames(&["settings.reset_role", "settings.data_role"]);
    }
}
