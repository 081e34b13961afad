//! One file per question that this program answers.

pub mod bench;
pub mod cost;
pub mod probe;
pub mod show;
