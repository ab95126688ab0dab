//! What the contract has and the server does not yet: named, and never ignored.

use crate::support::*;
use tonic::Code;

#[tokio::test]
async fn every_call_is_served_and_any_other_answers_unimplemented() {
    let service = Service::start().await;
    for Call { path, is_stream, .. } in calls() {
        // Garbage, so that a stream that takes an empty request does not go on and on.
        let garbage = if is_stream { vec![0xff] } else { Vec::new() };
        let answer = service.call_raw(&path, garbage).await;
        let code = answer.as_ref().err().map_or(Code::Ok, tonic::Status::code);
        assert_ne!(code, Code::Unimplemented, "{path}");
    }
    for path in ["/sessiond.v1.DeliveryService/Nope", "/sessiond.v1.SessionService/Nope", "/no/pe"]
    {
        refused(service.call_raw(path, Vec::new()).await)
            .is(Code::Unimplemented, "NOT_IMPLEMENTED");
    }
    service.is_fine().await;
}
