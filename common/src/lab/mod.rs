//! What only the lab needs.

pub mod burn;
