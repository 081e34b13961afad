//! What a crash, or a reload, of a worker would lose at this moment.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::diagnose::model::{Readings, Socket, Worker};
use crate::report::format::plural;

/// What one worker has, and what would be lost.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Loss {
    /// The process.
    pub worker: u32,
    /// Connections that it has: lost by a crash, under every model.
    pub held: u64,
    /// Connections that wait for it only.
    pub queued: u32,
    /// How many of these a crash resets; so does a reload, unless the worker accepts them before it closes the socket.
    pub queue_lost: u32,
}

/// The losses of every worker that serves, and of other processes for which connections wait.
pub fn lose_now(readings: &Readings) -> Vec<Loss> {
    let serving: BTreeSet<u32> = readings.serving().map(|worker| worker.pid).collect();
    let loss = |worker: &Worker| {
        let lost = readings.own_sockets().filter(|socket| {
            socket.holders == [worker.pid] && !(readings.migrates && has_heirs(readings, socket))
        });
        Loss {
            worker: worker.pid,
            held: if serving.contains(&worker.pid) { worker.held } else { 0 },
            queued: readings.queued_for(worker),
            queue_lost: lost.map(|socket| socket.queued).sum(),
        }
    };
    let all = readings.own().map(loss);
    all.filter(|loss| serving.contains(&loss.worker) || loss.queued > 0).collect()
}

/// Whether another process has a socket of its group, which could get its waiting connections.
fn has_heirs(readings: &Readings, socket: &Socket) -> bool {
    let mut group = readings.own_sockets().filter(|other| other.address == socket.address);
    group.any(|other| other.holders.iter().any(|pid| !socket.holders.contains(pid)))
}

/// What the model means for waiting connections, in a sentence.
pub fn in_words(readings: &Readings) -> String {
    let all = lose_now(readings);
    let (held, queued) = (
        all.iter().map(|loss| loss.held).sum::<u64>(),
        readings.own_sockets().map(|socket| socket.queued).sum::<u32>(),
    );
    if held == 0 && queued == 0 {
        return "nothing would be lost now: no connection is open, and none waits".into();
    }
    let lost: u32 = all.iter().map(|loss| loss.queue_lost).sum();
    let is_any = |is: &dyn Fn(&Socket) -> bool| readings.own_sockets().any(is);
    let model = match (is_any(&|socket| has_heirs(readings, socket)), readings.migrates) {
        (true, true) => {
            "connections that wait for a worker move to another when its socket closes \
             (tcp_migrate_req is 1)"
        }
        (true, false) => {
            "connections that wait for a worker that dies are reset (tcp_migrate_req is 0), unless \
             a steering program migrates them or another process keeps the socket open; the same \
             holds for a worker that is replaced, unless it accepts all of them before it closes \
             the socket"
        }
        (false, _) if !is_any(&|socket| socket.holders.len() > 1) => {
            "only one process has the socket open, and what waits is reset when that ends"
        }
        (false, _) if is_any(&|socket| socket.holders.len() == 1) => {
            "connections in a queue that several processes share survive any of them; what waits \
             for a socket that only one process has open is reset when that ends"
        }
        (false, _) => {
            "connections in a shared queue survive any worker, and are lost only if all processes \
             end that have its socket open"
        }
    };
    let open = match held {
        0 => "no connection is open".to_owned(),
        1 => "1 connection is open and would be lost with its worker".to_owned(),
        _ => {
            format!("{} are open and would be lost with their workers", plural(held, "connection"))
        }
    };
    let waiting = match (queued, lost) {
        (0, _) => "none waits".to_owned(),
        (1, 0) => "1 waits, and would not be lost".to_owned(),
        (1, _) => "1 waits, and would be reset if its worker died".to_owned(),
        _ => format!("{queued} wait, and {lost} of these would be reset if their workers died"),
    };
    format!("{open}; {waiting}: {model}")
}
