//! Faults by chance: for seconds in `make test`, for SOAK_HOURS in `make soak`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{measured, start};
use crate::load::Load;
use crate::support::{RawClient, SERVERS, Server, wait_for};

/// Workers that there may be at most.
const MOST: usize = 8;

/// So many requests before each look at what a server holds.
const WARM_UP: u64 = 5_000;

fn lasts() -> Duration {
    let hours = std::env::var("SOAK_HOURS").ok();
    let hours = hours.map(|hours| hours.parse::<f64>().expect("SOAK_HOURS is a number of hours"));
    hours.map_or(Duration::from_secs(1), |hours| Duration::from_secs_f64(hours * 3600.0))
}

/// One fault. A worker may have ended meanwhile by one before, so nothing is asked of it.
fn strike(server: &Server, random: &mut Rng) {
    let workers = server.workers();
    let Some(&victim) = random.choice(&workers) else { return };
    let victim = |signal| _ = kill(Pid::from_raw(victim as i32), signal);
    match random.usize(..8) {
        0 => victim(Signal::SIGKILL),
        1 => victim(Signal::SIGTERM),
        2 => {
            victim(Signal::SIGSTOP);
            sleep(Duration::from_millis(random.u64(..300)));
            victim(Signal::SIGCONT);
        }
        3 => server.signal(Signal::SIGHUP),
        4 if workers.len() < MOST => server.signal(Signal::SIGTTIN),
        5 => server.signal(Signal::SIGTTOU),
        6 => {
            // Clients that connect, say half of something or nothing, and leave.
            let connect = |_| RawClient::connect(server.address());
            let clients: Vec<RawClient> = (0..20).map(connect).collect();
            let beginning =
                ["", "GET / HTTP/1.1\r\nHo", "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"];
            let say = |client: &RawClient| _ = client.send(beginning[random.usize(..3)]);
            clients.iter().for_each(say);
        }
        _ => {
            // A burst that a reload meets.
            let load = Load::on(server.address(), random.bool());
            server.signal(Signal::SIGHUP);
            load.wait_for_more(random.u64(1..500));
            load.end();
        }
    }
    sleep(Duration::from_millis(random.u64(..200)));
}

/// Waits until the workers are as many as before for a while, and then has them be four, one by one: signals of
/// one kind that wait are one signal.
fn settle(server: &Server) {
    let mut since = (0, Instant::now());
    loop {
        let now = wait_for("workers that stay", || {
            let now = server.workers().len();
            if now != since.0 || !server.scoreboard.is_serving() {
                since = (now, Instant::now());
            }
            (since.1.elapsed() > Duration::from_secs(1)).then_some(now)
        });
        match now {
            4 => return,
            fewer if fewer < 4 => server.signal(Signal::SIGTTIN),
            _ => server.signal(Signal::SIGTTOU),
        }
        wait_for("one more or one fewer", || (server.workers().len() != now).then_some(()));
    }
}

#[test]
fn after_faults_by_chance_a_server_holds_what_it_held_before() {
    let (lasts, seed) = (lasts(), fastrand::u64(..));
    let mut random = Rng::with_seed(seed);
    println!("for {lasts:?}, seed {seed}");
    let servers = SERVERS.map(|name| start(name, &["--drain-timeout", "5s"]));
    let measure = |server: &Server| measured(server, WARM_UP);
    servers.iter().for_each(|server| _ = measure(server)); // the parents' own first time
    let before = servers.each_ref().map(measure);
    let (end, mut faults) = (Instant::now() + lasts, 0);
    while Instant::now() < end {
        strike(&servers[random.usize(..2)], &mut random);
        faults += 1;
    }
    println!("{faults} faults");
    for ((server, before), name) in servers.iter().zip(&before).zip(SERVERS) {
        settle(server);
        measure(server).assert_as_before(before, name);
    }
}
