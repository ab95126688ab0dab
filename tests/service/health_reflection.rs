//! Health and reflection, as operators and tools ask for them.

use crate::support::*;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const SERVICES: [&str; 4] = [
    "",
    "sessiond.v1.SessionService",
    "sessiond.v1.DeliveryService",
    "sessiond.v1.ObjectStreamService",
];

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn every_service_is_healthy_until_the_server_stops() {
    let service = Service::start().await;
    let mut health = HealthClient::new(service.channel());
    let mut watches = Vec::new();
    for name in SERVICES {
        let answer = health.check(about(name)).await.expect("it is known").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{name}");
        let mut watch = health.watch(about(name)).await.expect("it is known").into_inner();
        let first = in_time(watch.message()).await.expect("it is told").expect("it is told");
        assert_eq!(first.status(), ServingStatus::Serving, "{name}");
        watches.push(watch);
    }
    let unknown = health.check(about("unknown")).await.expect_err("it is not known");
    assert_eq!(unknown.code(), Code::NotFound);
    let changes = async {
        for watch in &mut watches {
            let next = in_time(watch.message()).await.expect("it is told").expect("it is told");
            assert_eq!(next.status(), ServingStatus::NotServing);
        }
    };
    tokio::join!(service.stop(), changes);
}

macro_rules! reflects {
    ($test:ident, $version:ident) => {
        #[tokio::test]
        async fn $test() {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let service = Service::start().await;
            let mut client = ServerReflectionClient::new(service.channel());
            let ask =
                |what| ServerReflectionRequest { host: String::new(), message_request: Some(what) };
            let mut questions = vec![ask(MessageRequest::ListServices(String::new()))];
            let symbols = [
                "sessiond.v1.SessionService",
                "sessiond.v1.DeliveryService.Gateway",
                "sessiond.v1.SessionUpdate",
                "sessiond.v1.ErrorReason",
                "grpc.health.v1.Health",
                "google.rpc.ErrorInfo",
                "google.rpc.BadRequest",
            ];
            questions
                .extend(symbols.map(|it| ask(MessageRequest::FileContainingSymbol(it.to_owned()))));
            let answer = client.server_reflection_info(tokio_stream::iter(questions)).await;
            let mut answers = answer.expect("it is served").into_inner();
            let mut next = async || {
                let answer = in_time(answers.message()).await.expect("it answers");
                answer.and_then(|it| it.message_response).expect("it answers")
            };
            let MessageResponse::ListServicesResponse(list) = next().await else {
                panic!("services are listed")
            };
            let names: Vec<_> = list.service.iter().map(|it| &*it.name).collect();
            for name in &super::health_reflection::SERVICES[1..] {
                assert!(names.contains(name), "{name} is in {names:?}");
            }
            for symbol in symbols {
                let answer = next().await;
                let is_file = matches!(answer, MessageResponse::FileDescriptorResponse(_));
                assert!(is_file, "{symbol}: {answer:?}");
            }
        }
    };
}

reflects!(reflection_v1_describes_all_services, v1);
reflects!(reflection_v1alpha_describes_all_services, v1alpha);
