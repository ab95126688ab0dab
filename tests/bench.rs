//! The benchmark, run on the real program: not what it measures, but that it measures, and that it
//! leaves nothing behind. On a machine that is too busy to measure anything, it says so.

use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_small_load_is_measured_and_all_of_it_arrives() {
    let load = "--rooms 2 --users 3 --rate 5 --tick 20 --seconds 1 --repeat 1";
    let answer = bench("--only own-10x50 --only eager-sparse --format json")
        .args(load.split(' '))
        .output()
        .expect("the program runs");
    let report: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert!(answer.status.success(), "{report:#}");
    assert_eq!(names(&report), ["own-2x3", "eager-sparse"]);
    let figures = ["server_cpu_us_per_delivery", "floor_ratio", "bytes_per_delivery"];
    expect_measured(&report["rows"][0], &figures);
    expect_measured(&report["rows"][1], &["server_cpu_us_per_delivery", "bytes_per_delivery"]);
}

#[test]
fn wrong_passwords_are_refused_beside_a_room_that_goes_on() {
    let load = "--users 3 --rate 3 --tick 100 --seconds 1 --repeat 1";
    let answer = bench("--only wrong-passwords --format json")
        .args(load.split(' '))
        .output()
        .expect("the program runs");
    let report: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert!(answer.status.success(), "{report:#}");
    let row = &report["rows"][0];
    // Passwords are compared when nothing else wants to run, which here may be never.
    expect_measured(row, &["guesses_per_second", "p99_ms_alone"]);
    assert!(row["compared_per_second"].is_number(), "{row:#}");
}

#[test]
fn a_server_that_is_not_there_fails_the_row() {
    let answer = bench("--only eager-sparse --address 127.0.0.1:1 --format json --repeat 1")
        .output()
        .expect("the program runs");
    assert_eq!(answer.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert!(report["rows"][0]["failed"].is_string(), "{report:#}");
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

    let kill = Command::new("kill").args(["-INT", &pid.to_string()]).status();
    assert!(kill.expect("there is a kill").success());
    assert_eq!(run.wait().expect("it ends").code(), Some(130));
    let deadline = Instant::now() + Duration::from_secs(60);
    while servers.iter().any(|server| Path::new(&format!("/proc/{server}/exe")).exists()) {
        assert!(Instant::now() < deadline, "a server is left");
        thread::yield_now();
    }
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
