//! Process-level tests that go by who gets a core, and when. Cargo runs one test program after the other, so
//! nothing of the `suite` runs beside these; and they run one at a time.

// Each test program uses a part of these.
#[allow(dead_code)]
#[path = "../suite/example.rs"]
mod example;
#[allow(dead_code)]
#[path = "../suite/load.rs"]
mod load;
#[allow(dead_code)]
#[path = "../suite/support.rs"]
mod support;

mod blocking;
mod kept;

use std::sync::{Mutex, MutexGuard, PoisonError};

static ALONE: Mutex<()> = Mutex::new(());

/// Held by each test here for as long as it runs.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
