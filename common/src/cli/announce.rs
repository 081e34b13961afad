//! What a server prints when it serves: one line for each fact.

use std::io::{Result, Write, stdout};
use std::net::SocketAddr;

/// A worker to be announced.
pub struct Announced {
    /// Its slot of the scoreboard.
    pub index: usize,
    /// Its process.
    pub pid: i32,
    /// The listening socket that it accepts from.
    pub inode: u64,
}

/// Prints the address, the number of sockets, and each worker's socket.
pub fn announce(address: SocketAddr, workers: &[Announced]) -> Result<()> {
    let mut inodes: Vec<u64> = workers.iter().map(|worker| worker.inode).collect();
    inodes.sort_unstable();
    inodes.dedup();
    let mut out = stdout().lock();
    writeln!(out, "serving http://{address}/ (parent pid {})", std::process::id())?;
    let plural = if workers.len() == 1 { "" } else { "s" };
    writeln!(out, "{} worker{plural}, listening sockets: {}", workers.len(), inodes.len())?;
    for Announced { index, pid, inode } in workers {
        writeln!(out, "worker {index}: pid {pid}, accepts from socket:[{inode}]")?;
    }
    out.flush()
}
