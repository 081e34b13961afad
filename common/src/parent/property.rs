//! Random sequences of events against a world of simulated workers: whatever happens, in whatever order
//! and however late, some things must hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::state::{
    Action, Event, Generation, Settings, Socket, State, Succession, Worker, WorkerState,
};
use super::step::step;

const DRAIN: Duration = Duration::from_secs(10);

/// A line over which a worker sends sockets to another.
#[derive(Default)]
struct Line {
    sent: Option<Vec<Socket>>,
    /// The giver's end is closed, or the taker has stopped waiting.
    is_closed: bool,
}

#[derive(Clone, Copy)]
enum Order {
    Give { line: usize, all: bool },
    Release,
    Adopt { line: usize },
    Drain,
}

/// A simulated worker.
struct Process {
    is_alive: bool,
    is_stalled: bool,
    serves: bool,
    /// The line that it waits for before it can serve.
    line: Option<usize>,
    holds: Vec<Socket>,
    orders: VecDeque<Order>,
    /// Messages that the parent has not read yet.
    said: VecDeque<Event>,
}

struct World {
    rng: Rng,
    state: State,
    now: Instant,
    events: usize,
    may_fail: bool,
    processes: BTreeMap<Generation, Process>,
    lines: Vec<Line>,
    /// Whether another server is being started. Here it never serves: that would be the end.
    has_successor: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let settings = Settings {
            workers: rng.usize(1..6),
            drain_timeout: DRAIN,
            hang_timeout: Duration::from_secs([0, 30][rng.usize(0..2)]),
            own_sockets: rng.bool(),
            steers: rng.bool(),
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

    /// As the driver does: one event, and all that follows from it.
    fn take(&mut self, event: Event) {
        self.events += 1;
        let was_time = matches!(event, Event::Time(_));
        let mut actions = VecDeque::from(step(&mut self.state, event, self.now));
        let mut count = 0;
        while let Some(action) = actions.pop_front() {
            count += 1;
            assert!(count < 1000, "it orders something for ever: {action:?}");
            if let Some(event) = self.carry_out(action) {
                actions.extend(step(&mut self.state, event, self.now));
            }
        }
        if was_time {
            let deadline = self.state.deadline();
            assert!(deadline.is_none_or(|time| time > self.now), "it would spin: {:?}", self.state);
        }
        self.check();
    }

    fn check(&self) {
        let state = &self.state;
        let staying = state.count(Worker::stays);
        if !state.ending && staying < state.wanted {
            assert!(state.backoff.not_before(self.now).is_some(), "nobody is started: {state:?}");
            assert!(state.deadline().is_some(), "and nobody will be: {state:?}");
        }
        let mut owned = BTreeSet::new();
        for worker in &state.workers {
            for socket in &worker.sockets {
                assert!(owned.insert(socket), "two have {socket:?}: {state:?}");
            }
            if let WorkerState::Draining { until } = worker.state {
                assert!(until.is_some_and(|until| until <= self.now + DRAIN), "{state:?}");
            }
        }
        let replaced: Vec<_> = state.workers.iter().filter_map(|it| it.replaces).collect();
        assert!(replaced.len() <= 1, "one at a time: {state:?}");
        for worker in state.workers.iter().filter(|it| replaced.contains(&it.generation)) {
            let is_left_alone = !matches!(worker.state, WorkerState::GivingAway { .. })
                && worker.adopting.is_none();
            assert!(is_left_alone, "chosen while it is replaced: {state:?}");
            assert!(state.ending || worker.state != WorkerState::Starting, "{state:?}");
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
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
            Action::EndSuccessor => self.has_successor = false,
            Action::Abort(worker, why) => panic!("given up over {worker}: {why}"),
            _ => {}
        }
        None
    }

    /// What a worker is told to close, somebody else must have, who lives for all the parent knows.
    fn assert_held_by_another(&self, worker: Generation, last: usize) {
        let Some(closing) = self.processes.get(&worker) else { return };
        for socket in closing.holds.iter().rev().take(last) {
            let has = |(&other, process): (&Generation, &Process)| {
                other != worker && process.holds.contains(socket)
            };
            assert!(self.processes.iter().any(has), "{worker} closes {socket:?}: {:?}", self.state);
        }
    }

    fn line(&mut self) -> usize {
        self.lines.push(Line::default());
        self.lines.len() - 1
    }

    fn tell(&mut self, worker: Generation, order: Order) {
        match self.processes.get_mut(&worker).filter(|process| process.is_alive) {
            Some(process) => process.orders.push_back(order),
            None => self.close(order),
        }
    }

    fn close(&mut self, order: Order) {
        if let Order::Give { line, .. } = order {
            self.lines[line].is_closed = true;
        }
    }

    fn kill(&mut self, worker: Generation) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        process.is_alive = false;
        for order in std::mem::take(&mut process.orders) {
            self.close(order);
        }
    }

