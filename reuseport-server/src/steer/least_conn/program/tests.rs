//! What the program chooses.

use super::machine::*;
use super::*;
use crate::steer::least_conn::lane::{Kind, turn};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn the_least_loaded_is_chosen_and_the_connection_counted_there() {
    loads(&[Some(3), Some(1), Some(2)]);
    assert_eq!(choose(), Some(2));
    assert_eq!(line(2, |line| line.steered.load(Relaxed)), 1002);
    assert_eq!(line(2, |line| line.migrated.load(Relaxed)), 0);
}

#[test]
fn a_burst_is_spread_evenly_before_anybody_accepts() {
    loads(&[Some(0); 7]);
    (0..700).for_each(|_| assert!(choose().is_some()));
    for lane in 1..=7 {
        assert_eq!(line(lane, |line| line.steered.load(Relaxed)), 1100);
    }
}

#[test]
fn of_equals_the_next_in_turn_is_chosen() {
    let mut chosen = Vec::new();
    for _ in 0..8 {
        loads(&[Some(5), Some(5), Some(9), Some(5)]);
        chosen.push(choose().unwrap());
    }
    assert_eq!(chosen, [1, 2, 4, 1, 2, 4, 1, 2]);
}

#[test]
fn a_migrated_connection_is_counted_as_such() {
    loads(&[Some(4), Some(3)]);
    assert_eq!(choose_for(true), Some(2));
    assert_eq!(line(2, |line| line.migrated.load(Relaxed)), 1);
    assert_eq!(line(2, |line| line.steered.load(Relaxed)), 1003);
    assert_eq!(choose(), Some(1), "and as load: now both have 4, and it is 1's turn");
}

#[test]
fn a_packet_that_begins_nothing_is_counted_nowhere() {
    const FIN: i32 = 0x01;
    for flags in [ACK, FIN | ACK, SYN | ACK, FIN, 0] {
        loads(&[Some(3), Some(1)]);
        assert_eq!(choose_by(false, flags), Some(2));
        assert_eq!(line(2, |line| line.steered.load(Relaxed)), 1001);
    }
    const RESERVED: i32 = 0xc0; // ECN's, which a SYN may carry (RFC 3168, section 6.1.1)
    assert_eq!(choose_by(false, SYN | RESERVED), Some(2));
    assert_eq!(line(2, |line| line.steered.load(Relaxed)), 1002);
}

#[test]
fn a_closed_lane_is_not_chosen_and_without_an_open_one_it_is_left_to_the_hash() {
    loads(&[None, Some(7), None]);
    assert_eq!(choose(), Some(2));
    loads(&[None, None]);
    assert_eq!(choose(), None);
    loads(&[]);
    assert_eq!(choose(), None);
}

#[test]
fn a_choice_that_fails_is_left_to_the_hash_and_counted_nowhere() {
    loads(&[Some(3), Some(1)]);
    WORLD.with(|world| world.sockets.borrow_mut().remove(&2));
    assert_eq!(choose(), None);
    assert_eq!(line(2, |line| line.steered.load(Relaxed)), 1001);
}

#[test]
fn a_silent_worker_is_chosen_only_if_all_are_silent() {
    let silent = |lane| line(lane, |l| l.beat.store(NOW - SILENCE as u64 - 1, Relaxed));
    loads(&[Some(1), Some(1000)]);
    silent(1);
    assert_eq!(choose(), Some(2));
    silent(2);
    assert_eq!(choose(), Some(1));
    line(2, |line| line.beat.store(NOW - SILENCE as u64, Relaxed));
    assert_eq!(choose(), Some(2), "two seconds are not yet too long");
}

#[test]
fn whoever_is_free_now_is_chosen_before_who_has_fewer_connections() {
    loads(&[Some(1), Some(9), Some(3)]);
    awake(1, 10_000, SLOW);
    awake(3, 3_900, SLOW);
    assert_eq!(choose(), Some(2), "it is asleep");
    loads(&[Some(1), Some(1), Some(9)]);
    awake(1, 10_000, FAST);
    assert_eq!([choose(), choose()], [Some(2), Some(1)], "a busy one counts one more");
}

#[test]
fn a_worker_whose_requests_take_long_has_one_in_hand_as_soon_as_it_is_awake() {
    loads(&[Some(1), Some(1)]);
    (1..=2).for_each(|lane| idle(lane, 0));
    awake(1, 4_500, SLOW);
    awake(2, 3_000, SLOW);
    let mut chosen = [choose(), choose()];
    chosen.sort();
    assert_eq!(chosen, [Some(1), Some(2)], "one more for each");
    awake(2, 3_000, FAST);
    idle(2, 2);
    assert_eq!([choose(), choose()], [Some(2); 2], "a quick one is about to be free");
}

#[test]
fn what_a_worker_was_given_and_has_not_woken_for_is_in_hand() {
    loads(&[Some(0), Some(0)]);
    let mut chosen = vec![choose(), choose()];
    awake(1, 20, SLOW); // it wakes first
    chosen.extend([choose(), choose()]);
    chosen.sort();
    assert_eq!(chosen, [Some(1), Some(1), Some(2), Some(2)], "two for each");
    let dozing = |is_slow| {
        loads(&[Some(7), Some(2)]);
        idle(2, 1);
        line(1, |line| line.turn.store(turn(0, Kind { is_asleep: true, is_slow }), Relaxed));
    };
    dozing(true);
    assert_eq!(choose(), Some(1), "it has many, and none of them has a request");
    dozing(false);
    assert_eq!(choose(), Some(2), "where nobody is slow the load decides");
}

