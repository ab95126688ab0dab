//! The calls of object streams. Each passes the door, asks the streams, and answers.

use super::{
    Context,
    caller::Caller,
    convert::door::Door,
    objects::ROOM,
    once::Once,
    status::about::{About, Asks},
};
use crate::grpc::error::Refusal;
use crate::{
    engine::Scope,
    object_stream::{self, Cursor, Definition, Function, KEYS, NAMES, Room},
    proto::{self, object_stream_service_server::ObjectStreamService},
    session::{
        command::{Actor, Cost},
        ids::{AppId, Key},
    },
};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tonic::{Request, Response, Status, async_trait};

/// Serves `ObjectStreamService`.
#[derive(Debug)]
pub struct ObjectStreams(Arc<Context>);

impl ObjectStreams {
    /// The service.
    pub fn new(context: Context) -> Self {
        Self(Arc::new(context))
    }

    /// Answers a call that its app may make.
    async fn serve<T: Message>(
        &self,
        (caller, extensions): (&Caller, &http::Extensions),
        app: &str,
        about: About,
        serve: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Response<T>, Status> {
        let call = match self.0.begin_call(caller, extensions, app) {
            Ok(call) => call,
            Err(refusal) => return self.answer(&about, Err(refusal)),
        };
        let outcome = serve.await;
        if let (Some(app), Ok(reply)) = (&call, &outcome) {
            self.0.end_call(app, reply.encoded_len());
        }
        self.answer(&about, outcome)
    }

    fn answer<T>(&self, about: &About, outcome: Result<T, Refusal>) -> Result<Response<T>, Status> {
        outcome.map(Response::new).map_err(|refusal| self.0.node.status_about(&refusal, about))
    }

    /// A write of somebody whose request has passed the door.
    fn write<T>(
        &self,
        app: &AppId,
        actor: &Actor,
        write: impl FnOnce(&mut object_stream::ObjectStreams) -> Result<T, object_stream::Refusal>,
    ) -> Result<T, Refusal> {
        self.write_at(Cost::More, app, actor, write)
    }

    /// The same of a write whose storing costs so much.
    fn write_at<T>(
        &self,
        cost: Cost,
        app: &AppId,
        actor: &Actor,
        write: impl FnOnce(&mut object_stream::ObjectStreams) -> Result<T, object_stream::Refusal>,
    ) -> Result<T, Refusal> {
        let _work = self.0.engine.begin_work()?;
        if let Actor::User(user) = actor {
            self.0.engine.take_update(app, user)?;
        }
        self.0.engine.check_space_for(cost)?;
        Ok(self.0.objects.write(app, write)?)
    }

    async fn set(
        &self,
        caller: &Caller,
        mut request: proto::SetStreamRequest,
    ) -> Result<proto::SetStreamResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        door.once(&once);
        let name = match request.name.as_str() {
            "" => Some(uuid::Uuid::new_v4().to_string().into()),
            name => door.named("name", name),
        };
        for (field, count) in [("keys", request.keys.len()), ("funcs", request.funcs.len())] {
            if count > KEYS {
                door.fault(field, format!("has more than {KEYS} keys"));
            }
        }
        if request.readers.len() > NAMES {
            door.fault("readers", format!("has more than {NAMES} users"));
        }
        let keys = request.keys.iter().enumerate();
        let keys = keys.filter_map(|(at, key)| door.nested_key(&format!("keys[{at}]"), key));
        let keys: BTreeSet<Key> = keys.collect();
        let mut funcs = BTreeMap::new();
        for (key, func) in request.funcs {
            let field = format!("funcs[{key:?}]");
            let func = door.func(&field, Some(func));
            funcs.extend(door.nested_key(&field, &key).map(|key| (key, func)));
        }
        let readers = request.readers.iter().enumerate();
        let readers = readers.filter_map(|(at, user)| door.user(&format!("readers[{at}]"), user));
        let readers = readers.collect();
        let object = door.values("object", request.object);
        let (actor, name) = door.close_with(|| actor.zip(name))?;
        let set = Definition { object, keys, funcs, readers };
        let act = async {
            self.write(&app, &actor, |streams| streams.set(&app, &actor, &name, set))?;
            Ok(proto::SetStreamResponse { name: name.to_string() })
        };
        self.0.once(once, &Scope::new(&app, None, &actor), act).await
    }