    /// A worker does the next thing that it can do.
    fn work(&mut self, worker: Generation) {
        let gives_up = self.may_fail && self.rng.u8(0..8) == 0; // it has waited for too long
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
                    self.kill(worker); // the others have clients that do not end
                }
            }
        }
    }

    /// The parent reads one message of a worker, or that it has ended. What a dead worker had said may or
    /// may not be read before.
    fn read(&mut self, worker: Generation) {
        let gone = self.rng.bool();
        let Some(process) = self.processes.get_mut(&worker) else { return };
        match process.said.pop_front() {
            Some(event) if process.is_alive || !gone => self.take(event),
            _ if process.is_alive => {}
            _ if gone => {
                self.processes.remove(&worker);
                self.take(Event::Exited(worker, "has ended".into()));
            }
            _ => self.take(Event::Closed(worker)),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.state.deadline().is_some_and(|deadline| deadline <= self.now) {
            let silence = |stalled| if stalled { Duration::MAX } else { Duration::ZERO };
            let all = self.processes.iter();
            let silences = all.map(|(&it, process)| (it, Some(silence(process.is_stalled))));
            self.take(Event::Time(silences.collect()));
        }
    }

    fn fail_successor(&mut self) {
        if std::mem::take(&mut self.has_successor) {
            self.take(Event::NotSucceeded("it exited".into()));
        }
    }

    fn any(&mut self) -> Option<Generation> {
        let all: Vec<Generation> = self.processes.keys().copied().collect();
        self.rng.choice(all)
    }

    /// Something happens.
    fn happen(&mut self) {
        let Some(worker) = self.any() else { return self.pass(Duration::from_millis(100)) };
        match self.rng.u8(0..100) {
            0..40 => self.work(worker),
            40..75 => self.read(worker),
            75..85 => {
                let time = Duration::from_millis(self.rng.u64(0..500));
                self.pass(time);
            }
            85 if self.rng.bool() => self.fail_successor(),
            85..88 => self.kill(worker),
            88..91 => {
                let process = self.processes.get_mut(&worker).unwrap();
                process.is_stalled = !process.is_stalled;
            }
            91..93 => self.take(Event::Reload),
            93 => self.take(Event::Succeed),
            94..97 if self.state.wanted < 8 => self.take(Event::More),
            94..98 => self.take(Event::Fewer),
            98 => self.take(Event::Terminated(worker)),
            _ => {
                self.take(Event::Unusable(worker));
            }
        }
    }

    /// Nothing goes wrong any more, and everybody does what is to be done.
    fn settle(&mut self) {
        self.may_fail = false;
        for _ in 0..600 {
            let all: Vec<Generation> = self.processes.keys().copied().collect();
            for worker in all {
                self.processes.get_mut(&worker).unwrap().is_stalled = false;
                self.work(worker);
                self.read(worker);
            }
            self.pass(Duration::from_millis(100));
            self.fail_successor();
            let state = &self.state;
            let is_at_rest = state.serving().count() == state.wanted
                && !state.reloading
                && state.to_replace.is_empty()
                && state.succession == Succession::None
                && state.count(|worker| worker.terminated.is_some()) == 0;
            let is_idle = |it: &Process| it.is_alive && it.orders.is_empty() && it.said.is_empty();
            let all_idle = self.processes.values().all(is_idle);
            if is_at_rest && all_idle && state.workers.len() == state.wanted {
                return;
            }
        }
    }

    /// As many workers as wanted serve, nothing is under way, and each has the sockets that the parent
    /// thinks it has.
    fn assert_settled(&self) {
        let state = &self.state;
        assert_eq!(state.serving().count(), state.wanted, "{state:?}");
        assert_eq!(state.workers.len(), state.wanted, "{state:?}");
        assert!(!state.reloading && state.to_replace.is_empty(), "{state:?}");
        let mut all: Vec<Socket> = Vec::new();
        for worker in &state.workers {
            let process = &self.processes[&worker.generation];
            assert!(process.is_alive && process.serves, "{state:?}");
            assert_eq!(process.holds, worker.sockets, "{state:?}");
            all.extend(&worker.sockets);
        }
        if state.settings.own_sockets {
            assert!(state.workers.iter().all(|worker| !worker.sockets.is_empty()), "{state:?}");
            assert_eq!(all.len(), state.sockets(), "{state:?}");
        }
    }
}

/// Ten thousand events each.
#[test]
fn whatever_happens_the_server_comes_to_rest_as_it_should_be_and_ends_when_told() {
    for seed in 0..8 {
        let mut world = World::new(seed);
        world.assert_settled();
        while world.events < 10_000 {
            world.may_fail = true;
            let until = world.events + 500;
            for round in 0.. {
                world.happen();
                assert!(round < 50_000, "seed {seed}: nothing happens any more: {:?}", world.state);
                if world.events >= until {
                    break;
                }
            }
            world.settle();
            world.assert_settled();
        }
        world.may_fail = true;
        (0..world.rng.usize(0..300)).for_each(|_| world.happen());
        let stop = [Event::Stop, Event::StopNow][world.rng.usize(0..2)].clone();
        world.take(stop);
        let end = world.now + DRAIN;
        while world.now <= end && !world.processes.is_empty() {
            world.happen();
            world.pass(Duration::from_millis(1));
        }
        while let Some(left) = world.any().filter(|it| !world.processes[it].is_alive) {
            world.read(left);
        }
        assert!(world.state.is_over(), "seed {seed}: somebody is left: {:?}", world.state);
    }
}
