//! The lesson in one screen: each worker process has a listening socket **of its own**, on the same port.
//!
//! ```sh
//! cargo run --release --example one_screen_own -- 8080 4    # port, workers
//! ```
//!
//! The other program, `shared-fd-server/examples/one_screen.rs`, differs in where the socket comes from, and in
//! what follows from that. Both are the post's two programs in Rust.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::process::{Command, ExitCode};
use std::str::FromStr;

use axum::{Router, routing::get};
use nix::sys::{prctl, signal::Signal, wait::wait};
use nix::unistd::{Pid, getpid, getppid};
use socket2::{Domain, Socket, Type};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let run = || match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [port, workers] => parent(number(port)?, number(workers)?),
        [port, "worker", parent] => worker(number(port)?, Pid::from_raw(number(parent)?)),
        _ => Err("it needs two arguments: port and workers".into()),
    };
    run().map_or_else(
        |error| {
            eprintln!("one_screen_own: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is not such a number; port and workers are needed"))
}

fn parent(port: u16, workers: NonZeroU16) -> Result<(), Box<dyn Error>> {
    // This socket settles the port if it was 0, and keeps programs without SO_REUSEPORT off it. It does not
    // listen, so it gets no connections.
    let bound = bind(port).map_err(|error| format!("cannot listen on {port}: {error}"))?;
    let address = bound.local_addr()?.as_socket().ok_or("not an IP address")?;
    println!("listening on http://{address}");
    for _ in 0..workers.get() {
        // Nothing is inherited, so a worker can be a fresh copy of this program.
        Command::new("/proc/self/exe")
            .args([&address.port().to_string(), "worker", &getpid().to_string()])
            .spawn()?;
    }
    // The parent has nothing to do. If a worker ends, it ends, too, and the other workers with it.
    Err(format!("a worker has ended: {:?}", wait()?).into())
}

fn worker(port: u16, parent: Pid) -> Result<(), Box<dyn Error>> {
    // However the parent ends, the kernel then ends this worker. The parent may have ended before this line.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err("the parent is gone".into());
    }
    // The one difference: there are as many sockets as workers, each with an accept queue of its own.
    let socket = bind(port)?;
    socket.listen(1024)?;
    // One thread is enough, since there is a process for each core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // The kernel gives a new connection to one of these sockets, by a hash of its addresses and ports.
        // It does not know which worker is free, and a connection waits for the worker of its queue.
        let listener = tokio::net::TcpListener::from_std(TcpListener::from(socket))?;
        let app = Router::new().route("/", get(async || "hello"));
        Ok(axum::serve(listener, app).await?)
    })
}

fn bind(port: u16) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?; // old connections in TIME_WAIT do not keep the port
    socket.set_reuse_port(true)?; // sockets of one user may have the same address, if all say so
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.set_nonblocking(true)?; // tokio asks for that
    Ok(socket)
}
