//! Attaches a program of classic BPF to the group of listening sockets. It needs no privilege.
//!
//! The kernel numbers the sockets of a group from 0 as they begin to listen, and what the program
//! returns is such a number (`run_bpf_filter`, called by `reuseport_select_sock`; for TCP since Linux
//! 4.6, see socket(7)). Two things follow:
//!
//! - The numbers do not belong to workers: when a socket closes, the last socket takes over its number
//!   (`reuseport_detach_sock`). So a classic program cannot choose a certain worker.
//! - A classic program has no memory and cannot ask how many sockets there are. So their number is a
//!   constant in the program, and for every new socket the parent attaches the program anew with the
//!   new number. If the number were too small, some sockets would get no connection. If it is too large,
//!   while a dead worker has not been replaced, it does no harm: for a result without a socket the
//!   kernel uses the hash, as without a program.
//!
//! A reload keeps every socket, and so needs nothing. The program belongs to the group, not to the
//! socket that it was attached through: it stays when that socket closes, and goes with the last one.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use common::steering::Steering;
use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

/// A policy: makes the program for this many sockets.
pub struct Classic(pub fn(u32) -> Vec<sock_filter>);

impl Steering for Classic {
    fn enter(&self, _lane: usize, socket: BorrowedFd, sockets: usize) -> Result<()> {
        let mut program = (self.0)(sockets as u32);
        let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        setsockopt(&socket, AttachReusePortCbpf, &program)
            .context("cannot attach the program that steers (SO_ATTACH_REUSEPORT_CBPF)")
    }

    /// Not needed: a classic program counts nothing, so its replacement is not noticed.
    fn attach(&self, _socket: BorrowedFd) -> Result<()> {
        Ok(())
    }

    fn leave(&self, _lane: usize) {}
}

/// One instruction: an operation and its constant, without jumps.
pub fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
