//! One test for each row of the table in [`step`](super::step); the rows about a new server are in
//! `succession_table`.

use std::time::{Duration, Instant};

use super::exit::Exit;
use super::state::{Action, Event, Generation, Note, Settings, State, WorkerState};
use super::step::step;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Parent {
    pub(super) state: State,
    pub(super) now: Instant,
}

pub(super) fn settings(workers: usize, own_sockets: bool) -> Settings {
    Settings {
        workers,
        drain_timeout: 10 * SECOND,
        hang_timeout: 30 * SECOND,
        own_sockets,
        steers: own_sockets,
        replaces: false,
    }
}

impl Parent {
    /// A parent whose workers, numbered from 1, start.
    pub(super) fn starting(workers: usize, own_sockets: bool) -> Self {
        let state = State::new(settings(workers, own_sockets));
        let mut parent = Self { state, now: Instant::now() };
        parent.take(Event::Begin);
        parent
    }

    /// A parent whose workers all serve.
    pub(super) fn serving(workers: usize, own_sockets: bool) -> Self {
        let mut parent = Self::starting(workers, own_sockets);
        (1..=workers as u64).for_each(|worker| parent.starts(worker));
        parent
    }

    pub(super) fn take(&mut self, event: Event) -> Vec<Action> {
        step(&mut self.state, event, self.now)
    }

    pub(super) fn starts(&mut self, worker: u64) {
        self.take(Event::Started(Generation(worker), None));
        self.take(Event::Ready(Generation(worker)));
    }

    pub(super) fn dies(&mut self, worker: u64) -> Vec<Action> {
        let state = self.state.worker(Generation(worker)).map(|worker| worker.state);
        let exit = match state {
            Some(WorkerState::Draining { .. }) => Exit::Done,
            Some(WorkerState::Killed) => Exit::Killed,
            _ => Exit::Failed("died".into()),
        };
        self.take(Event::Exited(Generation(worker), exit))
    }

    pub(super) fn passes(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.take(Event::Time(Vec::new()))
    }

    pub(super) fn wanted(&self) -> (usize, usize) {
        (self.state.wanted, self.state.serving().count())
    }
}

pub(super) const W: fn(u64) -> Generation = Generation;

pub(super) fn start(worker: u64, inherits: bool, lane: Option<usize>) -> Action {
    Action::Start { worker: W(worker), inherits, lane }
}

fn died(worker: u64, pause: Option<Duration>) -> Action {
    Action::Note(Note::Died(W(worker), "died".into(), pause))
}

#[test]
fn at_the_beginning_all_are_started_and_when_all_serve_that_is_announced() {
    let mut parent = Parent { state: State::new(settings(2, false)), now: Instant::now() };
    assert_eq!(parent.take(Event::Begin), [start(1, false, None), start(2, false, None)]);
    assert_eq!(parent.take(Event::Ready(W(2))), []);
    assert_eq!(parent.take(Event::Ready(W(1))), [Action::Announce]);
}

#[test]
fn a_worker_that_cannot_serve_at_the_first_start_is_given_up_over() {
    for event in
        [Event::Exited(W(1), Exit::Failed("no".into())), Event::StartFailed(W(1), "no".into())]
    {
        let mut parent = Parent { state: State::new(settings(1, true)), now: Instant::now() };
        parent.take(Event::Begin);
        let actions = parent.take(event);
        assert!(actions.contains(&Action::Abort(W(1), "no".into())), "{actions:?}");
    }
}

#[test]
fn a_reload_replaces_one_worker_after_the_other() {
    let mut parent = Parent::serving(2, false);
    let actions = parent.take(Event::Reload);
    assert_eq!(actions, [Action::Note(Note::Reloading), start(3, false, None)]);
    assert_eq!(parent.take(Event::Started(W(3), None)), [], "nobody is asked for anything");
    assert_eq!(parent.take(Event::Ready(W(3))), [Action::Drain(W(1)), start(4, false, None)]);
    let done = Action::Note(Note::Reloaded(vec![W(3), W(4)]));
    assert_eq!(parent.take(Event::Ready(W(4))), [Action::Drain(W(2)), done]);
    assert_eq!(parent.dies(1), [], "as it was told to");
}

