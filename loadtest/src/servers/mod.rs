//! `servers`: what the servers that the world runs do, each with four workers, by the measures of this
//! program.
//!
//! - [`catalogue`]: which there are; [`install`]: has them at hand; [`subject`]: starts one;
//! - a file for each group of columns: [`spread`], [`blocking`], [`faults`], [`replacing`], [`second`];
//!   [`client`] asks over single connections;
//! - [`columns`]: all of them, one after the other; one that fails keeps none of the others;
//! - [`migrating`]: granian's reloads, with a sysctl off and on; [`post`]: the post's two programs, compared slice by slice;
//! - [`record`]: what is saved.

pub mod blocking;
pub mod catalogue;
pub mod client;
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
