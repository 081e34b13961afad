//! Rows of the table in [`step`](super::step) about workers that fail while others wait for them.

use super::exit::Exit;
use super::state::{Action, Event, Note};
use super::table::{Parent, W, start};

#[test]
fn a_worker_that_crashes_while_it_drains_is_in_the_log() {
    let mut parent = Parent::serving(2, false);
    parent.take(Event::Stop);
    let why = "was killed by SIGABRT";
    let note = Action::Note(Note::DiedLeaving(W(1), why.into()));
    assert_eq!(parent.take(Event::Exited(W(1), Exit::Failed(why.into()))), [note]);
    assert_eq!(parent.dies(2), []);
    assert!(parent.state.is_over());
}

#[test]
fn the_only_worker_that_serves_is_not_the_one_too_many() {
    let mut parent = Parent::serving(1, false);
    parent.take(Event::More);
    let wanted = Action::Note(Note::Wanted(1, 2));
    assert_eq!(parent.take(Event::Fewer), [wanted], "the other one still starts");
    assert_eq!(parent.take(Event::Ready(W(2))), [Action::Drain(W(2))]);
}

#[test]
fn who_waited_in_vain_for_a_socket_is_followed_by_one_that_opens_its_own() {
    let mut parent = Parent::serving(3, true);
    parent.take(Event::Fewer);
    parent.take(Event::Adopted(W(1)));
    parent.dies(3);
    assert_eq!(parent.dies(2)[2..], [start(4, true, Some(2))], "of the two sockets of the first");
    parent.take(Event::Started(W(4), None));
    let actions = parent.dies(4);
    assert!(actions.contains(&start(5, false, Some(2))), "{actions:?}");
}
