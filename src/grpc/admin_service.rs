//! What the people who run the server ask of it.

use super::{
    Context,
    caller::{self, AS_METADATA, Caller},
    convert::{door::Door, to_proto},
    error::{Refusal, Uncovered},
    revoking::Revoking,
    status::about::About,
};
use crate::{
    cluster::{Holding, MAX_NAME_BYTES, NodeStatus, Nodes, PartitionStatus, Standing},
    engine,
    identity::{Apps, MAX_REVOCATIONS, NoRoom, Revocation},
    proto::{self, admin_service_server::AdminService},
    session::{ids::AppId, limits::Micros},
};
use std::sync::Arc;
use tonic::{Request, Response, Status, async_trait};

/// Bytes of the id of a token or a key, and of the name of an issuer.
const ID_BYTES: usize = 256;

/// Serves `AdminService`.
#[derive(Debug)]
pub struct Admin(pub Arc<Context>);

impl Admin {
    /// Begins to check a request, which only somebody may make who may do everything everywhere.
    fn enter<'a>(&'a self, caller: &'a Caller) -> Door<'a> {
        let mut door = Door::of(&self.0.limits, &caller.grant);
        door.check_metadata(caller);
        if caller.grant.apps != Apps::All {
            door.deny(Uncovered::Call);
        }
        if !caller.is_app() {
            door.fault(AS_METADATA, "must be app: only the app itself makes this call");
        }
        door
    }

    fn answer<T>(&self, outcome: Result<T, Refusal>) -> Result<Response<T>, Status> {
        let refused = |refusal| self.0.node.status_about(&refusal, &About::default());
        outcome.map(Response::new).map_err(refused)
    }

    async fn revoke(
        &self,
        caller: &Caller,
        request: proto::RevokeCredentialsRequest,
    ) -> Result<proto::RevokeCredentialsResponse, Refusal> {
        let mut door = self.enter(caller);
        let revocation = door.revocation(request.revocation);
        let revocation = door.close_with(|| revocation)?;
        let identity = self.0.entrance.identity().ok_or(Refusal::NoIdentity)?;
        let now = self.0.engine.clock().now();
        if let Revocation::IssuedBefore { time, .. } = &revocation
            && *time > now
        {
            // It would refuse credentials that are issued from now on.
            let field = "revocation.issued_before.time";
            return Err(Refusal::invalid(field, "must not be in the future"));
        }
        let until = identity.lasts_until(&revocation, now);
        identity.check_room(&revocation, now).map_err(no_room)?;
        let by = caller::credential(&caller.grant);
        self.do_everywhere(Revoking { revocation, until: Some(until), by }, now).await?;
        let lasts = (until < Micros::MAX).then(|| to_proto::span(until - now));
        Ok(proto::RevokeCredentialsResponse { lasts })
    }

    async fn restore(
        &self,
        caller: &Caller,
        request: proto::RestoreCredentialsRequest,
    ) -> Result<proto::RestoreCredentialsResponse, Refusal> {
        let mut door = self.enter(caller);
        let revocation = door.revocation(request.revocation);
        let revocation = door.close_with(|| revocation)?;
        let identity = self.0.entrance.identity().ok_or(Refusal::NoIdentity)?;
        let now = self.0.engine.clock().now();
        let restored = identity.is_revoked(&revocation);
        let by = caller::credential(&caller.grant);
        self.do_everywhere(Revoking { revocation, until: None, by }, now).await?;
        Ok(proto::RestoreCredentialsResponse { restored })
    }

    /// At this node, and at all others if there are any: then this one hears of it as they do, so that
    /// all do the same in the same order.
    async fn do_everywhere(&self, revoking: Revoking, now: Micros) -> Result<(), Refusal> {
        if let Some(nodes) = &self.0.nodes {
            return nodes.tell(&revoking.to_note(now)).await.map_err(Refusal::NotTold);
        }
        let is_news = revoking.apply(&self.0.entrance, now).map_err(no_room)?;
        if is_news || revoking.until.is_some() {
            revoking.note(&self.0.entrance, |_| vec![self.0.engine.clone()]);
        }
        Ok(())
    }

