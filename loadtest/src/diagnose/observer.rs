//! Observes a server for a while, and makes readings. It only reads, and sends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::kernel::sock_diag::{self, Details};
use procfs::Current;

use crate::diagnose::accepts_bpf::Accepts;
use crate::diagnose::census::{Census, Families, Found};
use crate::diagnose::model::{Counted, How, Readings, Role, Socket, Waiter, Worker};
use crate::diagnose::seen::Seen;
use crate::diagnose::unseen::{hidepid, unseen};
use crate::environment;
use crate::interrupt;
use crate::kernel::borrow;
use crate::kernel::netstat::TcpCounters;
use crate::kernel::procfs::{Running, Usage, descendants};

/// How often accept queues are read: one question to the kernel.
const QUEUES_EVERY: Duration = Duration::from_millis(20);

/// How often processes are looked at, at most; and the part of the time that this may take.
const PROCESSES_EVERY: Duration = Duration::from_millis(200);
const PART_OF_THE_TIME: u32 = 10;

/// Observes one port.
#[derive(Debug)]
pub struct Observer {
    port: u16,
    /// A process of the wanted server, if one was given.
    wanted: Option<u32>,
    began: Instant,
    counters: Option<TcpCounters>,
    queues: BTreeMap<u64, Queue>,
    seen: BTreeMap<u32, Seen>,
    /// Connections that were seen in a process; others are new.
    known: BTreeSet<u64>,
    flags: BTreeMap<u64, Option<bool>>,
    steering: BTreeSet<u32>,
    next_census: Instant,
    /// The kernel's count of accepts, or why there is none; and its value when counting began.
    accepts: Result<Accepts, String>,
    accepts_before: BTreeMap<(u32, i32), u64>,
    /// What the kernel had counted, and when, at the last readings: the next observation begins there.
    last: Option<Counts>,
}

/// What the kernel has counted.
#[derive(Clone, Debug)]
struct Counts {
    at: Instant,
    tcp: Option<TcpCounters>,
    accepts: BTreeMap<(u32, i32), u64>,
}

/// What was seen of an accept queue.
#[derive(Debug)]
struct Queue {
    range: [u32; 2],
    dropped_before: u32,
}

impl Observer {
    /// Begins to observe.
    /// Fails when no socket listens on the port, or the kernel does not answer.
    pub fn start(port: u16, wanted: Option<u32>) -> Result<Self> {
        let now = Instant::now();
        let mut observer = Self {
            port,
            wanted,
            began: now,
            counters: None,
            queues: BTreeMap::new(),
            seen: BTreeMap::new(),
            known: BTreeSet::new(),
            flags: BTreeMap::new(),
            steering: BTreeSet::new(),
            next_census: now,
            accepts: Accepts::start().map_err(|error| format!("{error:#}")),
            accepts_before: BTreeMap::new(),
            last: None,
        };
        observer.census()?;
        observer.restart();
        observer.look_at_queues()?;
        Ok(observer)
    }

    fn count(&self) -> Counts {
        let accepts = self.accepts.as_ref().map(Accepts::counts).unwrap_or_default();
        Counts { at: Instant::now(), tcp: TcpCounters::now().ok(), accepts }
    }

    /// Restarts all counts, where the last readings ended.
    pub fn restart(&mut self) {
        let counts = self.last.take().unwrap_or_else(|| self.count());
        (self.began, self.counters, self.accepts_before) = (counts.at, counts.tcp, counts.accepts);
        self.queues.clear();
        for (&pid, seen) in &mut self.seen {
            seen.before = Usage::of(pid).unwrap_or_default();
            seen.appeared = 0;
        }
    }

