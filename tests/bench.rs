//! The benchmark, run on the real program: not what it measures, but that it measures, and that it
//! leaves nothing behind. On a machine that is too busy to measure anything, it says so.

use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A moment of each row, in a size in which it shows nothing.
const TINY: &str = "--scale 0.002 --seconds 0.3 --repeat 1 --format json";

#[test]
fn rooms_with_connections_of_their_own_are_measured_beside_the_floor() {
    for row in rows("own-10x50 own-10x50-tls own-40x50 hosted-1000 hosted-5000") {
        expect_measured(&row, &["server_cpu_us_per_delivery", "floor_ratio", "bytes_per_delivery"]);
    }
}

#[test]
fn few_writes_and_many_members_are_measured() {
    for row in rows("eager-sparse big-room") {
        expect_measured(&row, &["server_cpu_us_per_delivery", "bytes_per_delivery"]);
    }
}

#[test]
fn backends_are_measured_beside_the_floor() {
    for row in rows("gateway-10 gateway-40") {
        expect_measured(&row, &["server_cpu_us_per_delivery", "floor_ratio", "bytes_per_delivery"]);
    }
}

#[test]
fn two_threads_are_held_against_one() {
    for row in rows("two-cores") {
        expect_measured(&row, &["speedup", "busiest_of_two_percent"]);
    }
}

#[test]
fn sizes_are_measured_one_after_the_other() {
    for row in rows("scale-users scale-sessions") {
        let steps = row["steps"].as_array().expect("steps");
        assert!(!steps.is_empty());
        for step in steps {
            assert!(step["at"].as_f64() >= Some(1.0), "{row:#}");
            assert!(step["server_cpu_us_per_delivery"].as_f64() > Some(0.0), "{row:#}");
        }
    }
}

#[test]
fn idle_streams_sessions_and_users_are_measured() {
    let [connections, sessions, users] =
        &rows("idle-connections idle-sessions idle-gateway-users")[..]
    else {
        panic!("three rows")
    };
    assert!(connections["connections"].as_f64() > Some(0.0), "{connections:#}");
    // So few may find room in what the process holds already.
    assert!(connections["kib_per_stream"].is_number(), "{connections:#}");
    expect_measured(sessions, &["server_cpu_us_per_delivery"]);
    assert!(sessions["bytes_per_idle_session"].is_number(), "{sessions:#}");
    assert!(users["attached_after_ms"].as_f64() > Some(0.0), "{users:#}");
}

#[test]
fn calls_are_counted_and_sessions_come_and_go() {
    let [unary, sessions] = &rows("unary open-close")[..] else { panic!("two rows") };
    for call in ["set_props", "get_info", "join_leave", "open_delete"] {
        let figure = format!("{call}_per_second_of_cpu");
        assert!(unary[&figure].as_f64() > Some(0.0), "{figure} in {unary:#}");
    }
    for figure in ["opened_per_second", "ended_per_second", "bytes_per_session"] {
        assert!(sessions[figure].as_f64() > Some(0.0), "{figure} in {sessions:#}");
    }
}

#[test]
fn what_credentials_cost_is_held_against_the_same_load_without() {
    let [own, unary] = &rows("own-10x50-identity unary-identity")[..] else { panic!("two rows") };
    expect_measured(own, &["server_cpu_us_per_delivery", "server_cpu_us_per_delivery_before"]);
    assert!(own["cpu_change_percent"].is_number(), "{own:#}");
    for call in ["set_props", "get_info", "join_leave", "open_delete"] {
        for credential in ["token", "key"] {
            let ratio = unary[format!("{call}_{credential}_ratio")].as_f64();
            assert!(ratio > Some(0.0), "{call} with a {credential} in {unary:#}");
            assert!(unary[format!("{credential}_ratio")].as_f64() <= ratio, "{unary:#}");
        }
    }
    expect_goals_measured(unary);
}