#[test]
fn a_successor_gets_sockets_and_lane_and_they_are_asked_for_only_when_it_runs() {
    let mut parent = Parent::serving(2, true);
    let actions = parent.take(Event::Reload);
    assert_eq!(actions[1..], [start(3, true, Some(1))]);
    let give = Action::Give { giver: W(1), taker: W(3), all: true };
    assert_eq!(parent.take(Event::Started(W(3), None)), [give]);
    assert_eq!(parent.take(Event::Socket(W(3))), [], "it is entered already");
    let actions = parent.take(Event::Ready(W(3)));
    assert_eq!(actions[..2], [Action::OpenLane(W(3)), Action::Drain(W(1))]);
    assert_eq!(parent.dies(1), [], "the lane is another's now");
}

#[test]
fn what_an_heir_says_that_was_killed_does_not_end_the_giver() {
    let mut parent = Parent::serving(2, true);
    let actions = parent.take(Event::Fewer);
    let Some(&Action::Adopt { giver, heir }) =
        actions.iter().find(|it| matches!(it, Action::Adopt { .. }))
    else {
        panic!("{actions:?}")
    };
    assert!(parent.take(Event::Unusable(heir)).contains(&Action::Kill(heir)));
    assert!(
        !parent.take(Event::Adopted(heir)).contains(&Action::Drain(giver)),
        "what it has dies with it"
    );
    parent.dies(heir.0);
    assert!(parent.state.serving().any(|serving| serving == giver));
}

#[test]
fn nobody_else_ends_when_a_successor_serves_whose_predecessor_was_killed() {
    for own_sockets in [false, true] {
        let mut parent = Parent::serving(2, own_sockets);
        parent.take(Event::Reload);
        parent.take(Event::Started(W(3), None));
        parent.take(Event::Unusable(W(1)));
        let mut actions = parent.take(Event::Ready(W(3)));
        actions.extend(parent.dies(1));
        assert!(!actions.contains(&Action::Drain(W(3))), "{actions:?}");
        let starts = |it: &&Action| matches!(it, Action::Start { .. });
        assert!(actions.iter().filter(starts).count() <= 1, "the reload's next: {actions:?}");
    }
}

#[test]
fn a_start_that_fails_in_a_reload_leaves_the_old_worker_as_it_was() {
    let mut parent = Parent::serving(2, true);
    parent.take(Event::Reload);
    let actions = parent.take(Event::StartFailed(W(3), "no memory".into()));
    assert_eq!(actions, [Action::Note(Note::ReloadGivenUp(W(1), W(3), "no memory".into()))]);
    assert_eq!(parent.wanted(), (2, 2));
}

#[test]
fn a_successor_that_dies_has_the_reload_given_up() {
    let mut parent = Parent::serving(2, true);
    parent.take(Event::Reload);
    parent.take(Event::Started(W(3), None));
    let given_up = Action::Note(Note::ReloadGivenUp(W(1), W(3), "died".into()));
    assert_eq!(parent.dies(3), [given_up]);
    assert_eq!(parent.take(Event::Reload)[1..], [start(4, true, Some(1))], "the next may succeed");
}

#[test]
fn a_worker_that_dies_while_its_successor_starts_is_replaced_by_that_one() {
    let mut parent = Parent::serving(2, true);
    parent.take(Event::Reload);
    parent.take(Event::Started(W(3), None));
    // The reload goes on with the other worker; no further worker is started for the dead one.
    assert_eq!(parent.dies(1), [died(1, None), start(4, true, Some(2))]);
    let actions = parent.take(Event::Ready(W(3)));
    assert_eq!(actions, [Action::OpenLane(W(3))], "nobody is drained for it");
}

#[test]
fn one_fewer_in_a_reload_is_not_the_one_that_is_being_replaced() {
    let mut parent = Parent::serving(2, true);
    parent.take(Event::Reload);
    parent.take(Event::Started(W(3), None));
    let actions = parent.take(Event::Fewer);
    assert_eq!(actions, [Action::Note(Note::Wanted(1, 2))], "the other one has no heir");
    let actions = parent.take(Event::Ready(W(3)));
    let adopt = Action::Adopt { giver: W(3), heir: W(2) };
    assert_eq!(actions[..3], [Action::OpenLane(W(3)), Action::Drain(W(1)), adopt]);
}

#[test]
fn one_fewer_gives_its_sockets_away_and_drains_when_they_are_adopted() {
    let mut parent = Parent::serving(3, true);
    let actions = parent.take(Event::Fewer);
    assert_eq!(actions[1..], [Action::Adopt { giver: W(3), heir: W(1) }]);
    let actions = parent.take(Event::Adopted(W(1)));
    assert_eq!(actions, [Action::LeaveLane(3), Action::CloseLane(3), Action::Drain(W(3))]);
    // The next worker gets one of the two sockets, which its giver closes when that worker serves.
    assert_eq!(parent.take(Event::More)[1..], [start(4, true, Some(3))]);
    let give = Action::Give { giver: W(1), taker: W(4), all: false };
    assert_eq!(parent.take(Event::Started(W(4), None)), [give]);
    let steer = Action::Steer { worker: W(4), sockets: 3 };
    assert_eq!(parent.take(Event::Socket(W(4))), [steer, Action::OpenLane(W(4))]);
    assert_eq!(parent.take(Event::Ready(W(4))), [Action::Release(W(1))]);
}