    async fn remove(
        &self,
        caller: &Caller,
        mut request: proto::RemoveStreamRequest,
    ) -> Result<proto::RemoveStreamResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        door.once(&once);
        let name = door.named("name", &request.name);
        let is_whole = request.key.is_empty();
        let key = if is_whole { None } else { door.nested_key("key", &request.key) };
        let (actor, name) = door.close_with(|| actor.zip(name))?;
        let act = async {
            self.write_at(Cost::Less, &app, &actor, |streams| match key {
                None => streams.remove(&app, &actor, &name),
                Some(key) => streams.remove_key(&app, &actor, &name, &key),
            })?;
            Ok(proto::RemoveStreamResponse {})
        };
        self.0.once(once, &Scope::new(&app, None, &actor), act).await
    }

    async fn update(
        &self,
        caller: &Caller,
        mut request: proto::UpdateStreamDataRequest,
    ) -> Result<proto::UpdateStreamDataResponse, Refusal> {
        let once = Once::of("request_id", &mut request);
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        door.once(&once);
        let name = door.named("name", &request.name);
        if request.set.is_empty() && request.append.is_empty() {
            door.fault("set", "this or append must name at least one key");
        }
        let set = door.nested_values("set", request.set);
        let append = door.nested_values("append", request.append);
        let (actor, name) = door.close_with(|| actor.zip(name))?;
        let act = async {
            self.write(&app, &actor, |streams| streams.update(&app, &actor, &name, set, append))?;
            Ok(proto::UpdateStreamDataResponse {})
        };
        self.0.once(once, &Scope::new(&app, None, &actor), act).await
    }

    fn set_func(
        &self,
        caller: &Caller,
        request: proto::SetStreamFuncRequest,
    ) -> Result<proto::SetStreamFuncResponse, Refusal> {
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let name = door.named("name", &request.name);
        let is_whole = request.key.is_empty();
        let key = if is_whole { None } else { door.nested_key("key", &request.key) };
        let func = door.func("func", request.func);
        let (actor, name) = door.close_with(|| actor.zip(name))?;
        self.write(&app, &actor, |streams| streams.set_func(&app, &actor, &name, key, func))?;
        Ok(proto::SetStreamFuncResponse {})
    }

    fn add_func(
        &self,
        caller: &Caller,
        request: proto::AddStreamFuncRequest,
    ) -> Result<proto::AddStreamFuncResponse, Refusal> {
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let name = door.named("name", &request.name);
        let (actor, name) = door.close_with(|| actor.zip(name))?;
        let function = Function::new(&request.expression);
        let function = function.map_err(object_stream::Refusal::BadExpression)?;
        self.write(&app, &actor, |streams| streams.add_func(&app, &actor, &name, function))?;
        Ok(proto::AddStreamFuncResponse {})
    }

    async fn read_one(
        &self,
        caller: &Caller,
        request: proto::GetStreamUpdateRequest,
    ) -> Result<proto::GetStreamUpdateResponse, Refusal> {
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let name = door.named("name", &request.name);
        let cursor = cursor(&mut door, &request.cursor);
        let (actor, name) = door.close_with(|| actor.zip(name))?;
        let in_app = self.0.engine.app(&app);
        let (place, reading) = {
            let mut state = self.0.objects.lock();
            let place = self.0.objects.reserve(&state, &in_app)?;
            let room = &mut Room::new(ROOM);
            (place, state.streams.read_one(&app, &actor, &name, cursor, room)?)
        };
        let updates = [(name.clone(), reading.update)].into();
        let mut told = self.0.objects.tell(updates, place).await;
        Ok(proto::GetStreamUpdateResponse {
            update: Some(told.remove(&*name).unwrap_or_default()),
            cursor: reading.cursor.map(|cursor| cursor.to_string()).unwrap_or_default(),
            more: reading.more,
        })
    }

    async fn read_all(
        &self,
        caller: &Caller,
        request: proto::GetAllStreamUpdatesRequest,
    ) -> Result<proto::GetAllStreamUpdatesResponse, Refusal> {
        let (mut door, app, actor) = self.0.enter(caller, &request.app, &request.user_id);
        let cursor = cursor(&mut door, &request.cursor);
        let actor = door.close_with(|| actor)?;
        let in_app = self.0.engine.app(&app);
        let (place, reading) = {
            let (mut state, mut room) = (self.0.objects.lock(), Room::new(ROOM));
            let place = self.0.objects.reserve(&state, &in_app)?;
            let reading = match cursor {
                None => state.streams.read_shared(&app, &actor, &mut room),
                Some(cursor) => state.streams.read(&app, &actor, None, &cursor, &mut room, None),
            };
            (place, reading)
        };
        Ok(proto::GetAllStreamUpdatesResponse {
            updates: self.0.objects.tell(reading.updates, place).await,
            cursor: reading.cursor.map(|cursor| cursor.to_string()).unwrap_or_default(),
            more: reading.more,
            reset: reading.reset,
        })
    }
}