#[test]
fn what_storing_costs_is_held_against_the_same_load_without() {
    let loads = rows("durable-none durable-async durable-sync");
    for row in &loads {
        expect_measured(row, &["server_cpu_us_per_delivery"]);
        assert!(row["cpu_change_percent"].is_number(), "{row:#}");
    }
    // The store of sessions that are not stored may be written seldom, or not at all.
    for row in &loads[1..] {
        expect_measured(row, &["bytes_written_per_update"]);
    }
    for row in rows("restart") {
        assert!(row["ready_after_ms"].as_f64() > Some(0.0), "{row:#}");
    }
}

#[test]
fn nodes_of_a_cluster_are_measured_where_nats_is() {
    let is_here = |row: &&Value| row["skipped"].is_null();
    // They wait for most of the time.
    std::thread::scope(|scope| {
        let sent_on = scope.spawn(|| rows("cluster-forwarded cluster-three"));
        let stored = scope.spawn(|| rows("cluster-async cluster-sync"));
        let stopped = scope.spawn(|| rows("cluster-hand-over cluster-take-over"));
        for row in sent_on.join().expect("no panic").iter().filter(is_here) {
            expect_measured(row, &["p50_ms", "server_cpu_us_per_delivery"]);
        }
        for row in stored.join().expect("no panic").iter().filter(is_here) {
            expect_measured(row, &["p50_ms", "durable_write_p50_ms"]);
        }
        let stopped = stopped.join().expect("no panic");
        let gaps = stopped.iter().filter(is_here).map(|row| row["gap_p50_ms"].as_f64());
        // Nobody takes over before an owner has been silent for some seconds.
        for (gap, least) in gaps.zip([0.0, 3_000.0]) {
            assert!(gap > Some(least), "{stopped:#?}");
        }
    });
}

#[test]
fn too_many_calls_are_refused_and_no_call_fails_otherwise() {
    let [overload, apps] = &rows("overload two-apps")[..] else { panic!("two rows") };
    for figure in ["peak_per_second", "offered_per_second", "goodput_per_second"] {
        assert!(overload[figure].as_f64() > Some(0.0), "{figure} in {overload:#}");
    }
    expect_measured(apps, &["let_through_per_second", "refused_per_second", "p99_ms_alone"]);
    assert_eq!(apps["failed_calls"].as_f64(), Some(0.0), "{apps:#}");
}

#[test]
fn every_row_is_run_here() {
    let answer = bench("--only none").output().expect("the program runs");
    let told = String::from_utf8(answer.stderr).expect("text");
    let (_, names) = told.split_once("[possible values: ").expect("the names of all rows");
    let (names, _) = names.split_once(']').expect("their end");
    let names: Vec<_> = names.split([',', ' ', '\n']).filter(|name| !name.is_empty()).collect();
    assert!(names.len() > 20, "{told}");
    let here = include_str!("bench.rs").lines().filter(|line| line.contains("rows(\""));
    let here: Vec<_> = here.flat_map(|line| line.split(['"', ' '])).collect();
    let missing: Vec<_> = names.iter().filter(|name| !here.contains(name)).collect();
    // A ramp of more and more rooms is run with a load of one's own.
    assert!(missing.iter().all(|name| name.starts_with("gateway-max-")), "{missing:?}");
}

#[test]
fn wrong_passwords_are_refused_beside_a_room_that_goes_on() {
    for row in rows("wrong-passwords") {
        // Passwords are compared when nothing else wants to run, which here may be never.
        expect_measured(&row, &["guesses_per_second", "p99_ms_alone"]);
        assert!(row["compared_per_second"].is_number(), "{row:#}");
    }
}

