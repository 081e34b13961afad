//! Workers that accept nothing, and busy ones that look like it.

use super::*;

#[test]
fn a_worker_that_takes_nothing_is_found_whether_it_is_stopped_or_blocked() {
    let stopped = with(own([9, 8, 0, 9]), |it| {
        it.workers[2].state = 'T';
        it.sockets[2].queued = 7;
    });
    expect(&stopped, &[(Id::StalledWorker, Warning, Some(3), "7 are queued for it only")]);
    assert!(findings(&stopped)[0].remedy.contains("it has its own socket"));
    let of_many = with(shared(3, EXCLUSIVE), |it| it.workers[2].state = 'T');
    let [found] = &findings(&of_many)[..] else { panic!("{:?}", findings(&of_many)) };
    assert!(found.evidence.ends_with("it has 0 connections"), "{found:?}");
    assert!(!found.remedy.contains("socket"), "{found:?}");
    let blocked = with(own([9, 8, 0, 9]), |it| {
        it.sockets[2].queued_range = [2, 7];
        it.workers[2].sits_in = Some("hrtimer_nanosleep".into());
    });
    let words = "2 to 7 connections waited at socket 3 on 127.0.0.1:80 of process 3";
    expect(&blocked, &[(Id::StalledWorker, Warning, Some(3), words)]);
    // A slow worker is not blocked, nor is one whose queue was empty at some time.
    for (accepted, least) in [(1, 2), (0, 0)] {
        expect(&with(own([9, 8, accepted, 9]), |it| it.sockets[2].queued_range = [least, 7]), &[]);
    }
    let as_many = with(own([9, 8, 0, 9]), |it| it.sockets[2].queued_range = [4, 4]);
    assert!(findings(&as_many)[0].evidence.starts_with("4 connections waited"));
    // With a shared socket all must be blocked.
    let all = with(shared(3, EXCLUSIVE), |it| it.sockets[0].queued_range = [1, 2]);
    expect(&all, &[(Id::StalledWorker, Warning, None, "none of 3 accepted")]);
    // The one that only holds the socket is not the example.
    let held = with(all, |it| {
        it.workers.insert(0, Worker { role: Role::Holder, ..worker(SERVER, &[1]) });
        it.sockets[0].holders.insert(0, SERVER);
    });
    expect(
        &held,
        &[(Id::StalledWorker, Warning, None, "none of 3 accepted, for instance web (pid 1)")],
    );
    // A parent that only has the socket open may be stopped.
    expect(
        &with(shared(3, EXCLUSIVE), |it| {
            it.workers.push(Worker { state: 'T', role: Role::Holder, ..worker(SERVER, &[1]) });
            it.sockets[0].holders.push(SERVER);
        }),
        &[],
    );
}

#[test]
fn what_no_look_could_see_is_no_stall() {
    // Two workers of which one was seen to wait, and a master; the queue was never empty.
    let busy = |change: fn(&mut Readings)| {
        with(shared(3, HERD), |it| {
            it.workers[0].role = Role::Holder;
            it.sockets[0].waiters.truncate(2);
            it.sockets[0].waiters.remove(0);
            it.sockets[0].queued_range = [3, 7];
            it.workers.iter_mut().for_each(|worker| worker.is_counted = false);
            change(it);
        })
    };
    let words = "none of 2 accepted, for instance web (pid 2)";
    let is_stalled = [(Id::StalledWorker, Warning, None, words)];
    expect(&busy(|_| ()), &[]);
    expect(&busy(|it| it.waited_throughout = 2), &[]);
    // The queue is first in, first out: who waited at the beginning waits still.
    expect(&busy(|it| it.waited_throughout = 3), &is_stalled);
    expect(&busy(|it| it.workers.iter_mut().for_each(|it| it.is_counted = true)), &is_stalled);
    expect(&busy(|it| (it.workers[2].is_counted, it.workers[2].accepted) = (true, 9)), &[]);
    // At which of two sockets they wait is not known: one that uses CPU time serves.
    let two = |cpu| {
        with(own([0; 4]), |it| {
            it.waited_throughout = 5;
            it.sockets[1].queued_range = [5, 5];
            it.sockets[2].queued_range = [1, 8];
            it.workers.iter_mut().for_each(|worker| worker.is_counted = false);
            it.workers[2].cpu = cpu;
        })
    };
    expect(&two(0.4), &[(Id::StalledWorker, Warning, Some(2), "5 connections waited")]);
}

#[test]
fn of_busy_workers_whom_no_look_saw_accept_none_is_said_to_get_nothing() {
    let looked = |cpu| {
        with(shared(2, HERD), |it| {
            it.workers.iter_mut().for_each(|it| (it.is_counted, it.cpu) = (false, cpu));
            (it.workers[0].accepted, it.workers[0].cpu) = (86, 0.9);
        })
    };
    let herd = (Id::Herd, Info, None, "2 wait");
    expect(&looked(0.8), &[herd]);
    expect(&looked(0.0), &[(Id::OneTakesAll, Warning, Some(1), "86 by 1"), herd]);
}
