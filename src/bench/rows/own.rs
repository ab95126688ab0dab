//! Users with connections of their own.

use super::{Bench, busy};
use crate::bench::{
    Result,
    args::{LoadArgs, Shape},
    figures::Figures,
    grpc::Connection,
    load::{Load, Plan},
    measure::watch,
    peer::Peer,
    place::Place,
    server::Server,
    service::{SESSION_ID, Service, app},
    socket::Socket,
    tally::Tally,
};
use crate::proto::{JoinOptions, Pacing, SubscribeToSessionRequest};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Rooms of 50.
pub async fn rooms(bench: &Bench, rooms: usize) -> Result<Figures> {
    let plan = bench.plan(bench.args.scaled(rooms, 1), bench.args.scaled(50, 2));
    busy::beside_others(bench, &plan).await
}

/// The same rooms at a server with TLS.
pub async fn rooms_with_tls(bench: &Bench, rooms: usize) -> Result<Figures> {
    let plan = bench.plan(bench.args.scaled(rooms, 1), bench.args.scaled(50, 2));
    let server = Server::start_with_tls(&bench.args).await?;
    busy::at_and_beside(bench, &plan, server).await
}

/// One host and so many spectators.
pub async fn hosted(bench: &Bench, spectators: usize) -> Result<Figures> {
    let users = 1 + bench.args.scaled(spectators, 1);
    let load = LoadArgs { rooms: 1, users, ..bench.args.load.clone() };
    busy::beside_others(bench, &Plan::of(&load, Shape::Hosted, 1)).await
}

/// Two users who seldom write.
pub async fn eager_sparse(bench: &Bench) -> Result<Figures> {
    let server = Server::start(&bench.args).await?;
    let period = Duration::from_millis(500).min(bench.args.duration() / 4);
    let plan = Plan { period, pacing: Pacing::Eager, timed: 2, threads: 1, ..bench.plan(1, 2) };
    bench.progress.step("two users who seldom write".to_owned());
    let (_, figures) = busy::at_server(&server, &plan, &bench.args).await?;
    server.stop().await?;
    Ok(figures)
}

/// Very many members, of whom few receive.
pub async fn big_room(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let plan = Plan {
        listeners: 10.min(args.scaled(10_000, 2)),
        timed: 10,
        streams: 100,
        period: Duration::from_secs(1),
        ..bench.plan(1, args.scaled(10_000, 2))
    };
    let server = Server::start(args).await?;
    let service = Service::connect(server.place.clone()).await?;
    service.open_rooms(&plan).await?;
    bench.progress.step(format!("{} members join one room", plan.users));
    let mut load = Load::start(&plan, &Peer::Sessiond { place: server.place.clone() }).await?;
    load.go_on(args.warm_up()).await?;
    bench.progress.step(format!("{} members in one room", plan.users));
    let window = watch(&mut load, &server.processes, args.duration()).await?;
    let (first_ms, first_bytes) = late_joiner(server.place.clone()).await?;
    let total = load.stop().await?;
    service.delete_rooms(&plan).await?;
    server.stop().await?;

    let mut figures = super::load_figures(&window, &plan);
    figures.set("arrived", total.arrived());
    figures.set("late_joiner_ms", first_ms);
    figures.set("late_joiner_kib", first_bytes / 1024.0);
    super::add_strain(&mut figures, &window);
    Ok(figures)
}

/// How long a user waits who comes late, and for how much.
async fn late_joiner(place: Place) -> Result<(f64, f64)> {
    let start = Instant::now();
    let socket = Socket::connect(place.clone(), None, Arc::new(Tally::default())).await?;
    let request = SubscribeToSessionRequest {
        app: app(0),
        user_id: "late".to_owned(),
        session_id: SESSION_ID.to_owned(),
        join: Some(JoinOptions { spectator: true, ..JoinOptions::default() }),
        ..SubscribeToSessionRequest::default()
    };
    let connection = Connection::open(socket, &place).await?;
    let method = "DeliveryService/SubscribeToSession";
    let (_, mut down) = connection.call(method, &request, true).await?;
    let first = down.message().await?;
    Ok((start.elapsed().as_secs_f64() * 1e3, first.len() as f64))
}
