//! What only the lab needs.

pub mod burn;
pub mod routes;
