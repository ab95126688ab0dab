//! Room for a reply: it is made once what was made before for the same client is on its way.

use std::{pin::Pin, sync::Arc};

/// What knows of the room.
pub trait MakesRoom: Send + Sync {
    /// Whether there is any.
    fn has_room(&self) -> bool;

    /// Waits until there is.
    fn wait(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

tokio::task_local! {
    static ROOM: Arc<dyn MakesRoom>;
}

/// Runs a call whose reply takes this room.
pub async fn with<T>(room: Arc<dyn MakesRoom>, call: impl Future<Output = T>) -> T {
    ROOM.scope(room, call).await
}

/// Waits until there is room for the reply of the call that runs here. A call that has waited for
/// something else asks again after that and before it does anything: many may wait for the same.
pub async fn wait() {
    let room = ROOM.try_with(|room| (!room.has_room()).then(|| room.wait()));
    if let Ok(Some(room)) = room {
        room.await;
    }
}
