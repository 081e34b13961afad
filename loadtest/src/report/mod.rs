//! How results look.

pub mod compare;
pub mod cost;
pub mod format;
pub mod html;
pub mod lab;
pub mod markdown;
pub mod matrix;
pub mod model;
pub mod post;
pub mod probe;
pub mod progress;
pub mod side_by_side;
pub mod table;
pub mod terminal;
pub mod wrap;
