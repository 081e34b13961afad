//! Attaches a program of classic BPF to the group of listening sockets. It needs no privilege.
//!
//! The kernel numbers the sockets of a group from 0 as they begin to listen, and what the program
//! returns is such a number (`run_bpf_filter`, called by `reuseport_select_sock`; for TCP since Linux
//! 4.6, see socket(7)). Two things follow:
//!
//! - The numbers are not the workers': when a socket closes, the last one takes over its number
//!   (`reuseport_detach_sock`). A policy that means a certain worker cannot be written this way.
//! - A program of classic BPF has no memory and cannot ask how many sockets there are. So their
//!   number is a constant in it, and every new socket attaches the program anew with the number as
//!   of then. Too small a number would leave sockets without a connection. Too great a one, while a
//!   worker that died has not been replaced, does no harm: a result without a socket is for the
//!   kernel as if there were no program, and the hash picks.
//!
//! A reload keeps every socket, and so needs nothing. The program belongs to the group and not to the
//! socket that it was attached through: it stays when that closes, and goes with the last of them.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use common::steering::Steering;
use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

/// A policy: its program for so many sockets.
pub struct Classic(pub fn(u32) -> Vec<sock_filter>);

impl Steering for Classic {
    fn enter(&self, _lane: usize, socket: BorrowedFd, sockets: usize) -> Result<()> {
        let mut program = (self.0)(sockets as u32);
        let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        setsockopt(&socket, AttachReusePortCbpf, &program)
            .context("cannot attach the program that steers (SO_ATTACH_REUSEPORT_CBPF)")
    }

    /// It counts nothing, so that nobody would know.
    fn attach(&self, _socket: BorrowedFd) -> Result<()> {
        Ok(())
    }

    fn leave(&self, _lane: usize) {}
}

/// One instruction: what to do, and its constant. Jumps are not needed here.
pub fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