    /// Observes for this long, or until Ctrl-C.
    /// Fails when the kernel does not answer any more.
    pub fn look_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end && interrupt::count() == 0 {
            self.look()?;
            sleep(QUEUES_EVERY.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Looks once: at the queues, and at the processes if that is due.
    pub fn look(&mut self) -> Result<()> {
        self.look_at_queues()?;
        if Instant::now() >= self.next_census { self.census() } else { Ok(()) }
    }

    fn look_at_queues(&mut self) -> Result<Vec<Details>> {
        let found = sock_diag::details(self.port)?;
        for Details { listener, dropped, .. } in &found {
            let new = Queue { range: [listener.queued; 2], dropped_before: *dropped };
            let queue = self.queues.entry(listener.inode).or_insert(new);
            let [least, most] = queue.range;
            queue.range = [least.min(listener.queued), most.max(listener.queued)];
        }
        Ok(found)
    }

    fn census(&mut self) -> Result<()> {
        let begin = Instant::now();
        let listening = sock_diag::listeners(self.port)?;
        let listening: BTreeSet<u64> = listening.iter().map(|listener| listener.inode).collect();
        let accepted = sock_diag::connections(self.port)?;
        let census = Census::take(&listening, &accepted)?;
        let waiting = |found: &&Found| !found.waits.is_empty();
        let of_waiting: BTreeSet<u64> =
            census.found.values().filter(waiting).flat_map(|found| found.held.clone()).collect();
        let is_first = self.seen.is_empty();
        // Waiting processes come first: what a helper process inherits is not its own.
        let mut all: Vec<(u32, Found)> = census.found.into_iter().collect();
        all.sort_by_key(|(_, found)| found.waits.is_empty());
        let idle: BTreeSet<u32> =
            self.seen.keys().copied().filter(|&pid| self.is_idle_child(pid)).collect();
        self.seen.retain(|pid, seen| {
            seen.last = Found::default();
            idle.contains(pid) || all.iter().any(|(found, _)| found == pid)
        });
        for (pid, found) in all {
            if found.steers {
                self.steering.insert(pid);
            }
            self.ask_for_flags(pid, &found);
            let seen = self.seen.entry(pid).or_insert_with(|| Seen {
                running: Running::of(pid),
                before: Usage::of(pid).unwrap_or_default(),
                ..Seen::default()
            });
            let new = found.held.iter().filter(|&&inode| self.known.insert(inode)).count() as u64;
            seen.appeared += if is_first { 0 } else { new };
            seen.take(found, &of_waiting);
        }
        self.known.retain(|inode| accepted.contains(inode));
        let rest = PROCESSES_EVERY.max(begin.elapsed() * PART_OF_THE_TIME);
        self.next_census = Instant::now() + rest;
        Ok(())
    }

    /// Whether it waits for a listening socket.
    fn waits(&self, pid: u32) -> bool {
        self.seen.get(&pid).is_some_and(|seen| !seen.waits.is_empty())
    }

    /// The nearest of a process's ancestors that waits for a listening socket: a server may have a process between the one
    /// that accepts and the one that serves, as sshd does.
    fn accepts_for(&self, pid: u32) -> Option<u32> {
        let parent = |pid: &u32| Running::of(*pid).map(|it| it.parent).filter(|&it| it > 0);
        std::iter::successors(Some(pid), parent).skip(1).find(|&it| self.waits(it))
    }

    /// Whether a process without sockets and connections of the port is a child to which a parent gives connections: it
    /// had some, and has not got the next one yet.
    fn is_idle_child(&self, pid: u32) -> bool {
        let is_child = |it: &Running| it.runs() && self.accepts_for(it.pid).is_some();
        let seen = self.seen.get(&pid);
        seen.is_some_and(|it| it.had_connections && it.running.as_ref().is_some_and(is_child))
    }

    /// Reads SO_REUSEPORT once for each socket, from any process that allows it.
    fn ask_for_flags(&mut self, pid: u32, found: &Found) {
        for &(descriptor, inode) in &found.listening {
            let flag = self.flags.entry(inode).or_default();
            *flag = flag.or_else(|| borrow::has_reuse_port(pid, descriptor).ok());
        }
    }

    /// The readings since the start or the last restart.
    /// Fails when no socket listens any more, or no process can be seen with one.
    pub fn readings(&mut self) -> Result<Readings> {
        self.census()?;
        let details = self.look_at_queues()?;
        let port = self.port;
        ensure!(!details.is_empty(), "the server on port {port} ended while it was observed");
        let counts = self.count();
        let seconds = (counts.at - self.began).as_secs_f64();
        let holders = |inode: u64| -> Vec<u32> {
            let has = |seen: &Seen| seen.last.listening.iter().any(|socket| socket.1 == inode);
            self.seen.iter().filter(|(_, seen)| has(seen)).map(|(&pid, _)| pid).collect()
        };
        let groups: Vec<Vec<u32>> = details.iter().map(|it| holders(it.listener.inode)).collect();
        let pids = self.seen.keys().copied();
        let families = Families::of(pids, &groups, |pid| self.waits(pid));
        let sockets: Vec<Socket> = details
            .into_iter()
            .zip(groups)
            .map(|(found, holders)| self.socket(found, holders, &families))
            .collect();
        let workers = self.workers(&families, seconds, &counts);
        let server = self.server(&workers, &families)?;
        let overflows = counts.tcp.zip(self.counters);
        self.last = Some(counts);
        let sysctl = |path: &str| std::fs::read_to_string(format!("/proc/sys/net/{path}")).ok();
        let number = |path: &str| sysctl(path)?.trim().parse::<u32>().ok();
        let mut readings = Readings {
            port,
            seconds,
            cores: environment::cores(),
            somaxconn: number("core/somaxconn"),
            migrates: number("ipv4/tcp_migrate_req") == Some(1),
            counted: if self.accepts.is_ok() { Counted::ByKernel } else { Counted::BySockets },
            overflows: overflows.map_or(0, |(now, then)| now.since(&then).listen_overflows),
            server,
            steering_program: self.steering.iter().any(|&pid| families.server(pid) == server),
            children: children(&workers, server)?,
            sockets,
            workers,
            unseen: Vec::new(),
        };
        let hidden =
            self.seen.iter().filter_map(|(&pid, seen)| Some((pid, seen.last.hidden.as_deref()?)));
        let uncounted = self.accepts.as_ref().err().map(String::as_str);
        readings.unseen = unseen(&readings, hidden, uncounted, PROCESSES_EVERY);
        Ok(readings)
    }

    fn socket(&self, found: Details, holders: Vec<u32>, families: &Families) -> Socket {
        let Details { listener, dropped, only_v6 } = found;
        let queue = &self.queues[&listener.inode];
        let waits = self.seen.iter().flat_map(|(&pid, seen)| {
            seen.waits
                .iter()
                .map(move |(&(inode, how), &count)| (inode, count, Waiter { pid, how }))
        });
        let of_it = waits.filter(|(inode, ..)| *inode == listener.inode);
        Socket {
            inode: listener.inode,
            address: listener.address,
            only_v6,
            uid: listener.uid,
            backlog: listener.backlog,
            queued: listener.queued,
            queued_range: queue.range,
            dropped: dropped.saturating_sub(queue.dropped_before),
            reuse_port: self.flags.get(&listener.inode).copied().flatten(),
            server: holders.first().map(|&pid| families.server(pid)),
            waiters: of_it.flat_map(|(_, count, waiter)| vec![waiter; count]).collect(),
            holders,
        }
    }

    /// All processes that listen, or have connections.
    fn workers(&self, families: &Families, seconds: f64, counts: &Counts) -> Vec<Worker> {
        let mut workers = Vec::new();
        for (&pid, seen) in &self.seen {
            let Some(running) = Running::of(pid) else { continue };
            let opens = !seen.last.listening.is_empty();
            let role = match () {
                () if self.waits(pid) => Role::Worker,
                () if seen.had_connections && opens => Role::Worker,
                () if seen.had_connections && self.accepts_for(pid).is_some() => Role::Child,
                () if seen.had_connections => Role::Old,
                () if opens => Role::Holder,
                () => continue,
            };
            workers.push(seen.worker(running, role, families.server(pid), seconds));
        }
        self.take_counts(&mut workers, counts);
        let of_children: BTreeSet<u32> = (workers.iter())
            .filter(|worker| worker.role == Role::Child)
            .filter_map(|worker| self.accepts_for(worker.pid))
            .collect();
        for worker in workers.iter_mut().filter(|worker| of_children.contains(&worker.pid)) {
            worker.role = Role::Acceptor;
        }
        workers
    }

    /// Replaces the counts from looks by the kernel's, for processes that accept themselves.
    fn take_counts(&self, workers: &mut [Worker], counts: &Counts) {
        if self.accepts.is_err() {
            return;
        }
        let uptime = procfs::Uptime::current().map_or(0.0, |found| found.uptime);
        let began = uptime - self.began.elapsed().as_secs_f64();
        for worker in workers.iter_mut().filter(|worker| worker.role == Role::Worker) {
            let Seen { last: Found { listening, .. }, waits, .. } = &self.seen[&worker.pid];
            if waits.keys().any(|(_, how)| *how == How::IoUring) {
                continue; // this does not call accept(2)
            }
            let of = |&(descriptor, _): &(i32, u64)| {
                let key = (worker.pid, descriptor);
                let [now, before] =
                    [&counts.accepts, &self.accepts_before].map(|it| *it.get(&key).unwrap_or(&0));
                now.saturating_sub(before)
            };
            worker.accepted = listening.iter().map(of).sum();
            worker.is_counted = worker.started <= began;
        }
    }

    /// The wanted server: that of the given process, or else the one with most workers or, of equals, the oldest.
    fn server(&self, workers: &[Worker], families: &Families) -> Result<u32> {
        if let Some(wanted) = self.wanted {
            // The given process may be the one that started the server.
            let descends = |worker: &&Worker| {
                let ancestor =
                    |pid: &u32| Running::of(*pid).map(|it| it.parent).filter(|&it| it > 0);
                std::iter::successors(Some(worker.pid), ancestor).any(|pid| pid == wanted)
            };
            let meant = workers.iter().find(descends).map_or(wanted, |worker| worker.pid);
            return Ok(families.server(meant));
        }
        let count = |server: u32| {
            let of_it = || workers.iter().filter(|worker| worker.server == server);
            let first = of_it().map(|worker| (worker.started * 100.0) as u64).min();
            let waiting = of_it().filter(|worker| worker.role != Role::Holder).count();
            (waiting, std::cmp::Reverse(first))
        };
        let servers = workers.iter().filter(|worker| worker.role != Role::Old);
        servers.map(|worker| worker.server).max_by_key(|&server| count(server)).with_context(|| {
            format!(
                "no process can be seen that has the sockets of port {}{}: run as root, or as the server's \
                 user, or grant CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
                self.port,
                hidepid()
            )
        })
    }
}

/// How many descendants of the server's accepting processes have nothing to do with the port.
fn children(workers: &[Worker], server: u32) -> Result<usize> {
    let accepts = workers.iter().filter(|worker| {
        worker.server == server && matches!(worker.role, Role::Worker | Role::Acceptor)
    });
    let found = descendants(&accepts.map(|worker| worker.pid).collect())?;
    Ok(found.iter().filter(|child| workers.iter().all(|it| it.pid != child.pid)).count())
}
