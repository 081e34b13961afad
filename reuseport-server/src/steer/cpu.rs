//! `cpu`: the CPU on which the SYN is processed chooses the socket. Three instructions.
//!
//! It is for a machine whose network card spreads its interrupts over the CPUs, with a worker pinned to
//! each: then a connection stays on one CPU, with all its data in that CPU's cache. The administrator
//! must pin the worker of socket n to CPU n. `--affinity pinned` does not do that: the kernel numbers
//! sockets in the order in which workers, which start at the same time, bind them.
//!
//! Its trap: on loopback the SYN is processed on the client's CPU, in its call of connect(2). So the
//! client's scheduling chooses the worker. With two CPUs two sockets get everything, however many there
//! are; a client with one thread may send all connections to one worker for a long time.

use nix::libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_K, BPF_LD, BPF_MOD, BPF_RET, BPF_W, SKF_AD_CPU, SKF_AD_OFF,
    sock_filter,
};

use super::classic::instruction;

/// The program for this many sockets.
pub fn program(sockets: u32) -> Vec<sock_filter> {
    vec![
        instruction(BPF_LD | BPF_W | BPF_ABS, (SKF_AD_OFF + SKF_AD_CPU) as u32), // A = this CPU
        instruction(BPF_ALU | BPF_MOD | BPF_K, sockets),                         // A %= sockets
        instruction(BPF_RET | BPF_A, 0),                                         // return A
    ]
}