#[test]
fn a_load_of_ones_own_has_the_sizes_that_were_asked_for() {
    for (load, name) in [
        ("--shape own --rooms 2 --users 3 --payload text:40 --props 3", "own-2x3"),
        ("--shape hosted --rooms 1 --users 4 --payload integers", "hosted-1x4"),
        ("--shape gateway --rooms 2 --users 3 --payload data:9", "gateway-2x3"),
        ("--shape gateway --rooms 2 --users 3 --encoding columns", "gateway-2x3"),
        ("--shape own --rooms 2 --users 3 --encoding columns", "own-2x3"),
    ] {
        let answer = bench(TINY).args(load.split(' ')).args(["--rate", "20"]).output();
        let report = report(&answer.expect("the program runs"));
        assert_eq!(names(&report), [name]);
        expect_measured(&report["rows"][0], &["server_cpu_us_per_delivery", "bytes_per_delivery"]);
    }
}

#[test]
fn a_peer_that_is_not_installed_is_left_out() {
    let folder = std::env::temp_dir().join(format!("sessiond-peers-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let start = folder.join("start");
    fs::write(&start, "#!/bin/sh\nexit 3\n").expect("a script");
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let answer = bench(TINY)
        .args(["--only", "gateway-40", "--peers"])
        .arg(&folder)
        .output()
        .expect("the program runs");
    fs::remove_dir_all(&folder).expect("it is ours");
    let report = report(&answer);
    let row = &report["rows"][0];
    expect_measured(row, &["floor_ratio"]);
    assert!(row["redis_ratio"].is_null(), "{row:#}");
    let redis = row["goals"].as_array().expect("goals").iter();
    let mut redis = redis.filter(|goal| goal["figure"] == "redis_ratio");
    assert!(redis.all(|goal| goal["pass"].is_null()), "{row:#}");
}

#[test]
fn a_ramp_raises_the_number_of_rooms() {
    for shape in ["own", "gateway"] {
        let mut run = bench("--rooms 1 --users 2 --ramp --seconds 0.1 --repeat 1 --shape")
            .arg(shape)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let log = BufReader::new(run.stderr.take().expect("it is piped"));
        let mut steps = log.lines().map_while(Result::ok);
        assert!(steps.any(|step| step.starts_with("1 rooms of 2 users")));
        // What one step leaves behind is no hindrance to the next.
        let raised = steps.any(|step| step.starts_with("3 rooms of 2 users"));
        // By a signal that it can hear: it ends its server too.
        interrupt(run.id());
        let ended = run.wait().expect("it ends");
        // On a machine that is so busy that so few rooms are too many, the ramp is over.
        assert!(raised || ended.success(), "{shape}");
    }
}

#[test]
fn a_ramp_ends_where_it_is_too_much() {
    // Users are let through 200 times a second: what they write beyond that is merged.
    let answer = bench("--shape own --rooms 4 --users 2 --rate 1000 --ramp --format json")
        .args(["--seconds", "0.3", "--repeat", "1"])
        .output()
        .expect("the program runs");
    let report = report(&answer);
    let row = &report["rows"][0];
    assert_eq!(row["name"], "own-4x2-ramp");
    // A quarter of it was tried, too, and there is nothing below.
    assert_eq!(row["too_many_rooms"], 1.0, "{row:#}");
    assert_eq!(row["steps"].as_array().map(Vec::len), Some(2), "{row:#}");
    assert!(row["limit_rooms"].is_null(), "{row:#}");
}

#[test]
fn a_report_is_drawn_and_written_for_spreadsheets() {
    let file = std::env::temp_dir().join(format!("sessiond-bench-{}.svg", std::process::id()));
    let answer = bench(&TINY.replace("json", "csv"))
        .args(["--only", "own-10x50", "--plot"])
        .arg(&file)
        .output()
        .expect("the program runs");
    let drawn = fs::read_to_string(&file).expect("a drawing");
    fs::remove_file(&file).expect("it is ours");
    let lines = String::from_utf8(answer.stdout).expect("text");
    let mut lines = lines.lines();
    assert_eq!(lines.next(), Some("row,size,figure,value"));
    assert!(lines.clone().any(|line| line.starts_with("own-10x50,,p50_ms,")));
    assert!(lines.all(|line| line.split(',').count() == 4));
    expect_well_formed(&drawn);
}

/// Every element is closed, in order, and quotes are in pairs.
fn expect_well_formed(xml: &str) {
    let mut open = Vec::new();
    for tag in xml.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("a tag has an end");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        assert!(!text.replace("&lt;", "").replace("&gt;", "").replace("&amp;", "").contains('&'));
        let name = tag.trim_start_matches('/').split([' ', '/']).next().expect("a name");
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name)),
            (_, true) => {}
            _ => open.push(name),
        }
    }
    assert!(open.is_empty() && xml.starts_with("<svg "), "{open:?}");
}

