//! Listening sockets, and the connections in a server's accept queues under load.

use std::time::Duration;

use crate::lab::samples::Samples;
use crate::report::model::{Cell, Table, Unit};
use crate::server::Server;
use common::kernel::sock_diag::{Listener, listeners};

/// How often to look. A look asks the kernel for the sockets of one port and costs microseconds.
const EVERY: Duration = Duration::from_millis(50);

/// The accept queues of a server's sockets, over time.
pub struct Queues {
    port: u16,
    /// Each worker's pid and the inode of its socket, before any fault.
    sockets: Vec<(u32, u64)>,
    seen: Vec<(Duration, Vec<Listener>)>,
}

impl Queues {
    /// For this server, without a look yet.
    pub fn of(server: &Server) -> Self {
        Self { port: server.address().port(), sockets: server.sockets(), seen: Vec::new() }
    }

    /// Looks, if a look is due.
    pub fn look(&mut self, now: Duration) {
        let is_due = self.seen.last().is_none_or(|(last, _)| now >= *last + EVERY);
        // If the kernel does not answer, only the table of evidence stays empty.
        self.seen.extend(is_due.then(|| Some((now, listeners(self.port).ok()?))).flatten());
    }

    /// The longest queues seen between two times: of the socket that this worker accepts from, and of all
    /// others together; `None` if there was no look between them.
    pub fn longest(&self, pid: u32, from: Duration, to: Duration) -> Option<[u32; 2]> {
        let (_, inode) = self.sockets.iter().find(|(worker, _)| *worker == pid)?;
        let queued = |sockets: &[Listener], own: bool| -> u32 {
            let wanted = |socket: &&Listener| (socket.inode == *inode) == own;
            sockets.iter().filter(wanted).map(|socket| socket.queued).sum()
        };
        let within = self.seen.iter().filter(|(at, _)| (from..to).contains(at));
        let looks = within.map(|(_, sockets)| [queued(sockets, true), queued(sockets, false)]);
        looks.reduce(|longest, now| [0, 1].map(|place| longest[place].max(now[place])))
    }
}

/// The listening sockets of each subject, as its samples have them.
pub fn who_listens<S>(all: &Samples<S>, of: fn(&S) -> &[Listener]) -> Table {
    let columns = [
        ("inode", Unit::Text),
        ("made by user", Unit::Text),
        ("queued", Unit::Count),
        ("at most", Unit::Count),
    ];
    let mut table = Table::new("Who listens, by sock_diag", &columns);
    for (name, samples) in &all.groups {
        for Listener { inode, uid, queued, backlog, .. } in samples.iter().flat_map(of) {
            let [queued, most] = [*queued, *backlog].map(Cell::from);
            let [inode, user] = [inode.to_string(), uid.to_string()].map(Cell::from);
            table.row(name, [inode, user, queued, most]);
        }
    }
    table
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A socket with this many connections in its queue.
    pub fn listener(inode: u64, queued: u32) -> Listener {
        Listener { address: ([127, 0, 0, 1], 80).into(), inode, uid: 0, queued, backlog: 1024 }
    }

    #[test]
    fn the_longest_queue_is_told_of_a_worker_and_of_the_others() {
        let ms = Duration::from_millis;
        let looks = [(10, [1, 2]), (60, [5, 0]), (110, [9, 9])];
        let seen = looks.map(|(at, [a, b])| (ms(at), vec![listener(0, a), listener(1, b)])).into();
        let queues = Queues { port: 80, sockets: vec![(7, 0), (8, 1)], seen };
        for (pid, from, to, expected) in [
            (7, 0, 100, Some([5, 2])),
            (8, 0, 100, Some([2, 5])),
            (9, 0, 100, None),
            (7, 20, 30, None),
        ] {
            assert_eq!(queues.longest(pid, ms(from), ms(to)), expected);
        }
    }
}
