//! The lesson in one screen: all worker processes accept from **one** listening socket, which they inherit.
//!
//! ```sh
//! cargo run --release --example one_screen_shared -- 8080 4    # port, workers
//! ```
//!
//! The other program, `reuseport-server/examples/one_screen.rs`, differs in where the socket comes from, and in
//! what follows from that. Both are the post's two programs in Rust.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::process::ExitCode;
use std::str::FromStr;

use axum::{Router, routing::get};
use nix::sys::{prctl, signal::Signal, wait::wait};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use socket2::{Domain, Socket, Type};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let run = || match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [port, workers] => parent(number(port)?, number(workers)?),
        _ => Err("it needs two arguments: port and workers".into()),
    };
    run().map_or_else(
        |error| {
            eprintln!("one_screen_shared: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is not such a number; port and workers are needed"))
}

fn parent(port: u16, workers: NonZeroU16) -> Result<(), Box<dyn Error>> {
    // The one difference: there is one socket, made before the workers. They inherit it by fork, as all
    // descriptors, and with it its one accept queue.
    let listener = listen(port).map_err(|error| format!("cannot listen on {port}: {error}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    let parent = getpid();
    for _ in 0..workers.get() {
        #[allow(unsafe_code)]
        // SAFETY: this process has one thread, so no lock is held in the copy that the child gets.
        if let ForkResult::Child = unsafe { fork()? } {
            return worker(listener, parent);
        }
    }
    // The parent has nothing to do. If a worker ends, it ends, too, and the other workers with it.
    Err(format!("a worker has ended: {:?}", wait()?).into())
}

fn worker(listener: TcpListener, parent: Pid) -> Result<(), Box<dyn Error>> {
    // However the parent ends, the kernel then ends this worker. The parent may have ended before this line.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err("the parent is gone".into());
    }
    // Made after the fork: a runtime has an epoll instance, and processes that shared one would take
    // each other's events. One thread is enough, since there is a process for each core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Every worker's epoll instance watches the same socket, so each new connection wakes all that
        // sleep, and one of them gets it from accept(2).
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let app = Router::new().route("/", get(async || "hello"));
        Ok(axum::serve(listener, app).await?)
    })
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?; // old connections in TIME_WAIT do not keep the port
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?; // tokio asks for that
    Ok(socket.into())
}
