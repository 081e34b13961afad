//! What would be lost if a worker died, or were replaced, at this moment.

use serde::{Deserialize, Serialize};

use crate::diagnose::model::{Readings, Worker};

/// What one worker has, and what becomes of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Loss {
    /// The process.
    pub worker: u32,
    /// Connections that it has: lost by a crash, under every model.
    pub held: u64,
    /// Connections that wait for it alone.
    pub queued: u32,
    /// How many of those a crash resets; a reload, too, unless the worker takes them before it closes.
    pub queue_lost: u32,
}

/// Of every worker that serves.
pub fn lose_now(readings: &Readings) -> Vec<Loss> {
    let loss = |worker: &Worker| {
        let queued = readings.queued_for(worker);
        let is_kept = is_alone(readings, worker) || readings.migrates;
        let queue_lost = if is_kept { 0 } else { queued };
        Loss { worker: worker.pid, held: worker.held, queued, queue_lost }
    };
    readings.serving().map(loss).collect()
}

/// Whether another process has its sockets open, too, for instance its parent: the queue outlives it.
fn is_alone(readings: &Readings, worker: &Worker) -> bool {
    let mut own = readings.sockets_of_its_own(worker).filter(|socket| socket.queued > 0);
    own.all(|socket| socket.holders.iter().any(|&pid| pid != worker.pid))
}

/// What the model means for what waits, in a sentence.
pub fn in_words(readings: &Readings) -> String {
    let all = lose_now(readings);
    let (held, queued) = (
        all.iter().map(|loss| loss.held).sum::<u64>(),
        readings.own_sockets().map(|socket| socket.queued).sum::<u32>(),
    );
    let lost: u32 = all.iter().map(|loss| loss.queue_lost).sum();
    let model = match (readings.has_own_sockets(), readings.migrates) {
        (false, _) => {
            "connections in a shared queue survive any worker, and are lost only if all workers end"
        }
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
    };
    format!(
        "{held} connections are open and would be lost with their worker; {queued} wait, and \
         {lost} of these would be reset if their workers died: {model}"
    )
}
