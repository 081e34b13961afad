//! A running example program.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::support::{children_of, connections, listening_sockets, program, wait_for};

/// A running example; it ends when the test does.
pub struct Example {
    pub child: Child,
    pub address: SocketAddr,
}

impl Example {
    /// Starts one with so many workers, on a port of the kernel's choice.
    pub fn start(name: &str, workers: usize) -> Self {
        let mut command = Command::new(program(&format!("examples/{name}")));
        command.args(["0", &workers.to_string()]).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect(&line);
        let example = Self { address: address.parse().unwrap(), child };
        wait_for("all workers to listen", || {
            let pids = example.workers();
            let all_listen = pids.iter().all(|&pid| listening_sockets(pid).len() == 1);
            (pids.len() == workers && all_listen).then_some(())
        });
        example
    }

    pub fn workers(&self) -> Vec<u32> {
        children_of(self.child.id())
    }

    /// How many connections each worker has.
    pub fn connections(&self) -> Vec<usize> {
        self.workers().into_iter().map(connections).collect()
    }

    pub fn wait_until_idle(&self) {
        wait_for("no connection to be left", || {
            self.connections().iter().all(|&count| count == 0).then_some(())
        });
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill(); // the workers go with their parent
        let _ = self.child.wait();
    }
}
