//! One test for each row of the table in [`step`](super::step) about a new server that replaces this one.

use std::time::Instant;

use super::state::{Action, Event, Note, Settings, State};
use super::table::{Parent, SECOND, W, settings, start};
use crate::cli::options::MOST_WORKERS;

const SUCCEEDING: Action = Action::Note(Note::Succeeding);

fn not_succeeded(why: &str) -> Action {
    Action::Note(Note::NotSucceeded(why.into()))
}

#[test]
fn sigusr2_starts_another_server_and_this_one_ends_when_that_one_serves() {
    let mut parent = Parent::serving(2, true);
    let actions = parent.take(Event::Succeed);
    assert_eq!(actions, [SUCCEEDING, Action::StartSuccessor(vec![W(1), W(2)])]);
    assert_eq!(parent.take(Event::Succeed), [], "one at a time");
    let refused = Action::Note(Note::RefusedMeanwhile);
    for event in [Event::More, Event::Fewer] {
        assert_eq!(parent.take(event), std::slice::from_ref(&refused));
    }
    let not_reloaded = Action::Note(Note::ReloadRefused);
    assert_eq!(parent.take(Event::Reload), [not_reloaded], "and somebody may wait for its end");
    let drained = [Action::StopListening, Action::Drain(W(1)), Action::Drain(W(2))];
    let actions = parent.take(Event::Succeeded);
    assert_eq!(actions[0], Action::NameSuccessor);
    assert_eq!(actions[1..], drained);
    parent.dies(1);
    parent.dies(2);
    assert!(parent.state.is_over());
}

#[test]
fn sigusr2_waits_until_a_reload_is_over() {
    let mut parent = Parent::serving(2, true);
    parent.take(Event::Reload);
    assert_eq!(parent.take(Event::Succeed), []);
    parent.starts(3);
    parent.take(Event::Started(W(4), None));
    let actions = parent.take(Event::Ready(W(4)));
    let [.., succeeding, start] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(*succeeding, SUCCEEDING);
    assert_eq!(*start, Action::StartSuccessor(vec![W(3), W(4)]));
}

#[test]
fn a_server_whose_successor_does_not_come_up_goes_on() {
    let mut parent = Parent::serving(2, false);
    parent.take(Event::Succeed);
    assert_eq!(parent.take(Event::NotSucceeded("exit".into())), [not_succeeded("exit")]);
    assert_eq!(parent.take(Event::Succeeded), [], "too late");
    assert_eq!(parent.take(Event::Succeed).len(), 2, "the next may come up");
    let actions = parent.passes(60 * SECOND);
    assert_eq!(actions, [Action::EndSuccessor, not_succeeded("it did not serve within 60s")]);
    let refused = Action::Note(Note::RefusedMeanwhile);
    assert_eq!(parent.take(Event::Succeed), [refused], "the other lives still");
    assert_eq!(parent.take(Event::NotSucceeded("killed".into())), [], "that is known");
    assert_eq!(parent.wanted(), (2, 2));
    assert_eq!(parent.take(Event::Succeed).len(), 2, "the next may come up");
}

#[test]
fn a_worker_that_dies_meanwhile_is_replaced_and_sigterm_ends_both_servers() {
    let mut parent = Parent::serving(2, false);
    parent.take(Event::Succeed);
    assert_eq!(parent.dies(1)[1..], [start(3, false, None)]);
    let actions = parent.take(Event::Stop);
    assert_eq!(actions[..2], [Action::EndSuccessor, Action::StopListening]);
    assert_eq!(parent.take(Event::Succeeded), [], "it ends");
    (1..=3).for_each(|worker| _ = parent.dies(worker));
    assert!(!parent.state.is_over(), "the other may have accepted something, which it answers");
    parent.take(Event::NotSucceeded("exit".into()));
    assert!(parent.state.is_over());
}

#[test]
fn a_server_that_was_to_succeed_is_killed_when_its_drain_is_over_or_with_this_one() {
    let ending = || {
        let mut parent = Parent::serving(1, false);
        parent.take(Event::Succeed);
        parent.take(Event::Stop);
        parent.dies(1);
        parent
    };
    let mut parent = ending();
    assert_eq!(parent.passes(10 * SECOND), [], "it kills what drains so long, and exits");
    let over = Action::Note(Note::SuccessorsDrainIsOver);
    assert_eq!(parent.passes(SECOND), [over, Action::KillSuccessor]);
    assert_eq!(parent.state.deadline(), None);
    for event in [Event::Stop, Event::StopNow] {
        let mut parent = ending();
        assert_eq!(parent.take(event), [Action::KillSuccessor]);
        parent.take(Event::NotSucceeded("killed".into()));
        assert!(parent.state.is_over());
    }
}

#[test]
fn sockets_that_a_worker_of_the_old_server_had_adopted_count_in_the_new_one() {
    let mut parent = Parent::starting(2, true);
    assert_eq!(parent.take(Event::Holds(W(1), 2)), []);
    assert_eq!(parent.take(Event::Holds(W(2), 1)), []);
    let steer = Action::Steer { worker: W(1), sockets: 3 };
    assert_eq!(parent.take(Event::Socket(W(1))), [steer, Action::OpenLane(W(1))]);
    parent.starts(1);
    parent.starts(2);
    assert_eq!(parent.take(Event::Holds(W(2), 9)), [], "it serves");
    assert_eq!(parent.take(Event::More)[1..], [start(3, true, Some(3))]);
    let give = Action::Give { giver: W(1), taker: W(3), all: false };
    assert_eq!(parent.take(Event::Started(W(3), None)), [give]);
    assert_eq!(parent.take(Event::Holds(W(3), 1)), [], "that is known");
    assert_eq!(parent.take(Event::Ready(W(3))), [Action::Release(W(1))]);
    assert_eq!(parent.state.sockets(), 3);
    assert_eq!(
        parent.take(Event::More)[1..],
        [start(4, false, Some(4))],
        "nobody has one to spare"
    );
}

#[test]
fn a_worker_that_says_it_has_more_sockets_than_there_can_be_is_not_believed() {
    let mut parent = Parent::starting(2, true);
    parent.take(Event::Holds(W(1), usize::MAX));
    assert_eq!(parent.state.sockets(), MOST_WORKERS + 1);
}

#[test]
fn a_server_that_was_to_replace_another_drains_when_it_gives_up() {
    let settings = Settings { replaces: true, ..settings(2, true) };
    let mut parent = Parent { state: State::new(settings), now: Instant::now() };
    parent.take(Event::Begin);
    parent.starts(1);
    let expected = [
        Action::CloseLane(2),
        Action::Abort(W(2), "died".into()),
        Action::StopListening,
        Action::Drain(W(1)),
    ];
    assert_eq!(parent.dies(2), expected);
}
