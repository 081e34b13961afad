//! Observes a server for a while, and makes readings. It only reads, and sends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::kernel::port_owner::name_of;
use common::kernel::sock_diag::{self, Details};
use procfs::Current;

use crate::diagnose::accepts_bpf::Accepts;
use crate::diagnose::busy::{Busy, working};
use crate::diagnose::families::{Families, program_of};
use crate::diagnose::model::{Counted, How, Readings, Role, Socket, Waiter, Worker};
use crate::diagnose::unseen::{hidepid, unseen};
use crate::environment;
use crate::interrupt;
use crate::kernel::borrow;
use crate::kernel::netns;
use crate::kernel::netstat::TcpCounters;
use crate::kernel::procfs::{Running, Usage, ancestors, descendants, stat};
use crate::kernel::workers::{Finder, Seen};

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
    /// What the kernel had counted when the observation began.
    began: Counts,
    queues: BTreeMap<u64, Queue>,
    finder: Finder,
    /// The counters of each process when the observation began, or when the process was found.
    before: BTreeMap<u32, Usage>,
    flags: BTreeMap<u64, Option<bool>>,
    steering: BTreeSet<u32>,
    next_census: Instant,
    /// The connections that have waited in an accept queue since the observation began.
    waiting: BTreeSet<[u8; 8]>,
    /// The kernel's count of accepts, or why there is none.
    accepts: Result<Accepts, String>,
    /// The counts at the last readings: the next observation begins there.
    last: Option<Counts>,
}

/// What the kernel has counted.
#[derive(Clone, Debug)]
struct Counts {
    at: Instant,
    tcp: Option<TcpCounters>,
    accepts: BTreeMap<(u32, i32), u64>,
}

impl Counts {
    fn now(accepts: &Result<Accepts, String>) -> Self {
        let accepts = accepts.as_ref().map(Accepts::counts).unwrap_or_default();
        Self { at: Instant::now(), tcp: TcpCounters::now().ok(), accepts }
    }

