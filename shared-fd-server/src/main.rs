//! One listening socket for all workers: the parent binds it, every worker inherits it, and all of
//! them accept from the same queue.

mod accept;

use std::net::TcpListener;
use std::process::ExitCode;

use accept::Accept;
use anyhow::{Context, Result};
use clap::Parser;
use common::cli::options::Options;
use common::lesson::socket::{self, Sharing};
use common::lesson::worker;
use common::parent::context::{WorkerContext, as_worker};
use common::parent::setup::{How, Start};
use common::parent::signals;
use common::parent::succession::inherit;
use common::platform::systemd;
use common::{cli, parent};

/// Serves `hello` from worker processes that accept on one shared listening socket.
#[derive(Parser)]
#[command(version, args_override_self = true, allow_negative_numbers = true)]
struct Cli {
    #[command(flatten)]
    options: Options,

    /// Accept policy, how workers wait for connections: epoll, blocking, exclusive or least-conn
    #[arg(long, value_name = "POLICY", env = "SERVER_ACCEPT", default_value = "epoll")]
    accept: Accept,

    /// Start workers by exec and pass them the socket, instead of by fork alone: a control
    /// experiment, since reuseport-server starts its workers by exec
    #[arg(long, env = "SERVER_EXEC", value_parser = clap::builder::BoolishValueParser::new())]
    exec: bool,

    /// This process is a worker and counts in this slot of the scoreboard
    #[arg(long, hide = true)]
    worker: Option<usize>,
}

fn main() -> ExitCode {
    let cli: Cli = cli::parse();
    cli::log::to_stderr();
    cli::main("shared-fd-server", || run(cli))
}

fn run(mut cli: Cli) -> Result<()> {
    cli.accept.fill_in(&mut cli.options);
    let options = &cli.options;
    let live = |context: &WorkerContext, listener: TcpListener| {
        worker::run(context, cli.accept.to(context, listener)?, options)
    };
    if let Some(index) = cli.worker {
        match as_worker(index, |context, passed| {
            live(context, passed.inheritance.context("the parent sent no listening socket")?.into())
        })? {}
    }

    // First of all: until then a signal, even one to reload, ends the program.
    signals::reset()?;
    let (inherited, bound) = inherit()?.unzip();
    let listener = match bound {
        Some(bound) => Some(bound),
        None => systemd::listening_socket()?,
    };
    let listener = match listener {
        Some(listener) => listener,
        None => socket::listen(options.address(), options.backlog, Sharing::OneSocket)?,
    };
    let address = listener.local_addr()?;
    let how = if cli.exec { How::Exec } else { How::Fork(&live) };
    let listener = Some(listener);
    let start = Start { how, listener, reservation: None, inherited, steering: None };
    parent::run(options, address, false, start)
}
