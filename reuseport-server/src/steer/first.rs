//! `first`: everything to socket 0. One instruction.
//!
//! What macOS and the classic BSDs do with SO_REUSEPORT: one of the sockets gets every connection.
//! There the other workers sleep, and four workers are worth one. This policy measures that on Linux,
//! with everything else the same.
//!
//! When the worker with socket 0 dies, another socket takes the number 0, and its worker gets
//! everything.

use nix::libc::{BPF_K, BPF_RET, sock_filter};

use super::classic::instruction;

/// The program.
pub fn program(_sockets: u32) -> Vec<sock_filter> {
    vec![instruction(BPF_RET | BPF_K, 0)] // return 0
}
