//! An ordinary `axum::serve` program with forked workers that share a socket, and a load-aware listener.
//!
//! ```sh
//! cargo run --release --example least_conn -- 8080 4    # port, workers
//! ```

use std::net::{Ipv4Addr, TcpListener};
use std::process::{ExitCode, exit, id};

use anyhow::{Context, Result, bail, ensure};
use axum::{Router, routing::get};
use common::accept::least_conn::{LeastConn, Shared};
use common::lab::routes;
use common::platform::schedule::Schedule;
use nix::sys::{prctl, signal::Signal, wait::wait};
use nix::unistd::{ForkResult, Pid, fork, getppid};

fn main() -> ExitCode {
    match parent() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("least_conn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[allow(unsafe_code)]
fn parent() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, workers] = &arguments[..] else { bail!("it needs two arguments: port and workers") };
    let port: u16 = port.parse().with_context(|| format!("'{port}' is not a port"))?;
    let number = || format!("'{workers}' is not a number of workers");
    let workers: usize = workers.parse().with_context(number)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot listen on port {port}; try another"))?;
    let address = listener.local_addr()?;

    // Before the first fork: the socket and the memory that all workers share.
    let shared = LeastConn::shared(listener, workers).with_context(number)?;
    println!("listening on http://{address}");
    let parent = Pid::from_raw(id() as i32);
    for number in 0..workers {
        // SAFETY: this process has one thread, so the child's copy of its memory is whole.
        if let ForkResult::Child = unsafe { fork() }.context("cannot fork a worker")? {
            let error = worker(shared, number, parent).expect_err("it serves for ever");
            eprintln!("least_conn: worker {number}: {error:#}");
            exit(1);
        }
    }
    let ended = wait()?;
    bail!("a worker has ended: {ended:?}")
}

fn worker(shared: Shared, number: usize, parent: Pid) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?; // end with the parent, however it ends
    ensure!(getppid() == parent, "the parent is gone");
    let by_load = Schedule::ByLoad.set()?; // while cores are busy, a woken worker waits for its turn

    let app = routes::add_to(Router::new().route("/", get(async || "hello")));
    shared.run(number, |listener| async {
        by_load.map(|by_load| tokio::spawn(by_load.keep_looking()));
        axum::serve(listener, app).await
    })??;
    Ok(())
}
