//! One listening socket per worker: each binds the same address with SO_REUSEPORT, and the kernel
//! picks the queue that a new connection goes to.

mod steer;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use common::cli::options::Options;
use common::lesson::socket::{self, Sharing};
use common::lesson::worker;
use common::parent::context::as_worker;
use common::parent::reservation::reserve;
use common::parent::setup::{How, Start};
use common::parent::signals;
use common::parent::succession::inherit;
use common::platform::systemd;
use common::{cli, handover, parent};

use steer::Steer;

/// Serves `hello` from worker processes that each have a listening socket of their own.
#[derive(Parser)]
#[command(version, args_override_self = true, allow_negative_numbers = true)]
struct Cli {
    #[command(flatten)]
    options: Options,

    /// Share the port with servers that listen there with SO_REUSEPORT, instead of refusing to
    /// start
    #[arg(long, env = "SERVER_JOIN", value_parser = clap::builder::BoolishValueParser::new())]
    join: bool,

    /// Steering policy, which picks the worker for a new connection: hash, first, random, cpu or
    /// least-conn
    #[arg(long, value_name = "POLICY", env = "SERVER_STEER", default_value = "hash")]
    steer: Steer,

    /// This process is a worker and counts in this slot of the scoreboard
    #[arg(long, hide = true)]
    worker: Option<usize>,
}

fn main() -> ExitCode {
    let cli: Cli = cli::parse();
    cli::log::to_stderr();
    cli::main("reuseport-server", || run(cli))
}

fn run(mut cli: Cli) -> Result<()> {
    cli.steer.fill_in(&mut cli.options);
    let options = &cli.options;
    if let Some(index) = cli.worker {
        match as_worker(index, |context, passed| {
            let listeners = match passed.inheritance {
                // In a reload or an upgrade: the sockets of the worker that this one replaces, with their queues.
                Some(line) => handover::take(line, &context.channel)?,
                None => {
                    vec![socket::listen(options.address(), options.backlog, Sharing::ReusePort)?]
                }
            };
            worker::run(context, cli.steer.to(context, listeners, passed.lane, options)?, options)
        })? {}
    }

    // First of all: until then a signal, even one to reload, ends the program.
    signals::reset()?;
    systemd::refuse_sockets()?;
    if cli.join {
        cli.steer.ensure_may_join(options.port)?;
    }
    let steering = cli.steer.steering()?;
    // Kept as long as the server runs; it does not listen.
    let (inherited, bound) = inherit()?.unzip();
    let reservation = match bound {
        Some(bound) => bound,
        None => reserve(options.address(), cli.join)?,
    };
    let address = reservation.local_addr()?;
    let reservation = Some(reservation);
    let start = Start { how: How::Exec, listener: None, reservation, inherited, steering };
    parent::run(options, address, cli.join, start)
}
