//! Unary calls.

use super::{Bench, mib};
use crate::bench::{
    Result,
    args::BenchArgs,
    figures::Figures,
    grpc::Connection,
    load::each,
    measure::{Meter, Usage},
    payload::{Payload, prop_name},
    server::Server,
    service::{SESSION_ID, Service, app},
    socket::Socket,
    tally::Tally,
    update::user_id,
};
use crate::proto::{
    DeleteSessionRequest, GetSessionInfoRequest, JoinSessionRequest, LeaveSessionRequest,
    OpenSharedSessionRequest, PropsWrite, SetUserPropsRequest,
};
use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};

/// Calls that are on their way at a time.
const AT_ONCE: usize = 50;
/// Rooms, and users in each, among whom the calls go round: none of them is over its rate.
const ROOMS: usize = 20;
const USERS: usize = 50;
/// Sessions that are opened and ended.
const OPENED: usize = 1_000_000;
/// An allocator has given back by then what it gives back.
const GIVING_BACK: u32 = 4;

/// Requests per second of server CPU, by kind.
pub async fn unary(bench: &Bench) -> Result<Figures> {
    let server = Server::start(&bench.args).await?;
    let connection = connect(&server).await?;
    let figures = all_kinds(bench, &server, &connection).await?;
    server.stop().await?;
    Ok(figures)
}

/// The apps that [`all_kinds`] calls for.
pub fn apps() -> impl Iterator<Item = String> {
    (0..=ROOMS).map(app)
}

/// A connection to a server.
pub async fn connect(server: &Server) -> Result<Connection> {
    let socket = Socket::connect(server.place.clone(), None, Arc::new(Tally::default())).await?;
    Connection::open(socket, &server.place).await
}

/// Calls of each kind on a connection to the server, which has none of the sessions before and after.
pub async fn all_kinds(bench: &Bench, server: &Server, connection: &Connection) -> Result<Figures> {
    for room in 0..ROOMS {
        let open = OpenSharedSessionRequest {
            app: app(room),
            session_id: SESSION_ID.to_owned(),
            users: (0..USERS).map(user_id).collect(),
            ..OpenSharedSessionRequest::default()
        };
        connection
            .clone()
            .for_app()
            .unary_repeated("SessionService/OpenSharedSession", &open)
            .await?;
    }

    let repeated = connection.repeated();
    let calls = Calls { bench, server, connection };
    let mut figures = Figures::default();
    calls
        .measure(&mut figures, "set_props", async |calls, turn| {
            let value = Payload::Numbers.sample();
            let set = (0..2).map(|prop| (prop_name(prop), value.clone())).collect();
            let session_ids = vec![SESSION_ID.to_owned()];
            let request = SetUserPropsRequest {
                app: app(turn % ROOMS),
                user_id: user_id(turn / ROOMS % USERS),
                write: Some(PropsWrite { set, session_ids, ..PropsWrite::default() }),
                ..SetUserPropsRequest::default()
            };
            calls.unary_repeated("SessionService/SetUserProps", &request).await?;
            Ok(1)
        })
        .await?;
    calls
        .measure(&mut figures, "get_info", async |calls, turn| {
            let request = GetSessionInfoRequest {
                app: app(turn % ROOMS),
                user_id: user_id(turn / ROOMS % USERS),
                session_id: SESSION_ID.to_owned(),
                ..GetSessionInfoRequest::default()
            };
            calls.unary_repeated("SessionService/GetSessionInfo", &request).await?;
            Ok(1)
        })
        .await?;
    calls
        .measure(&mut figures, "join_leave", async |calls, turn| {
            let (app, session_id) = (app(turn % ROOMS), SESSION_ID.to_owned());
            let user_id = format!("guest{}", turn / ROOMS % USERS);
            let request = JoinSessionRequest {
                app: app.clone(),
                user_id: user_id.clone(),
                session_id: session_id.clone(),
                omit_snapshot: true,
                ..JoinSessionRequest::default()
            };
            calls.unary_repeated("SessionService/JoinSession", &request).await?;
            let request = LeaveSessionRequest { app, user_id, session_id, ..Default::default() };
            calls.unary_repeated("SessionService/LeaveSession", &request).await?;
            Ok(2)
        })
        .await?;
    calls
        .measure(&mut figures, "open_delete", async |calls, turn| {
            let session_id = format!("s{turn}");
            open_one(calls, &session_id).await?;
            delete_one(calls, app(ROOMS), &session_id).await?;
            Ok(2)
        })
        .await?;
    for room in 0..ROOMS {
        delete_one(connection, app(room), SESSION_ID).await?;
    }
    figures.set("repeated_calls", (connection.repeated() - repeated) as f64);
    Ok(figures)
}

