//! The wall clock as a value, so that code that needs the time receives it and a test can change it.
//!
//! Created once by `runtime` (the system's clock) or by a test; read by `ca`, `auth` and `lease`. Does not measure
//! durations: certificates and tokens use calendar time, which may step, so nothing here is monotonic.

use std::{fmt, sync::Arc};

use time::OffsetDateTime;

/// Source of the current time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl Clock {
    /// Creates a clock that returns what `read` returns.
    pub fn new(read: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Returns the machine's clock.
    pub fn system() -> Self {
        Self::new(OffsetDateTime::now_utc)
    }

    /// Returns the current time.
    pub fn now(&self) -> OffsetDateTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