#[test]
fn workers_with_equally_many_requests_in_hand_take_turns_until_all_have_one_more() {
    loads(&[Some(2), Some(1), Some(1), Some(1), Some(1)]);
    for (lane, microseconds) in [(1, 90_000), (2, 6_000), (3, 9_000), (4, 5_000), (5, 20)] {
        idle(lane, 0);
        awake(lane, microseconds, SLOW);
    }
    let mut chosen: Vec<_> = (0..4).map(|_| choose().unwrap()).collect();
    chosen.sort();
    assert_eq!(chosen, [2, 3, 4, 5]);
}

#[test]
fn a_worker_that_blocks_has_no_more_in_hand_than_one_that_is_about_to_wake_for_its_only_request() {
    loads(&[Some(1), Some(1)]);
    (1..=2).for_each(|lane| idle(lane, 0));
    awake(2, 6_000, SLOW);
    let mut chosen = [choose(), choose()];
    chosen.sort();
    assert_eq!(chosen, [Some(1), Some(2)]);
    loads(&[Some(8), Some(9)]);
    awake(1, 20, SLOW);
    assert_eq!(choose(), Some(2), "over one of the eight a request came");
}

#[test]
fn one_that_was_quick_and_blocks_has_one_more_in_hand_than_one_that_turns() {
    loads(&[Some(2), Some(2)]);
    (1..=2).for_each(|lane| idle(lane, 0));
    awake(1, 20_000, FAST); // it was quick, and blocks now
    awake(2, 50, FAST);
    assert_eq!(choose(), Some(2));
}

#[test]
fn while_as_many_are_active_as_there_are_cores_the_least_loaded_of_them_gets_more_and_no_other_is_woken()
 {
    const DOZING: Kind = Kind { is_asleep: true, ..FAST };
    let lanes = |second: Kind| {
        loads(&[Some(0), Some(2), Some(1), Some(0), None]);
        (2..=5).for_each(|lane| room(lane, 3));
        awake(2, 20, FAST);
        awake(3, 20, second);
        awake(4, 20, DOZING);
        awake(5, 20, FAST);
    };
    lanes(FAST);
    assert_eq!([choose(), choose()], [Some(3), Some(2)]);
    assert_eq!(choose(), Some(4), "2 has no room: another is woken, whose data are cached");
    lanes(DOZING);
    assert_eq!(choose(), Some(3), "it has a connection, and so is about to wake");
    lanes(FAST);
    line(3, |line| line.ended.fetch_add(1, Relaxed));
    assert_eq!(choose(), Some(3), "it is awake");
    lanes(DOZING);
    line(3, |line| line.ended.fetch_add(1, Relaxed));
    assert_eq!([choose(), choose()], [Some(3); 2], "a core was free: it is woken, then active");
    awake(2, 4_001, FAST);
    assert_eq!(
        choose(),
        Some(4),
        "one is active: the other has been awake for long, and may be blocked"
    );
}

#[test]
fn one_that_stopped_when_it_had_just_woken_is_given_no_more_than_the_others_have() {
    loads(&[Some(0), Some(0), Some(0)]);
    (1..=3).for_each(|lane| room(lane, 40));
    for _ in 0..10 {
        (1..=2).for_each(|lane| awake(lane, 20, FAST));
        choose();
        line(2, |line| {
            let given = line.steered.load(Relaxed);
            line.ended.store(given, Relaxed); // it answers all, and the first none
        });
    }
    assert_eq!(line(1, |line| line.steered.load(Relaxed) - line.ended.load(Relaxed)), 1);
}

#[test]
fn the_program_chooses_what_the_reference_chooses() {
    let mut random = fastrand::Rng::with_seed(1);
    let kind =
        |random: &mut fastrand::Rng| Kind { is_asleep: random.bool(), is_slow: random.bool() };
    for _ in 0..3000 {
        let lanes = random.u32(1..40);
        let of = random.u64(1..5);
        let mut load = |_| (random.f32() < 0.9).then(|| random.u64(..of));
        let now: Vec<_> = (0..lanes).map(&mut load).collect();
        loads(&now);
        for lane in 1..=lanes {
            room(lane, if random.bool() { 0 } else { random.u64(..5) });
            idle(lane, random.u32(..5));
            match random.u8(..4) {
                0 => awake(lane, random.u64(..3_900), kind(&mut random)),
                1 => awake(lane, random.u64(4_100..1_000_000), kind(&mut random)),
                2 => line(lane, |l| l.beat.store(random.u64(..2 * NOW), Relaxed)),
                _ => {}
            }
        }
        let last = WORLD.with(|world| world.scratch[0].load(Relaxed) >> 32) as u32;
        let expected = WORLD.with(|world| {
            reference::choose(&world.lines[1..=lanes as usize], MOST_ACTIVE, last, NOW)
        });
        assert_eq!(choose(), expected);
    }
}

#[test]
fn a_load_below_zero_counts_as_zero() {
    loads(&[Some(0), Some(0)]);
    line(2, |line| line.ended.store(1005, Relaxed));
    assert_eq!(choose(), Some(1));
    assert_eq!(choose(), Some(2), "else it would be given five");
}

#[test]
fn all_lanes_are_looked_at_as_far_as_the_header_says() {
    let mut all = vec![Some(5); LANES];
    all[1023] = Some(4);
    all[LANES - 1] = Some(3);
    loads(&all);
    assert_eq!(choose(), Some(LANES as u32));
    loads(&all[..1024]);
    assert_eq!(choose(), Some(1024));
    loads(&all[..1023]);
    assert_eq!(choose(), Some(1), "the next in turn after 1024");
}
