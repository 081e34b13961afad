//! Handlers for experiments.

pub mod burn;
pub mod routes;