#[test]
fn a_worker_whose_sockets_could_not_be_adopted_serves_on_and_is_not_asked_again_at_once() {
    let mut parent = Parent::serving(3, true);
    parent.take(Event::Fewer);
    let actions = parent.take(Event::NotAdopted(W(1), "silence".into()));
    assert_eq!(actions, [Action::Note(Note::NotAdopted(W(3), W(1), "silence".into()))]);
    assert_eq!(parent.state.serving().count(), 3);
    assert_eq!(parent.take(Event::Reload)[1..], [start(4, true, Some(1))], "reloads go on");
    parent.take(Event::StartFailed(W(4), "no".into()));
    let actions = parent.passes(5 * SECOND);
    assert_eq!(actions, [Action::Adopt { giver: W(3), heir: W(1) }]);
    assert_eq!(parent.take(Event::Adopted(W(2))), [], "nobody has asked it");
}

#[test]
fn an_heir_that_dies_leaves_the_sockets_where_they_are() {
    let mut parent = Parent::serving(3, true);
    parent.take(Event::Fewer);
    assert_eq!(parent.dies(1), [Action::CloseLane(1), died(1, None)]);
    assert_eq!(parent.wanted(), (2, 2), "it was one too many");
}

#[test]
fn a_worker_that_dies_is_replaced_at_once_and_after_too_many_young_deaths_later() {
    let mut parent = Parent::serving(2, false);
    parent.now += SECOND;
    for worker in 2..20 {
        assert_eq!(parent.dies(worker), [died(worker, None), start(worker + 1, false, None)]);
        parent.starts(worker + 1);
        parent.now += SECOND;
    }
    parent.now += 10 * SECOND;
    parent.dies(20); // full-grown
    for worker in 21..26 {
        parent.starts(worker);
        assert_eq!(parent.dies(worker), [died(worker, None), start(worker + 1, false, None)]);
    }
    parent.starts(26);
    assert_eq!(parent.dies(26), [died(26, Some(SECOND / 10))]);
    let next = parent.state.backoff.not_before(parent.now);
    assert_eq!(next, Some(parent.now + SECOND / 10));
    assert_eq!(parent.passes(SECOND / 10), [start(27, false, None)]);
}

#[test]
fn what_makes_no_sense_costs_one_worker_and_nothing_else() {
    let mut parent = Parent::serving(2, true);
    assert_eq!(parent.take(Event::Unusable(W(2))), [Action::Kill(W(2))]);
    assert_eq!(parent.take(Event::Unusable(W(2))), [], "once");
    let actions = parent.dies(2);
    assert_eq!(actions, [Action::CloseLane(2), died(2, None), start(3, false, Some(2))]);
}

#[test]
fn a_worker_that_closes_its_channel_and_does_not_exit_is_killed() {
    let mut parent = Parent::serving(1, false);
    assert_eq!(parent.take(Event::Closed(W(1))), []);
    assert_eq!(parent.state.deadline(), Some(parent.now + SECOND));
    assert_eq!(parent.passes(SECOND), [Action::Kill(W(1))]);
}

#[test]
fn a_worker_that_alone_is_sent_sigterm_is_replaced_after_100_ms() {
    let mut parent = Parent::serving(2, true);
    assert_eq!(parent.take(Event::Terminated(W(2))), [], "the parent may be told to end, too");
    assert_eq!(parent.state.deadline(), Some(parent.now + SECOND / 10));
    let said = Action::Note(Note::Terminated(W(2)));
    assert_eq!(parent.passes(SECOND / 10), [said, start(3, true, Some(2))]);
    let give = Action::Give { giver: W(2), taker: W(3), all: true };
    assert_eq!(parent.take(Event::Started(W(3), None)), [give]);
    parent.take(Event::Terminated(W(2)));
    let said = Action::Note(Note::Terminated(W(2)));
    assert_eq!(parent.passes(SECOND / 10), [said], "once more, and it is on its way");
    let actions = parent.take(Event::Ready(W(3)));
    assert_eq!(actions, [Action::OpenLane(W(3)), Action::Drain(W(2))], "no reload has ended");
    assert_eq!(parent.dies(2), []);
    assert_eq!(parent.wanted(), (2, 2));
}

