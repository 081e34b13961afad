//! `random`: a random socket for each connection. Three instructions.
//!
//! Even on average and blind to load, as the kernel's hash is: the hash of a new connection is as good
//! as random, since its client port is new. This policy shows that the problem is the blind choice, not
//! the hash. Of 100 kept connections four workers get 25 each only on average; and a busy, stuck or
//! stopped worker still gets its share.
//!
//! The kernel draws the number when the program loads it (SKF_AD_RANDOM).

use nix::libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_K, BPF_LD, BPF_MOD, BPF_RET, BPF_W, SKF_AD_OFF, SKF_AD_RANDOM,
    sock_filter,
};

use super::classic::instruction;

/// The program for this many sockets.
pub fn program(sockets: u32) -> Vec<sock_filter> {
    vec![
        instruction(BPF_LD | BPF_W | BPF_ABS, (SKF_AD_OFF + SKF_AD_RANDOM) as u32), // A = random
        instruction(BPF_ALU | BPF_MOD | BPF_K, sockets),                            // A %= sockets
        instruction(BPF_RET | BPF_A, 0),                                            // return A
    ]
}
