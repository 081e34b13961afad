//! One file per question that this program answers.

pub mod bench;
pub mod cost;
pub mod show;