    /// What a process has accepted from this descriptor since these counts.
    fn since(&self, began: &BTreeMap<(u32, i32), u64>, pid: u32, descriptor: i32) -> u64 {
        let [now, before] =
            [&self.accepts, began].map(|it| *it.get(&(pid, descriptor)).unwrap_or(&0));
        now.saturating_sub(before)
    }
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
        let accepts = Accepts::start().map_err(|error| format!("{error:#}"));
        let mut observer = Self {
            port,
            wanted,
            began: Counts::now(&accepts),
            queues: BTreeMap::new(),
            finder: Finder::new(port, None),
            before: BTreeMap::new(),
            flags: BTreeMap::new(),
            steering: BTreeSet::new(),
            next_census: Instant::now(),
            waiting: BTreeSet::new(),
            accepts,
            last: None,
        };
        observer.census()?;
        observer.restart()?;
        observer.look_at_queues()?;
        Ok(observer)
    }

    /// Restarts all counts, where the last readings ended.
    /// Fails when the kernel does not answer.
    pub fn restart(&mut self) -> Result<()> {
        self.began = self.last.take().unwrap_or_else(|| Counts::now(&self.accepts));
        self.queues.clear();
        for (&pid, seen) in &mut self.finder.seen {
            self.before.insert(pid, Usage::of(pid).unwrap_or_default());
            seen.appeared = 0;
        }
        self.waiting = sock_diag::waiting(self.port)?;
        Ok(())
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
        self.finder.look()?;
        let seen = &self.finder.seen;
        self.before.retain(|pid, _| seen.contains_key(pid));
        for (&pid, Seen { last, .. }) in seen {
            self.before.entry(pid).or_insert_with(|| Usage::of(pid).unwrap_or_default());
            self.steering.extend(last.steers.then_some(pid));
            // SO_REUSEPORT is read once for each socket, from any process that allows it.
            for &(descriptor, inode) in &last.listening {
                let flag = self.flags.entry(inode).or_default();
                *flag = flag.or_else(|| borrow::has_reuse_port(pid, descriptor).ok());
            }
        }
        let rest = PROCESSES_EVERY.max(begin.elapsed() * PART_OF_THE_TIME);
        self.next_census = Instant::now() + rest;
        Ok(())
    }

    /// The readings since the start or the last restart.
    /// Fails when no socket listens any more, or no process can be seen with one.
    pub fn readings(&mut self) -> Result<Readings> {
        self.census()?;
        let details = self.look_at_queues()?;
        let port = self.port;
        ensure!(!details.is_empty(), "the server on port {port} ended while it was observed");
        let counts = Counts::now(&self.accepts);
        let seconds = (counts.at - self.began.at).as_secs_f64();
        let still_waiting = sock_diag::waiting(port)?;
        self.waiting.retain(|it| still_waiting.contains(it));
        self.find_busy(&counts, seconds);
        let seen = &self.finder.seen;
        let holders = |inode: u64| -> Vec<u32> {
            let has = |seen: &Seen| seen.last.listening.iter().any(|socket| socket.1 == inode);
            seen.iter().filter(|(_, seen)| has(seen)).map(|(&pid, _)| pid).collect()
        };
        let groups: Vec<Vec<u32>> = details.iter().map(|it| holders(it.listener.inode)).collect();
        let families = Families::of(seen.keys().copied(), &groups, |pid| self.finder.accepts(pid));
        let sockets: Vec<Socket> = details
            .into_iter()
            .zip(groups)
            .map(|(found, holders)| self.socket(found, holders, &families))
            .collect();
        let workers = self.workers(&families, seconds, &counts);
        let server = self.server(&workers, &families)?;
        let overflows = counts.tcp.zip(self.began.tcp);
        self.last = Some(counts);
        let mut readings = Readings {
            port,
            seconds,
            cores: environment::cores(),
            somaxconn: netns::sysctl("net/core/somaxconn"),
            migrates: netns::sysctl("net/ipv4/tcp_migrate_req") == Some(1),
            counted: if self.accepts.is_ok() { Counted::ByKernel } else { Counted::BySockets },
            waited_throughout: self.waiting.len() as u32,
            overflows: overflows.map_or(0, |(now, then)| now.since(&then).listen_overflows),
            server,
            steering_program: self.steering.iter().any(|&pid| families.server(pid) == server),
            children: children(&workers, server)?,
            sockets,
            workers,
            unseen: Vec::new(),
        };
        let hidden = seen.iter().filter_map(|(&pid, it)| Some((pid, it.last.hidden.as_deref()?)));
        let uncounted = self.accepts.as_ref().err().map(String::as_str);
        readings.unseen = unseen(&readings, hidden, uncounted, PROCESSES_EVERY);
        Ok(readings)
    }

    fn socket(&self, found: Details, holders: Vec<u32>, families: &Families) -> Socket {
        let Details { listener, dropped, only_v6 } = found;
        let queue = &self.queues[&listener.inode];
        let waits = self.finder.seen.iter().flat_map(|(&pid, seen)| {
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
        let roles = self.finder.roles().into_iter();
        let worker = |(pid, role)| {
            let running = Running::of(pid)?;
            Some(self.worker(running, role, families.server(pid), seconds))
        };
        let mut workers: Vec<Worker> = roles.filter_map(worker).collect();
        self.take_counts(&mut workers, counts);
        workers
    }

    /// A process, with what it has used during the observation.
    fn worker(&self, running: Running, role: Role, server: u32, seconds: f64) -> Worker {
        let (pid, before) = (running.pid, self.before[&running.pid]);
        let seen = &self.finder.seen[&pid];
        let used = Usage::of(pid).unwrap_or(before).since(&before);
        let wait = used.wait_nanoseconds as f64 / 1e9 / seconds;
        Worker {
            pid,
            name: name_of(pid).unwrap_or_default(),
            program: program_of(pid).map(|path| path.to_string_lossy().into_owned()),
            server,
            role,
            started: running.started as f64 / procfs::ticks_per_second() as f64,
            sockets: seen.sockets(),
            held: seen.last.held.len() as u64,
            accepted: seen.appeared,
            is_counted: false, // seen in looks
            cpu: used.cpu_seconds() / seconds,
            waited: (used.cpu_nanoseconds > 0 || used.wait_nanoseconds > 0).then_some(wait),
            switches: used.switches.voluntary,
            state: stat(pid).map_or('X', |stat| stat.state),
            sits_in: place_of(pid),
        }
    }

    /// Finds those that accept and were never seen to wait, by the kernel's counts or, without these, by CPU time.
    fn find_busy(&mut self, counts: &Counts, seconds: f64) {
        if self.accepts.is_ok() {
            let began = &self.began.accepts;
            for (&pid, seen) in self.finder.seen.iter_mut().filter(|(_, seen)| is_countable(seen)) {
                let from = seen.accepted_from.get_or_insert_default();
                let sockets = seen.last.listening.iter();
                from.extend(
                    sockets.filter(|it| counts.since(began, pid, it.0) > 0).map(|socket| socket.1),
                );
            }
        }
        let holds = |seen: &Seen| !seen.last.listening.is_empty();
        let busy = |(&pid, seen): (&u32, &Seen)| Busy {
            pid,
            sockets: seen.last.listening.iter().map(|socket| socket.1).collect(),
            program: program_of(pid),
            accepts: self.finder.accepts(pid),
            is_counted: seen.accepted_from.is_some(),
            cpu: Usage::of(pid).map_or(0.0, |now| now.since(&self.before[&pid]).cpu_seconds()),
        };
        let all: Vec<Busy> =
            self.finder.seen.iter().filter(|(_, seen)| holds(seen)).map(busy).collect();
        for pid in working(&all, seconds) {
            self.finder.seen.entry(pid).and_modify(|seen| seen.works = true);
        }
    }

    /// Replaces the counts from looks by the kernel's, for processes that could accept themselves.
    fn take_counts(&self, workers: &mut [Worker], counts: &Counts) {
        if self.accepts.is_err() {
            return;
        }
        let uptime = procfs::Uptime::current().map_or(0.0, |found| found.uptime);
        let began = uptime - self.began.at.elapsed().as_secs_f64();
        for worker in workers.iter_mut().filter(|it| it.accepts() || it.role == Role::Holder) {
            let seen = &self.finder.seen[&worker.pid];
            if is_countable(seen) {
                let of =
                    |socket: &(i32, u64)| counts.since(&self.began.accepts, worker.pid, socket.0);
                worker.accepted = seen.last.listening.iter().map(of).sum();
                worker.is_counted = worker.started <= began;
            }
        }
    }

    /// The wanted server: that of the given process, or else the one with most workers or, of equals, the oldest.
    fn server(&self, workers: &[Worker], families: &Families) -> Result<u32> {
        if let Some(wanted) = self.wanted {
            // The given process may be the one that started the server.
            let descends = |worker: &&Worker| ancestors(worker.pid).any(|pid| pid == wanted);
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

/// Whether it accepts by accept(2), if at all. An io_uring does not call that.
fn is_countable(seen: &Seen) -> bool {
    let by_ring = seen.waits.keys().any(|(_, how)| *how == How::IoUring);
    !seen.last.listening.is_empty() && !by_ring
}

/// How many descendants of the server's accepting processes have nothing to do with the port.
fn children(workers: &[Worker], server: u32) -> Result<usize> {
    let roots = workers.iter().filter(|worker| worker.server == server && worker.accepts());
    let found = descendants(&roots.map(|worker| worker.pid).collect())?;
    Ok(found.iter().filter(|child| workers.iter().all(|it| it.pid != child.pid)).count())
}

/// The kernel function in which a process waits, without suffixes of the compiler.
fn place_of(pid: u32) -> Option<String> {
    let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
    let name = place.split('.').next().unwrap_or_default();
    (!matches!(name, "" | "0")).then(|| name.to_owned())
}
