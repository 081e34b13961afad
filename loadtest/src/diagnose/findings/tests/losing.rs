//! What a crash would lose.

use super::*;
use crate::diagnose::lose_now::{in_words, lose_now};

#[test]
fn a_queue_is_lost_with_its_worker_unless_another_keeps_or_gets_it() {
    let queued = |change: fn(&mut Readings)| {
        let readings = with(own([0; 4]), |it| {
            it.sockets[1].queued = 5;
            it.workers[1].held = 3;
            change(it);
        });
        let loss = lose_now(&readings).remove(1);
        (loss.worker, loss.held, loss.queued, loss.queue_lost)
    };
    assert_eq!(queued(|_| ()), (2, 3, 5, 5));
    assert_eq!(queued(|it| it.migrates = true), (2, 3, 5, 0));
    assert_eq!(queued(|it| it.sockets[1].holders.push(SERVER)), (2, 3, 5, 0));
    let shared = with(shared(2, HERD), |it| it.sockets[0].queued = 5);
    assert!(lose_now(&shared).iter().all(|loss| loss.queued == 0 && loss.queue_lost == 0));
    assert!(in_words(&shared).contains("0 of these would be reset"), "{}", in_words(&shared));
    assert_eq!(
        in_words(&own([0; 4])),
        "nothing would be lost now: no connection is open, and none waits"
    );
    let one = with(own([0; 4]), |it| (it.workers[0].held, it.sockets[1].queued) = (1, 1));
    let words =
        "1 connection is open and would be lost with its worker; 1 waits, and would be reset";
    assert!(in_words(&one).starts_with(words), "{}", in_words(&one));
    assert!(in_words(&shared).contains("a shared queue survive"), "{}", in_words(&shared));
}

#[test]
fn the_queue_of_a_socket_that_one_process_has_open_is_lost_with_it_whoever_waits() {
    type Change = fn(&mut Readings);
    let changes: [Change; 4] = [
        |_| (),
        |it| it.migrates = true, // there is no other socket to migrate to
        |it| it.workers[0].role = Role::Acceptor,
        |it| {
            it.workers[0].role = Role::Holder;
            it.sockets[0].waiters.clear();
        },
    ];
    for change in changes {
        let one = with(shared(1, HERD), |it| {
            it.sockets[0].queued = 5;
            change(it);
        });
        let [loss] = &lose_now(&one)[..] else { panic!("{:?}", lose_now(&one)) };
        assert_eq!((loss.worker, loss.queued, loss.queue_lost), (1, 5, 5));
        let words = in_words(&one);
        assert!(words.contains("5 wait, and 5 of these") && !words.contains("shared"), "{words}");
    }
    // A socket that several have open, and none waits for at the moment, belongs to none of them.
    let busy = with(shared(3, HERD), |it| {
        it.sockets[0].queued = 5;
        it.sockets[0].waiters.clear();
    });
    assert!(lose_now(&busy).iter().all(|loss| loss.queued == 0 && loss.queue_lost == 0));
}
