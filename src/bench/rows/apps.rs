//! Too many calls, and two apps of which one takes more than it may.

use super::{Bench, figures_beside};
use crate::bench::{
    Result,
    figures::Figures,
    folder::Folder,
    grpc::{Connection, Ended},
    load::Load,
    measure::watch,
    peer::Peer,
    report::LATE_MS,
    rows::calls::delete_one,
    server::Server,
    service::{SESSION_ID, Service, app},
    socket::Socket,
    tally::Tally,
    update::user_id,
};
use crate::proto::{
    GetSessionInfoRequest, OpenSharedSessionRequest, PropsWrite, SetUserPropsRequest,
};
use hdrhistogram::Histogram;
use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::{JoinHandle, spawn_local},
    time::{sleep, sleep_until},
};
use tonic::Code;

/// Members of the session that the calls ask for: with them a call costs the server much more than it
/// costs the generator, which has to make three times as many as the server can answer.
const MEMBERS: usize = 400;
/// How many times more calls come than can be answered.
const TIMES: f64 = 3.0;
/// Calls on their way at a time where as many come as are answered.
const AT_ONCE: usize = 64;
/// Over so many connections the calls are spread.
const CONNECTIONS: usize = 8;
/// What is still on its way: where a server refuses nothing, no more are made.
const ON_THE_WAY: usize = 7_000;
/// Calls go out together, so often.
const BEAT: Duration = Duration::from_millis(1);
/// Calls that the app which is limited may make in a second.
const LIMIT: usize = 500;

/// What became of calls.
#[derive(Debug)]
struct Outcomes {
    done: Histogram<u64>,
    refused: Histogram<u64>,
    failed: u64,
    /// Why the first of these did.
    fault: Option<String>,
    on_the_way: usize,
    /// Not made, because so many were on their way.
    left_out: u64,
    late: Duration,
}

impl Default for Outcomes {
    fn default() -> Self {
        let histogram = || {
            let histogram = Histogram::new_with_max(60_000_000, 3);
            histogram.expect("the bounds are such that there is one")
        };
        Self {
            done: histogram(),
            refused: histogram(),
            failed: 0,
            fault: None,
            on_the_way: 0,
            left_out: 0,
            late: Duration::ZERO,
        }
    }
}

type Shared = Rc<RefCell<Outcomes>>;

impl Outcomes {
    fn note(&mut self, outcome: Result<()>, took: Duration) {
        let took = took.as_micros() as u64;
        let code = |error: &crate::bench::Error| {
            error.downcast_ref::<Ended>().map(|ended| Code::from_i32(ended.code))
        };
        match outcome.as_ref().map_err(code) {
            Ok(()) => self.done.saturating_record(took),
            Err(Some(Code::ResourceExhausted)) => self.refused.saturating_record(took),
            Err(_) => {
                self.failed += 1;
                let fault = outcome.err().map(|error| error.to_string());
                self.fault = self.fault.take().or(fault);
            }
        }
    }
}

/// Makes calls at even distances, whatever becomes of them, until it is dropped.
fn offer(
    connections: &[Connection],
    per_second: f64,
    outcomes: &Shared,
    call: impl AsyncFn(&Connection, usize) -> Result<()> + Clone + 'static,
) -> AbortOnDrop {
    let (connections, outcomes) = (connections.to_vec(), outcomes.clone());
    AbortOnDrop(spawn_local(async move {
        let begin = Instant::now();
        let (mut made, mut beat) = (0usize, begin);
        loop {
            beat += BEAT;
            sleep_until(beat.into()).await;
            let late = beat.elapsed();
            let due = (begin.elapsed().as_secs_f64() * per_second) as usize;
            let mut all = outcomes.borrow_mut();
            all.late = all.late.max(late);
            for turn in made..due {
                if all.on_the_way >= ON_THE_WAY {
                    all.left_out += 1;
                    continue;
                }
                all.on_the_way += 1;
                let at = begin + Duration::from_secs_f64(turn as f64 / per_second);
                let connection = connections[turn % connections.len()].clone();
                let (outcomes, call) = (outcomes.clone(), call.clone());
                spawn_local(async move {
                    let outcome = call(&connection, turn).await;
                    let mut all = outcomes.borrow_mut();
                    all.on_the_way -= 1;
                    all.note(outcome, at.elapsed());
                });
            }
            made = due.max(made);
        }
    }))
}