/// The cursor of a request; none = the shared one.
fn cursor(door: &mut Door<'_>, text: &str) -> Option<Cursor> {
    if text.is_empty() {
        return None;
    }
    let cursor = Cursor::parse(text);
    if cursor.is_none() {
        door.fault("cursor", "is none that this service gave out");
    }
    cursor
}

#[async_trait]
impl ObjectStreamService for ObjectStreams {
    type SubscribeToStreamsStream =
        tokio_stream::Empty<Result<proto::SubscribeToStreamsResponse, Status>>;

    async fn set_stream(
        &self,
        request: Request<proto::SetStreamRequest>,
    ) -> Result<Response<proto::SetStreamResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = Caller::of(metadata.as_ref(), &extensions);
        let (app, about) = (request.app.clone(), request.about());
        let serve = self.set(&caller, request);
        self.serve((&caller, &extensions), &app, about, serve).await
    }

    async fn remove_stream(
        &self,
        request: Request<proto::RemoveStreamRequest>,
    ) -> Result<Response<proto::RemoveStreamResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = Caller::of(metadata.as_ref(), &extensions);
        let (app, about) = (request.app.clone(), request.about());
        let serve = self.remove(&caller, request);
        self.serve((&caller, &extensions), &app, about, serve).await
    }

    async fn update_stream_data(
        &self,
        request: Request<proto::UpdateStreamDataRequest>,
    ) -> Result<Response<proto::UpdateStreamDataResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = Caller::of(metadata.as_ref(), &extensions);
        let (app, about) = (request.app.clone(), request.about());
        let serve = self.update(&caller, request);
        self.serve((&caller, &extensions), &app, about, serve).await
    }

    async fn set_stream_func(
        &self,
        request: Request<proto::SetStreamFuncRequest>,
    ) -> Result<Response<proto::SetStreamFuncResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = Caller::of(metadata.as_ref(), &extensions);
        let (app, about) = (request.app.clone(), request.about());
        let serve = async { self.set_func(&caller, request) };
        self.serve((&caller, &extensions), &app, about, serve).await
    }

    async fn add_stream_func(
        &self,
        request: Request<proto::AddStreamFuncRequest>,
    ) -> Result<Response<proto::AddStreamFuncResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = Caller::of(metadata.as_ref(), &extensions);
        let (app, about) = (request.app.clone(), request.about());
        let serve = async { self.add_func(&caller, request) };
        self.serve((&caller, &extensions), &app, about, serve).await
    }

    async fn get_stream_update(
        &self,
        request: Request<proto::GetStreamUpdateRequest>,
    ) -> Result<Response<proto::GetStreamUpdateResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = Caller::of(metadata.as_ref(), &extensions);
        let (app, about) = (request.app.clone(), request.about());
        let serve = self.read_one(&caller, request);
        self.serve((&caller, &extensions), &app, about, serve).await
    }

    async fn get_all_stream_updates(
        &self,
        request: Request<proto::GetAllStreamUpdatesRequest>,
    ) -> Result<Response<proto::GetAllStreamUpdatesResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let caller = Caller::of(metadata.as_ref(), &extensions);
        let (app, about) = (request.app.clone(), request.about());
        let serve = self.read_all(&caller, request);
        self.serve((&caller, &extensions), &app, about, serve).await
    }

    /// Never called: the streams are served by [`super::delivery`].
    async fn subscribe_to_streams(
        &self,
        request: Request<proto::SubscribeToStreamsRequest>,
    ) -> Result<Response<Self::SubscribeToStreamsStream>, Status> {
        let field = "SubscribeToStreams".to_owned();
        self.answer(&request.get_ref().about(), Err(Refusal::NotImplemented { field }))
    }
}