    fn nodes(&self) -> Result<&dyn Nodes, Refusal> {
        self.0.nodes.as_deref().ok_or(Refusal::NoCluster)
    }

    fn list_the_nodes(&self, caller: &Caller) -> Result<proto::ListNodesResponse, Refusal> {
        self.enter(caller).close()?;
        let nodes = self.nodes()?.nodes().iter().map(node_told).collect();
        Ok(proto::ListNodesResponse { nodes })
    }

    fn list_the_partitions(
        &self,
        caller: &Caller,
    ) -> Result<proto::ListPartitionsResponse, Refusal> {
        self.enter(caller).close()?;
        let partitions = self.nodes()?.partitions().iter().map(partition_told).collect();
        Ok(proto::ListPartitionsResponse { partitions })
    }

    async fn move_a_partition(
        &self,
        caller: &Caller,
        request: proto::MovePartitionRequest,
    ) -> Result<proto::MovePartitionResponse, Refusal> {
        let mut door = self.enter(caller);
        let proto::MovePartitionRequest { partition, node } = request;
        if partition.is_none() {
            door.fault("partition", "must be set");
        }
        if !(1..=MAX_NAME_BYTES).contains(&node.len()) {
            door.fault("node", format!("has {} bytes, not 1 to {MAX_NAME_BYTES}", node.len()));
        }
        let partition = door.close_with(|| partition)?;
        self.nodes()?.move_to(partition, &node).await.map_err(Refusal::NotMoved)?;
        tracing::info!(partition, node, "an admin moves a partition");
        Ok(proto::MovePartitionResponse {})
    }

    fn list(
        &self,
        caller: &Caller,
        request: proto::ListRevocationsRequest,
    ) -> Result<proto::ListRevocationsResponse, Refusal> {
        let mut door = self.enter(caller);
        let size = door.page_size("page_size", request.page_size);
        door.close()?;
        let identity = self.0.entrance.identity().ok_or(Refusal::NoIdentity)?;
        let (page, next) = identity.revocations(&request.page_token, size);
        let active = |(revocation, until)| proto::ActiveRevocation {
            revocation: Some(to_proto::revocation(&revocation)),
            until: (until < Micros::MAX).then(|| to_proto::moment(until)),
        };
        let revocations = page.into_iter().map(active).collect();
        let next_page_token = next.unwrap_or_default();
        Ok(proto::ListRevocationsResponse { revocations, next_page_token })
    }
}

fn node_told(node: &NodeStatus) -> proto::Node {
    let state = match node.standing {
        Standing::Alive => proto::NodeState::Alive,
        Standing::Leaving => proto::NodeState::Leaving,
        Standing::Silent => proto::NodeState::Silent,
    };
    proto::Node {
        name: node.info.name.clone(),
        process_id: format!("{:016x}", node.info.id.0),
        state: state.into(),
        address: node.info.address.clone(),
        version: node.info.version.clone(),
        record_format: node.info.format.into(),
        started_at: Some(to_proto::moment(node.info.started_at)),
        silent_for: Some(to_proto::span(node.silent_for)),
        partition_count: node.partitions as u32,
        is_this_node: node.is_me,
    }
}

fn partition_told(status: &PartitionStatus) -> proto::Partition {
    let state = match status.holding {
        Holding::Nothing => proto::PartitionState::NoOwner,
        Holding::Loading(_) => proto::PartitionState::Loading,
        Holding::Serving(_) => proto::PartitionState::Serving,
        Holding::Giving(_) => proto::PartitionState::Giving,
    };
    let owner = status.owner.as_ref();
    proto::Partition {
        partition: status.partition.0.into(),
        node: owner.map(|info| info.name.clone()).unwrap_or_default(),
        process_id: owner.map(|info| format!("{:016x}", info.id.0)).unwrap_or_default(),
        state: state.into(),
        moved: status.pinned,
    }
}

fn no_room(_: NoRoom) -> Refusal {
    let (limit, most) = ("revocations", MAX_REVOCATIONS);
    engine::Refusal::LimitReached { limit, most }.into()
}

