//! The wall clock as a value, so that whoever needs the time is handed it and a test can move it.
//!
//! Made once by `runtime` (the system's clock) or by a test; read by `ca` and `auth`. Does not measure durations:
//! certificates and tokens speak of calendar time, which may step, so nothing here is monotonic.

use std::{fmt, sync::Arc};

use time::OffsetDateTime;

/// A way to ask for the time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl Clock {
    /// A clock that answers with what `read` says.
    pub fn new(read: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The machine's clock.
    pub fn system() -> Self {
        Self::new(OffsetDateTime::now_utc)
    }

    /// The time now.
    pub fn now(&self) -> OffsetDateTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
