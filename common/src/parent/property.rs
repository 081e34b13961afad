//! Random sequences of events against a world of simulated workers: in any order, and however late events
//! come, the invariants must hold.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::state::{Event, Generation, Socket, Succession, Worker, WorkerState};
use super::step::step;
use super::world::{DRAIN, Process, World};

impl World {
    /// Handles one event and all that follows from it, as the driver does.
    pub(super) fn take(&mut self, event: Event) {
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
        assert!(!state.is_over() || !self.has_successor, "it is left behind: {state:?}");
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

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.state.deadline().is_some_and(|deadline| deadline <= self.now) {
            let silence = |stalled| if stalled { Duration::MAX } else { Duration::ZERO };
            let all = self.processes.iter();
            let silences = all.map(|(&it, process)| (it, Some(silence(process.is_stalled))));
            self.take(Event::Time(silences.collect()));
        }
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

    /// From now on nothing goes wrong, and every worker does what it was told.
    pub(super) fn settle(&mut self) {
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

    /// As many workers as wanted serve, nothing is under way, and each worker has the sockets that it has in the
    /// parent's state.
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
        world.fail_successor();
        assert!(world.state.is_over(), "seed {seed}: somebody is left: {:?}", world.state);
    }
}