impl Door<'_> {
    fn revocation(&mut self, revocation: Option<proto::Revocation>) -> Option<Revocation> {
        use proto::revocation::What;
        let Some(what) = revocation.and_then(|revocation| revocation.what) else {
            self.fault("revocation", "must say what is revoked");
            return None;
        };
        match what {
            What::TokenId(id) => {
                self.credential_id("revocation.token_id", &id).map(Revocation::Token)
            }
            What::KeyId(id) => self.credential_id("revocation.key_id", &id).map(Revocation::Key),
            What::User(it) => {
                let user = self.user("revocation.user.user_id", &it.user_id);
                let app = self.optional_app("revocation.user.app", &it.app);
                Some(Revocation::User { app, user: user? })
            }
            What::IssuedBefore(it) => {
                let time = self.past("revocation.issued_before.time", it.time);
                let app = self.optional_app("revocation.issued_before.app", &it.app);
                let user = self.optional_user("revocation.issued_before.user_id", &it.user_id);
                let issuer = match &*it.issuer {
                    "" => None,
                    name => self.credential_id("revocation.issued_before.issuer", name),
                };
                Some(Revocation::IssuedBefore { app, issuer, user, time: time? })
            }
        }
    }

    fn credential_id(&mut self, field: &str, text: &str) -> Option<Arc<str>> {
        if (1..=ID_BYTES).contains(&text.len()) {
            return Some(text.into());
        }
        self.fault(field, format!("has {} bytes, not 1 to {ID_BYTES}", text.len()));
        None
    }

    fn optional_app(&mut self, field: &str, text: &str) -> Option<AppId> {
        if text == "*" {
            self.fault(field, "must name one app; without a name all are meant");
        }
        if text.is_empty() { None } else { Some(self.app_in(field, text)) }
    }

    /// A moment from 1970 on.
    fn past(&mut self, field: &str, moment: Option<prost_types::Timestamp>) -> Option<Micros> {
        let micros = moment.and_then(|moment| {
            let nanos = u64::try_from(moment.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
            let seconds = u64::try_from(moment.seconds).ok().filter(|it| *it < 253_402_300_800)?;
            Some(seconds * 1_000_000 + nanos / 1000)
        });
        if micros.is_none() {
            self.fault(field, "must be a moment from 1970 on, before the year 10000");
        }
        micros
    }
}

#[async_trait]
impl AdminService for Admin {
    async fn revoke_credentials(
        &self,
        request: Request<proto::RevokeCredentialsRequest>,
    ) -> Result<Response<proto::RevokeCredentialsResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = Caller::of(metadata.as_ref(), &extensions);
        self.answer(self.revoke(&caller, request).await)
    }

    async fn restore_credentials(
        &self,
        request: Request<proto::RestoreCredentialsRequest>,
    ) -> Result<Response<proto::RestoreCredentialsResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = Caller::of(metadata.as_ref(), &extensions);
        self.answer(self.restore(&caller, request).await)
    }

    async fn list_revocations(
        &self,
        request: Request<proto::ListRevocationsRequest>,
    ) -> Result<Response<proto::ListRevocationsResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        self.answer(self.list(&Caller::of(metadata.as_ref(), &extensions), request))
    }

    async fn list_nodes(
        &self,
        request: Request<proto::ListNodesRequest>,
    ) -> Result<Response<proto::ListNodesResponse>, Status> {
        let (metadata, extensions, _) = request.into_parts();
        self.answer(self.list_the_nodes(&Caller::of(metadata.as_ref(), &extensions)))
    }

    async fn list_partitions(
        &self,
        request: Request<proto::ListPartitionsRequest>,
    ) -> Result<Response<proto::ListPartitionsResponse>, Status> {
        let (metadata, extensions, _) = request.into_parts();
        self.answer(self.list_the_partitions(&Caller::of(metadata.as_ref(), &extensions)))
    }

    async fn move_partition(
        &self,
        request: Request<proto::MovePartitionRequest>,
    ) -> Result<Response<proto::MovePartitionResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = Caller::of(metadata.as_ref(), &extensions);
        self.answer(self.move_a_partition(&caller, request).await)
    }
}
