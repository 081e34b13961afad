//! One file per experiment. Each begins with its page of the book, which reports show unchanged.
//!
//! The imports that all experiments need are here, once.

// A claim of a page names its source by a bare URL: the program reads the pages, too.
#![allow(rustdoc::bare_urls)]

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::kernel::migrate_req::Namespace;
use crate::lab::chapter::Findings;
use crate::lab::client::{ask, bound};
use crate::lab::context::{Context, Policy, start};
use crate::lab::interleaved::{Interleaved, Subject, WRK, evidence, switches_each};
use crate::lab::probing::{Disturbed, Served, asking, disturbed, served};
use crate::lab::queues::who_listens;
use crate::lab::samples::Samples;
#[cfg(test)]
use crate::lab::samples::tests::samples_of;
use crate::matrix::workloads::{POLICIES, QUICK_POLICIES};
use crate::measure::comparison::Slice;
use crate::probe::connection::Connection;
use crate::probe::load::Load;
use crate::report::model::{Axis, Cell, Picture, Series, Table, Unit};
use crate::server::{Server, ours};
use crate::statistics::estimate::Estimate;
use common::kernel::sock_diag::{Listener, listeners};

pub mod crash;
pub mod flag;
pub mod hash;
pub mod order;
pub mod post;
pub mod reload;
pub mod spread;
pub mod stall;
pub mod tail;
pub mod twice;

/// The policies in the claims, by their names in [`POLICIES`]: tokio's way to accept, one connection
/// for each wake-up, blocking accept(2); the kernel's hash; and the two load-aware policies.
const EPOLL: &str = "shared/epoll";
const EXCLUSIVE: &str = "shared/exclusive";
const BLOCKING: &str = "shared/blocking";
const HASH: &str = "reuseport/hash";
const SHARED_LEAST: &str = "shared/least-conn";
const OWN_LEAST: &str = "reuseport/least-conn";
