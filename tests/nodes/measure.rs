//! What sending on costs. `cargo test --release --test nodes -- --ignored --nocapture measure`

use super::support::{Front, LOOPBACK, connect, in_time, start};
use sessiond::{
    config::Config,
    proto::{
        GetSessionInfoRequest, PropsWrite, SetUserPropsRequest, SubscribeToSessionRequest, Value,
        delivery_service_client::DeliveryServiceClient,
        session_service_client::SessionServiceClient,
    },
};
use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};
use tonic::transport::Channel;

const CALLS: usize = 5000;
const STREAMS: usize = 50;
const WRITES: usize = 500;

/// The threads of this process that serve.
fn workers() -> BTreeSet<u32> {
    let tasks = fs::read_dir("/proc/self/task").expect("it is Linux").map_while(Result::ok);
    let numbers = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
    let name = |task: &u32| fs::read_to_string(format!("/proc/self/task/{task}/comm"));
    numbers.filter(|task| name(task).is_ok_and(|name| name.starts_with("worker-"))).collect()
}

/// How much processor time a thread took.
fn time_of(threads: &BTreeSet<u32>) -> Duration {
    let nanos = |thread: &u32| -> u64 {
        let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"));
        let text = text.expect("it runs");
        text.split_whitespace().next().and_then(|it| it.parse().ok()).expect("nanoseconds")
    };
    Duration::from_nanos(threads.iter().map(nanos).sum())
}

fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times[(times.len() as f64 * share) as usize]
}

async fn calls(channel: Channel) -> (Duration, Duration) {
    let mut sessions = SessionServiceClient::new(channel);
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let request = GetSessionInfoRequest {
            session_id: "hall".to_owned(),
            user_id: "ada".to_owned(),
            ..Default::default()
        };
        let began = Instant::now();
        sessions.get_session_info(request).await.expect("it is there");
        times.push(began.elapsed());
    }
    (quantile(&mut times, 0.5), quantile(&mut times, 0.99))
}

/// Writes, and has all streams read; how many messages came.
async fn deliveries(readers: Channel, writer: Channel) -> usize {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..STREAMS {
        let mut delivery = DeliveryServiceClient::new(readers.clone());
        let request = SubscribeToSessionRequest {
            session_id: "hall".to_owned(),
            user_id: "ada".to_owned(),
            ..Default::default()
        };
        let answer = delivery.subscribe_to_session(request).await;
        let mut stream = answer.expect("it is open").into_inner();
        stream.message().await.expect("it is open").expect("a snapshot");
        tasks.spawn(async move {
            let mut came = 0;
            while tokio::time::timeout(Duration::from_millis(500), stream.message()).await.is_ok() {
                came += 1;
            }
            came
        });
    }
    let mut sessions = SessionServiceClient::new(writer);
    for number in 0..WRITES {
        let kind = Some(sessiond::proto::value::Kind::Number(number as f64));
        let request = SetUserPropsRequest {
            user_id: "ada".to_owned(),
            write: Some(PropsWrite {
                set: [("x".to_owned(), Value { kind })].into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        sessions.set_user_props(request).await.expect("it is written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut came = 0;
    while let Some(count) = tasks.join_next().await {
        came += count.expect("it is no panic");
    }
    came
}

#[tokio::test]
#[ignore = "it measures"]
async fn measure_what_sending_on_costs() {
    let before = workers();
    let settings = |name: &str| Config {
        listen: LOOPBACK.into(),
        node_listen: Some(LOOPBACK.into()),
        node: name.to_owned(),
        threads: 1,
        max_updates_per_second: 100_000,
        max_changes_per_second: 1_000_000,
        ..Config::default()
    };
    let owner = start(settings("the-owner"), None).await.expect("it starts");
    let owns: BTreeSet<u32> = workers().difference(&before).copied().collect();
    let front = Front::with(settings("the-front"), owner.node_address().expect("a port")).await;
    let fronts: BTreeSet<u32> =
        workers().difference(&before).filter(|it| !owns.contains(it)).copied().collect();
    assert_eq!((owns.len(), fronts.len()), (1, 1));
    let direct = connect(owner.address()).await;
    front.open("hall").await.expect("it is opened");
    for round in 0..3 {
        let (at_owner, at_front) =
            (calls(direct.clone()).await, calls(front.channel.clone()).await);
        println!(
            "{round}: p50, p99 of a call: {at_owner:?} at the owner, {at_front:?} through the front"
        );
        for (name, readers) in [("at the owner", &direct), ("through the front", &front.channel)] {
            let began = (time_of(&owns), time_of(&fronts));
            let came = deliveries(readers.clone(), direct.clone()).await;
            let each = |time: Duration| time.as_nanos() / came as u128;
            let (own, of_front) = (time_of(&owns) - began.0, time_of(&fronts) - began.1);
            println!(
                "{round}: {came} deliveries {name}: {} ns each at the owner, {} ns at the front",
                each(own),
                each(of_front)
            );
        }
    }
    in_time(front.server.stop()).await;
}
