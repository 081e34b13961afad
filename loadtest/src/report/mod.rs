//! How results look. Every command makes a [`model::Document`]; three renderers show it, and none of them knows
//! the command.

pub mod format;
pub mod html;
pub mod markdown;
pub mod model;
pub mod output;
pub mod picture;
pub mod post;
pub mod progress;
pub mod svg;
pub mod terminal;
pub mod unit;
pub mod wrap;
