//! One file per experiment. Each begins with its page of the book, which reports show as it stands.

pub mod flag;
pub mod order;
pub mod post;
pub mod spread;
pub mod twice;
