//! What a connection has shown last: a client shows the same token or key with every call, and to look
//! it up takes a hash of all of it.

use super::{Denied, Grant, Identity, Presented};
use crate::session::limits::Micros;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use std::{fmt, sync::Arc};

/// What was shown last on a connection, whose certificate stays the same, and found good.
#[derive(Default)]
pub struct Shown(Option<Known>);

struct Known {
    authorization: Box<[u8]>,
    grant: Arc<Grant>,
    /// In which generation of the identity it was.
    generation: u64,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grant = self.0.as_ref().map(|known| &known.grant.id);
        f.debug_tuple("Shown").field(&grant).finish()
    }
}

impl Shown {
    fn find(&self, authorization: &[u8], generation: u64, now: Micros) -> Option<&Arc<Grant>> {
        let Known { authorization: known, grant, generation: known_in } = self.0.as_ref()?;
        // Behind a proxy others show theirs on the same connection: how alike they are is not shown.
        let is_same = *known_in == generation
            && verify_slices_are_equal(known, authorization).is_ok()
            && !grant.has_expired(now);
        is_same.then_some(grant)
    }
}

impl Identity {
    /// What [`Identity::check`] says of a call on a connection, which may show again what it has shown
    /// before.
    pub fn check_on(
        &self,
        shown: &mut Shown,
        presented: &Presented<'_>,
        now: Micros,
    ) -> Result<Arc<Grant>, Denied> {
        let [authorization] = presented.authorization else { return self.check(presented, now) };
        // Before all that it stands for is looked at: what changes meanwhile is seen the next time.
        let generation = self.generation();
        if let Some(grant) = shown.find(authorization, generation, now) {
            return Ok(grant.clone());
        }
        let grant = self.check(presented, now)?;
        let authorization = (*authorization).into();
        shown.0 = Some(Known { authorization, grant: grant.clone(), generation });
        Ok(grant)
    }
}