#[test]
fn a_sigterm_to_everybody_is_an_ordinary_stop_whoever_hears_of_it_first() {
    for first in [Event::Stop, Event::Terminated(W(1))] {
        let mut parent = Parent::serving(2, false);
        let drained = [Action::StopListening, Action::Drain(W(1)), Action::Drain(W(2))];
        let actions = parent.take(first);
        assert!(actions.is_empty() || actions == drained);
        parent.take(Event::Terminated(W(2)));
        if actions.is_empty() {
            assert_eq!(parent.take(Event::Stop), drained);
        }
        parent.take(Event::Terminated(W(1)));
        assert_eq!(parent.passes(SECOND / 10), [], "nobody is replaced");
        parent.dies(1);
        parent.dies(2);
        assert!(parent.state.is_over());
    }
}

#[test]
fn a_worker_that_is_sent_sigterm_stays_if_it_cannot_be_replaced() {
    let mut parent = Parent::serving(2, false);
    parent.take(Event::Terminated(W(1)));
    parent.passes(SECOND / 10);
    let actions = parent.take(Event::StartFailed(W(3), "no memory".into()));
    assert_eq!(actions, [Action::Note(Note::NotReplaced(W(1), W(3), "no memory".into()))]);
    assert_eq!(parent.wanted(), (2, 2));
    let mut parent = Parent::serving(2, false);
    parent.take(Event::Reload);
    parent.take(Event::Terminated(W(2)));
    assert_eq!(parent.passes(SECOND / 10), [], "it has its turn in the reload");
}

#[test]
fn sigterm_drains_everybody_and_the_second_one_kills() {
    let mut parent = Parent::serving(2, true);
    let actions = parent.take(Event::Stop);
    assert_eq!(actions, [Action::StopListening, Action::Drain(W(1)), Action::Drain(W(2))]);
    assert_eq!(parent.dies(1), [Action::CloseLane(1)]);
    for event in [Event::Reload, Event::More, Event::Fewer, Event::Succeed] {
        assert_eq!(parent.take(event), [Action::Note(Note::RefusedAtEnd)]);
    }
    assert_eq!(parent.take(Event::Stop), [Action::Kill(W(2))]);
    parent.dies(2);
    assert!(parent.state.is_over());
}

#[test]
fn a_drain_ends_by_its_deadline_and_one_that_is_beyond_all_time_ends_by_itself() {
    let mut parent = Parent::serving(1, false);
    parent.take(Event::Stop);
    let over = Action::Note(Note::DrainIsOver(W(1)));
    assert_eq!(parent.passes(10 * SECOND), [over, Action::Kill(W(1))]);

    let mut parent = Parent::serving(1, false);
    parent.state.settings.drain_timeout = Duration::MAX;
    parent.take(Event::Stop);
    assert_eq!(parent.state.deadline(), None);
}

#[test]
fn an_event_loop_that_stands_still_is_seen_to_do_so_twice_before_its_worker_is_killed() {
    let mut parent = Parent::serving(2, false);
    let mut look = |silence: u64| {
        parent.now += SECOND;
        parent.take(Event::Time(vec![(W(1), Some(Duration::from_secs(silence))), (W(2), None)]))
    };
    assert_eq!(look(30), []);
    assert_eq!(look(31), []);
    assert_eq!(look(0), [], "it was the whole machine that stood still");
    assert_eq!(look(31), []);
    assert_eq!(look(32), [Action::Note(Note::Hangs(W(1))), Action::Kill(W(1))]);
    assert_eq!(look(33), [], "once");
}

#[test]
fn a_line_says_what_is_going_on() {
    let mut parent = Parent::serving(2, false);
    assert_eq!(parent.state.status(), "2 workers serve");
    parent.dies(1);
    assert_eq!(parent.state.status(), "1 of 2 workers serve");
    parent.starts(3);
    parent.take(Event::Reload);
    assert_eq!(parent.state.status(), "reloading: 2 of 2 workers to be replaced");
    parent.starts(4);
    assert_eq!(parent.state.status(), "reloading: 1 of 2 workers to be replaced");
    parent.starts(5);
    assert_eq!(parent.state.status(), "2 workers serve");
    parent.take(Event::Fewer);
    assert_eq!(parent.state.status(), "1 worker serves");
    parent.take(Event::Stop);
    assert_eq!(parent.state.status(), "ending: open requests are answered");
}
