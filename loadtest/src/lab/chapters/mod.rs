//! One file per experiment. Each begins with its page of the book, which reports show as it stands.

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
