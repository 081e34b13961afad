//! Simulated workers, for the tests of the state machine: they carry out orders at once, late, or never.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::exit::Exit;
use super::state::{Action, Event, Generation, Settings, Socket, State};

/// How long a drain may take.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// A line over which a worker sends sockets to another.
#[derive(Default)]
pub(super) struct Line {
    pub(super) sent: Option<Vec<Socket>>,
    /// The giver's end is closed, or the taker has stopped waiting.
    pub(super) is_closed: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Order {
    Give { line: usize, all: bool },
    Release,
    Adopt { line: usize },
    Drain,
}

/// A simulated worker.
pub(super) struct Process {
    pub(super) is_alive: bool,
    pub(super) is_stalled: bool,
    pub(super) serves: bool,
    /// The line that it waits for before it can serve.
    pub(super) line: Option<usize>,
    pub(super) holds: Vec<Socket>,
    pub(super) orders: VecDeque<Order>,
    /// Messages that the parent has not read yet.
    pub(super) said: VecDeque<Event>,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) state: State,
    pub(super) now: Instant,
    pub(super) events: usize,
    pub(super) may_fail: bool,
    pub(super) processes: BTreeMap<Generation, Process>,
    pub(super) lines: Vec<Line>,
    /// Whether a new server is being started. Here it never serves: the old one would end.
    pub(super) has_successor: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let settings = Settings {
            workers: rng.usize(1..6),
            drain_timeout: DRAIN,
            hang_timeout: Duration::from_secs([0, 30][rng.usize(0..2)]),
            own_sockets: rng.bool(),
            steers: rng.bool(),
            replaces: rng.bool(),
        };
        let mut world = Self {
            rng,
            state: State::new(settings),
            now: Instant::now(),
            events: 0,
            may_fail: false,
            processes: BTreeMap::new(),
            lines: Vec::new(),
            has_successor: false,
        };
        world.take(Event::Begin);
        world.settle();
        world.may_fail = true;
        world
    }

    pub(super) fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Start { worker, inherits, .. } => {
                if self.may_fail && self.rng.u8(0..20) == 0 {
                    return Some(Event::StartFailed(worker, "no memory".into()));
                }
                let line = inherits.then(|| self.line());
                let holds = self.state.worker(worker).unwrap().sockets.clone();
                let process = Process {
                    is_alive: true,
                    is_stalled: false,
                    serves: false,
                    line,
                    holds,
                    orders: VecDeque::new(),
                    said: VecDeque::new(),
                };
                self.processes.insert(worker, process);
                return Some(Event::Started(worker, None));
            }
            Action::Give { giver, taker, all } => {
                let line = self.processes[&taker].line.expect("it waits for one");
                self.tell(giver, Order::Give { line, all });
            }
            Action::Adopt { giver, heir } => {
                let line = self.line();
                self.tell(giver, Order::Give { line, all: true });
                self.tell(heir, Order::Adopt { line });
            }
            Action::Release(giver) => {
                self.assert_held_by_another(giver, 1);
                self.tell(giver, Order::Release);
            }
            Action::Drain(worker) => {
                if !self.state.ending {
                    self.assert_held_by_another(worker, usize::MAX);
                }
                self.tell(worker, Order::Drain);
            }
            Action::Kill(worker) => self.kill(worker),
            Action::StartSuccessor(givers) => {
                assert!(!self.has_successor);
                if self.may_fail && self.rng.u8(0..4) == 0 {
                    return Some(Event::NotSucceeded("no memory".into()));
                }
                assert_eq!(givers.len(), self.state.wanted);
                self.has_successor = true;
                for giver in givers {
                    let line = self.line();
                    self.tell(giver, Order::Give { line, all: true });
                }
            }
            // It ends when it has answered its requests.
            Action::EndSuccessor | Action::KillSuccessor => assert!(self.has_successor),
            Action::Abort(worker, why) => panic!("given up over {worker:?}: {why}"),
            _ => {}
        }
        None
    }

    /// A socket that a worker is told to close must be held by another worker that lives as far as the parent knows.
    pub(super) fn assert_held_by_another(&self, worker: Generation, last: usize) {
        let Some(closing) = self.processes.get(&worker) else { return };
        for socket in closing.holds.iter().rev().take(last) {
            let has = |(&other, process): (&Generation, &Process)| {
                let stays = self.state.worker(other).is_some_and(|it| !it.is_killed());
                other != worker && stays && process.holds.contains(socket)
            };
            assert!(
                self.processes.iter().any(has),
                "{worker:?} closes {socket:?}: {:?}",
                self.state
            );
        }
    }

    pub(super) fn line(&mut self) -> usize {
        self.lines.push(Line::default());
        self.lines.len() - 1
    }

    pub(super) fn tell(&mut self, worker: Generation, order: Order) {
        match self.processes.get_mut(&worker).filter(|process| process.is_alive) {
            Some(process) => {
                // A worker that waits for sockets takes any order for the end of the server.
                let waits = process.orders.iter().any(|it| matches!(it, Order::Adopt { .. }));
                let is_end = matches!(order, Order::Drain);
                assert!(is_end || process.serves && !waits, "{worker:?} waits for sockets");
                process.orders.push_back(order);
            }
            None => self.close(order),
        }
    }

    pub(super) fn close(&mut self, order: Order) {
        if let Order::Give { line, .. } = order {
            self.lines[line].is_closed = true;
        }
    }

    pub(super) fn kill(&mut self, worker: Generation) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        process.is_alive = false;
        for order in std::mem::take(&mut process.orders) {
            self.close(order);
        }
    }

    /// A worker does the next thing that it can do.
    pub(super) fn work(&mut self, worker: Generation) {
        let gives_up = self.may_fail && self.rng.u8(0..8) == 0; // it has waited too long
        let Some(process) = self.processes.get_mut(&worker) else { return };
        if !process.is_alive || process.is_stalled {
            return;
        }
        if !process.serves {
            match process.line.map(|line| &mut self.lines[line]) {
                None => {}
                Some(Line { sent: Some(sockets), .. }) => process.holds.clone_from(sockets),
                Some(line) if line.is_closed || gives_up => {
                    line.is_closed = true;
                    return self.kill(worker);
                }
                Some(_) => return,
            }
            process.serves = true;
            process.said.push_back(Event::Ready(worker));
            return;
        }
        match process.orders.pop_front() {
            None => {}
            Some(Order::Give { line, all }) => {
                let sent = if all {
                    &process.holds[..]
                } else {
                    &process.holds[process.holds.len() - 1..]
                };
                if !self.lines[line].is_closed {
                    self.lines[line].sent = Some(sent.to_vec());
                }
            }
            Some(Order::Release) => _ = process.holds.pop(),
            Some(Order::Adopt { line }) => match &mut self.lines[line] {
                Line { sent: Some(sockets), .. } => {
                    process.holds.extend_from_slice(sockets);
                    process.said.push_back(Event::Adopted(worker));
                }
                it if it.is_closed || gives_up => {
                    it.is_closed = true;
                    process.said.push_back(Event::NotAdopted(worker, "silence".into()));
                }
                _ => process.orders.push_front(Order::Adopt { line }),
            },
            Some(Order::Drain) => {
                process.holds.clear();
                if !self.may_fail || self.rng.bool() {
                    self.kill(worker); // other workers have clients that do not end
                }
            }
        }
    }

    /// The parent reads one message of a worker, or notices its end. It may read the messages of a dead worker
    /// before, or never.
    pub(super) fn read(&mut self, worker: Generation) {
        let gone = self.rng.bool();
        let Some(process) = self.processes.get_mut(&worker) else { return };
        match process.said.pop_front() {
            Some(event) if process.is_alive || !gone => self.take(event),
            _ if process.is_alive => {}
            _ if gone => {
                self.processes.remove(&worker);
                self.take(Event::Exited(worker, Exit::Done));
            }
            _ => self.take(Event::Closed(worker)),
        }
    }

    pub(super) fn fail_successor(&mut self) {
        if std::mem::take(&mut self.has_successor) {
            self.take(Event::NotSucceeded("it exited".into()));
        }
    }

    pub(super) fn any(&mut self) -> Option<Generation> {
        let all: Vec<Generation> = self.processes.keys().copied().collect();
        self.rng.choice(all)
    }
}