/// As many calls as can be answered, and then three times as many.
pub async fn overload(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let server = Server::start(args).await?;
    let connections = connect(&server).await?;
    let members = args.scaled(MEMBERS, 10);
    let open = OpenSharedSessionRequest {
        app: app(0),
        session_id: SESSION_ID.to_owned(),
        users: (0..members).map(user_id).collect(),
        ..OpenSharedSessionRequest::default()
    };
    connections[0].clone().for_app().unary("SessionService/OpenSharedSession", &open).await?;
    let ask = async |connection: &Connection, _: usize| {
        let request = GetSessionInfoRequest {
            app: app(0),
            user_id: user_id(0),
            session_id: SESSION_ID.to_owned(),
            ..GetSessionInfoRequest::default()
        };
        connection.unary("SessionService/GetSessionInfo", &request).await.map(drop)
    };

    bench.progress.step("as many calls as can be answered".to_owned());
    let closed = Shared::default();
    let callers: Vec<_> = (0..AT_ONCE)
        .map(|caller| {
            let (connection, closed) = (connections[caller % CONNECTIONS].clone(), closed.clone());
            AbortOnDrop(spawn_local(async move {
                loop {
                    let begin = Instant::now();
                    let outcome = ask(&connection, 0).await;
                    closed.borrow_mut().note(outcome, begin.elapsed());
                }
            }))
        })
        .collect();
    let (_, peak) = window(bench, &closed).await;
    drop(callers);
    sleep(args.settle().min(Duration::from_secs(1))).await;

    bench.progress.step(format!("{:.0} calls a second", TIMES * peak.done));
    let offered = Shared::default();
    let calls = offer(&connections, TIMES * peak.done, &offered, ask);
    let (all, over) = window(bench, &offered).await;
    drop(calls);
    if let Some(fault) = all.fault {
        return Err(format!("{} calls failed, the first: {fault}", all.failed).into());
    }
    sleep(args.settle()).await;
    delete_one(&connections[0], app(0), SESSION_ID).await?;
    server.stop().await?;

    let quantile = |of: &Histogram<u64>| of.value_at_quantile(0.99) as f64 / 1e3;
    let mut figures = Figures::from_iter([
        ("peak_per_second", peak.done),
        ("offered_per_second", over.done + over.refused + over.left_out),
        ("goodput_per_second", over.done),
        ("goodput_percent", 100.0 * over.done / peak.done),
        ("done_p99_ms", quantile(&all.done)),
        ("left_out_per_second", over.left_out),
        (LATE_MS, all.late.as_secs_f64() * 1e3),
    ]);
    if !all.refused.is_empty() {
        figures.set("refused_p99_ms", quantile(&all.refused));
    }
    Ok(figures)
}

/// What happened to calls in a second.
struct PerSecond {
    done: f64,
    refused: f64,
    left_out: f64,
}

/// What becomes of calls in the time that is measured.
/// Takes what became of calls until now; those that are on their way stay.
fn take(outcomes: &Shared) -> Outcomes {
    let on_the_way = outcomes.borrow().on_the_way;
    outcomes.replace(Outcomes { on_the_way, ..Outcomes::default() })
}

async fn window(bench: &Bench, outcomes: &Shared) -> (Outcomes, PerSecond) {
    sleep(bench.args.warm_up()).await;
    {
        take(outcomes);
    }
    let begin = Instant::now();
    sleep(bench.args.duration()).await;
    let seconds = begin.elapsed().as_secs_f64();
    let all = take(outcomes);
    let per_second = PerSecond {
        done: all.done.len() as f64 / seconds,
        refused: all.refused.len() as f64 / seconds,
        left_out: all.left_out as f64 / seconds,
    };
    (all, per_second)
}

async fn connect(server: &Server) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let socket =
            Socket::connect(server.place.clone(), None, Arc::new(Tally::default())).await?;
        connections.push(Connection::open(socket, &server.place).await?);
    }
    Ok(connections)
}

/// A busy room of an app, alone and beside another app that makes three times as many calls as it may.
pub async fn two(bench: &Bench) -> Result<Figures> {
    let args = &bench.args;
    let plan = bench.plan(1, args.scaled(50, 2).min(50));
    let greedy = app(plan.rooms);
    let folder = Folder::new()?;
    let limits = format!("[apps.{greedy}.limits]\ncalls-per-second = {LIMIT}\n");
    let file = folder.write("apps.toml", limits.as_bytes())?;
    let server = Server::start_with_apps(args, &file).await?;
    let service = Service::connect(server.place.clone()).await?;
    service.open_rooms(&plan).await?;
    let connections = connect(&server).await?;
    let users = 50;
    let open = OpenSharedSessionRequest {
        app: greedy.clone(),
        session_id: SESSION_ID.to_owned(),
        users: (0..users).map(user_id).collect(),
        ..OpenSharedSessionRequest::default()
    };
    connections[0].clone().for_app().unary("SessionService/OpenSharedSession", &open).await?;
    let mut load = Load::start(&plan, &Peer::Sessiond { place: server.place.clone() }).await?;
    load.go_on(args.warm_up()).await?;
    bench.progress.step("a busy room alone".to_owned());
    let alone = watch(&mut load, &server.processes, args.duration()).await?;
    bench.progress.step("the busy room beside an app that is over its limit".to_owned());
    let outcomes = Shared::default();
    let calls = offer(&connections, TIMES * LIMIT as f64, &outcomes, async move |calls, turn| {
        let set = [("x".to_owned(), crate::bench::payload::Payload::Numbers.sample())];
        let session_ids = vec![SESSION_ID.to_owned()];
        let request = SetUserPropsRequest {
            app: greedy.clone(),
            user_id: user_id(turn % users),
            write: Some(PropsWrite { set: set.into(), session_ids, ..PropsWrite::default() }),
            ..SetUserPropsRequest::default()
        };
        calls.unary("SessionService/SetUserProps", &request).await.map(drop)
    });
    load.go_on(args.warm_up()).await?;
    take(&outcomes);
    let beside = watch(&mut load, &server.processes, args.duration()).await?;
    let greedy = take(&outcomes);
    drop(calls);
    let total = load.stop().await?;

    let mut figures = figures_beside(&plan, &alone, &beside, total.arrived());
    let seconds = beside.usage.elapsed.as_secs_f64();
    figures.extend([
        ("let_through_per_second", greedy.done.len() as f64 / seconds),
        ("refused_per_second", greedy.refused.len() as f64 / seconds),
        ("failed_calls", greedy.failed as f64),
    ]);
    server.stop().await?;
    Ok(figures)
}

/// A task that ends with the row.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
