//! How results look.

pub mod cost;
pub mod format;
pub mod post;
pub mod probe;
pub mod progress;
pub mod side_by_side;
pub mod table;
pub mod terminal;