/// A million sessions come and go.
pub async fn open_close(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let sessions = args.scaled(OPENED, AT_ONCE);
    let server = Server::start(args).await?;
    let connection = connect(&server).await?;
    // What the server takes once for all is not a session's.
    let service = Service::connect(server.place.clone()).await?;
    service.open_idle(AT_ONCE, None).await?;
    service.delete_idle(AT_ONCE).await?;
    sleep(args.settle()).await;
    let before = server.resident_bytes()?;

    bench.progress.step(format!("opening {sessions} sessions"));
    let opening = timed(
        &server,
        each(&connection, sessions, AT_ONCE, async |calls, session| {
            open_one(calls, &format!("s{session}")).await
        }),
    )
    .await?;
    let most = server.resident_bytes()?;
    bench.progress.step(format!("ending {sessions} sessions"));
    let ending = timed(
        &server,
        each(&connection, sessions, AT_ONCE, async |calls, session| {
            delete_one(calls, app(ROOMS), &format!("s{session}")).await
        }),
    )
    .await?;
    bench.progress.step("what is given back".to_owned());
    sleep(args.settle() * GIVING_BACK).await;
    let after = server.resident_bytes()?;
    server.stop().await?;

    let mut figures = Figures::from_iter([("sessions", sessions as f64)]);
    for (name, usage) in [("opened", &opening), ("ended", &ending)] {
        let per_second = |time: Duration| sessions as f64 / time.as_secs_f64();
        figures.set(format!("{name}_per_second"), per_second(usage.elapsed));
        let of_cpu = usage.server_cpu.map(per_second);
        figures.set_some(format!("{name}_per_second_of_cpu"), of_cpu);
    }
    if let (Some(before), Some(most), Some(after)) = (before, most, after) {
        let taken = most.saturating_sub(before) as f64;
        let back = 100.0 * most.saturating_sub(after) as f64 / taken.max(1.0);
        figures.extend([
            ("bytes_per_session", taken / sessions as f64),
            ("most_mib", mib(most)),
            ("after_mib", mib(after)),
            ("memory_back_percent", back),
        ]);
    }
    Ok(figures)
}

async fn open_one(connection: &Connection, session_id: &str) -> Result<()> {
    let request = OpenSharedSessionRequest {
        app: app(ROOMS),
        session_id: session_id.to_owned(),
        ..OpenSharedSessionRequest::default()
    };
    let connection = connection.clone().for_app();
    connection.unary_repeated("SessionService/OpenSharedSession", &request).await.map(drop)
}

/// Ends a session.
pub async fn delete_one(connection: &Connection, app: String, session_id: &str) -> Result<()> {
    let session_id = session_id.to_owned();
    let request = DeleteSessionRequest { app, session_id, ..DeleteSessionRequest::default() };
    let connection = connection.clone().for_app();
    connection.unary_repeated("SessionService/DeleteSession", &request).await.map(drop)
}

struct Calls<'a> {
    bench: &'a Bench,
    server: &'a Server,
    connection: &'a Connection,
}

impl Calls<'_> {
    /// Makes calls, many at once, as fast as they are answered; `call` says how many it made.
    async fn measure(
        &self,
        figures: &mut Figures,
        name: &'static str,
        call: impl AsyncFn(&Connection, usize) -> Result<u64> + Clone + 'static,
    ) -> Result<()> {
        self.bench.progress.step(format!("{name}, {AT_ONCE} calls at once"));
        let args: &BenchArgs = &self.bench.args;
        let (count, turn) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let end = Instant::now() + args.warm_up() + args.duration();
        let mut callers = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (connection, call) = (self.connection.clone(), call.clone());
            let (count, turn) = (count.clone(), turn.clone());
            callers.spawn_local(async move {
                while Instant::now() < end {
                    turn.set(turn.get() + 1);
                    let calls = call(&connection, turn.get()).await?;
                    count.set(count.get() + calls);
                }
                Ok::<_, crate::bench::Error>(())
            });
        }
        sleep(args.warm_up()).await;
        let before = count.get();
        let meter = Meter::start(&self.server.processes)?;
        sleep(args.duration()).await;
        let usage = meter.stop()?;
        let calls = (count.get() - before) as f64;
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        figures.set(format!("{name}_per_second"), calls / usage.elapsed.as_secs_f64());
        let of_cpu = usage.server_cpu.map(|cpu| calls / cpu.as_secs_f64());
        figures.set_some(format!("{name}_per_second_of_cpu"), of_cpu);
        Ok(())
    }
}

async fn timed(server: &Server, work: impl Future<Output = Result<()>>) -> Result<Usage> {
    let meter = Meter::start(&server.processes)?;
    work.await?;
    meter.stop()
}