#[test]
fn a_server_that_is_not_there_fails_the_row() {
    let answer = bench(
        "--only eager-sparse --only two-cores --only own-10x50-identity --only unary-identity \
         --address 127.0.0.1:1 --format json --repeat 1",
    )
    .output()
    .expect("the program runs");
    assert_eq!(answer.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert!(report["rows"][0]["failed"].is_string(), "{report:#}");
    // What needs a server of its own is no failure.
    for row in &report["rows"].as_array().expect("rows")[1..] {
        assert!(row["failed"].is_null() && row["skipped"].is_string(), "{report:#}");
    }
}

#[test]
fn an_interrupted_run_leaves_no_server_behind() {
    let mut run = bench("--only eager-sparse --seconds 600")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let pid = run.id();
    let log = BufReader::new(run.stderr.take().expect("it is piped"));
    let mut steps = log.lines().map_while(Result::ok);
    steps.find(|step| step.contains("two users")).expect("the server has started");
    let servers = children(pid);
    assert_eq!(servers.len(), 1);

    interrupt(pid);
    assert_eq!(run.wait().expect("it ends").code(), Some(130));
    let deadline = Instant::now() + Duration::from_secs(60);
    while servers.iter().any(|server| Path::new(&format!("/proc/{server}/exe")).exists()) {
        assert!(Instant::now() < deadline, "a server is left");
        thread::yield_now();
    }
}

fn interrupt(pid: u32) {
    let kill = Command::new("kill").args(["-INT", &pid.to_string()]).status();
    assert!(kill.expect("there is a kill").success());
}

/// The figures are there, unless the row says that the machine had no time to measure them.
fn expect_measured(row: &Value, figures: &[&str]) {
    assert!(row["generator_late_ms"].is_number() && row["failed"].is_null(), "{row:#}");
    if let Some(overloaded) = row["overloaded"].as_str() {
        assert!(overloaded.starts_with("machine overloaded: generator late by "), "{row:#}");
        return;
    }
    for figure in figures {
        assert!(row[figure].as_f64().is_some_and(|figure| figure > 0.0), "{figure} in {row:#}");
    }
    assert!(row["p50_ms"].as_f64() <= row["p99_ms"].as_f64(), "{row:#}");
}

/// Each goal has a figure that the row has measured.
fn expect_goals_measured(row: &Value) {
    let goals = row["goals"].as_array().expect("goals");
    assert!(!goals.is_empty() && goals.iter().all(|goal| goal["value"].is_number()), "{row:#}");
}

/// What these rows say in a tiny run.
fn rows(only: &str) -> Vec<Value> {
    let only: Vec<&str> = only.split(' ').collect();
    let flags = only.iter().flat_map(|row| ["--only", row]);
    let answer = bench(TINY).args(flags).output().expect("the program runs");
    let report = report(&answer);
    assert_eq!(names(&report), only);
    report["rows"].as_array().expect("rows").clone()
}

/// The report of a run in which no row failed.
fn report(answer: &Output) -> Value {
    let report: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert!(answer.status.success(), "{report:#}");
    report
}

fn bench(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessiond"));
    command.arg("bench").args(arguments.split(' '));
    command
}

fn names(report: &Value) -> Vec<&str> {
    let rows = report["rows"].as_array().expect("rows");
    rows.iter().filter_map(|row| row["name"].as_str()).collect()
}

fn children(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("this is Linux");
    let pids = processes.filter_map(|process| process.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|process| parent(*process) == Some(pid)).collect()
}

/// The fourth field, after a name in parentheses.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
