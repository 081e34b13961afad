//! One file per question that this program answers.

pub mod bench;
pub mod compare;
pub mod cost;
pub mod lab;
pub mod matrix;
pub mod probe;
pub mod self_check;
pub mod show;
