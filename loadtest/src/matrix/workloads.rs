//! The policies and the workloads: who takes part, and what each is put through.

/// Every policy: what it is called here, and the server with its options.
pub const POLICIES: [(&str, &str); 9] = [
    ("shared/epoll", "shared --accept epoll"),
    ("shared/blocking", "shared --accept blocking"),
    ("shared/exclusive", "shared --accept exclusive"),
    ("shared/least-conn", "shared --accept least-conn"),
    ("reuseport/hash", "reuseport --steer hash"),
    ("reuseport/first", "reuseport --steer first"),
    ("reuseport/random", "reuseport --steer random"),
    ("reuseport/cpu", "reuseport --steer cpu"),
    ("reuseport/least-conn", "reuseport --steer least-conn"),
];

/// The two that look at the load.
pub const LOAD_AWARE: [&str; 2] = ["shared/least-conn", "reuseport/least-conn"];

/// One workload, of which requests/s are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// What it is called.
    pub name: &'static str,
    /// Workers of each server.
    pub workers: u32,
    /// Threads of wrk.
    pub threads: u64,
    /// Connections of wrk.
    pub connections: u64,
    /// Whether connections are kept, or one is opened for each request.
    pub keep_alive: bool,
    /// Whether some requests block their worker.
    pub mixed: bool,
    /// Whether a load-aware policy must be good in it. The post's load shows who gets connections.
    pub judged: bool,
}

/// One request in 200 blocks its worker for 20 ms.
pub const MIX: &str = "199 /\n1 /block/20000\n";

/// With more workers than this each server is up for its own slices only: nine servers of 256 workers
/// would be 2304 processes, and each of them looks after itself four times a second.
pub const FEW_WORKERS: u32 = 4;

/// The workloads.
pub const CELLS: [Cell; 7] = [
    Cell { name: "post", threads: 12, connections: 100, judged: false, ..KEPT },
    Cell { name: "keep", ..KEPT },
    Cell { name: "close", ..NEW },
    Cell { name: "mixed keep", mixed: true, ..KEPT },
    Cell { name: "mixed close", mixed: true, ..NEW },
    Cell { name: "close, 64 workers", workers: 64, connections: 100, ..NEW },
    Cell { name: "close, 256 workers", workers: 256, connections: 100, ..NEW },
];

const KEPT: Cell = Cell {
    name: "",
    workers: 4,
    threads: 2,
    connections: 40,
    keep_alive: true,
    mixed: false,
    judged: true,
};

const NEW: Cell = Cell { keep_alive: false, ..KEPT };

/// What the last workload is called, in which a worker is stopped and then killed.
pub const STOPPED: &str = "one of 4 stopped";

impl Cell {
    /// Whether one server at a time is up.
    pub fn one_at_a_time(&self) -> bool {
        self.workers > FEW_WORKERS
    }

    /// What it does, in words.
    pub fn words(&self) -> String {
        format!(
            "{} workers, {} connections, {}{}{}",
            self.workers,
            // wrk -t12 -c100 opens 96.
            self.connections / self.threads * self.threads,
            if self.keep_alive { "kept alive" } else { "a new one for each request" },
            if self.mixed { ", 0.5 % of the requests block their worker for 20 ms" } else { "" },
            if self.one_at_a_time() { "; each server is started for its slices alone" } else { "" }
        )
    }
}
