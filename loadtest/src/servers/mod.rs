//! `servers`: measures well-known servers, each with four workers, as this program measures its own.
//!
//! - [`catalogue`]: the servers; [`install`]: installs them; [`subject`]: starts one;
//! - a file for each group of columns: [`spread`], [`blocking`], [`faults`], [`replacing`], [`second`];
//! - [`columns`]: all columns, one after the other; if one fails the others are still measured;
//! - [`migrating`]: granian's reloads, with a sysctl off and on;
//! - [`post`]: the post's two programs, compared slice by slice;
//! - [`record`]: the saved record.

pub mod blocking;
pub mod catalogue;
pub mod columns;
pub mod faults;
pub mod install;
pub mod migrating;
pub mod post;
pub mod record;
pub mod replacing;
pub mod second;
pub mod spread;
pub mod subject;
