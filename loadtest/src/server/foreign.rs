//! A foreign server: any command that serves on a given port.

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use common::kernel::uninterrupted::uninterrupted;

use crate::server::process::Child;
use crate::server::workers::Workers;
use crate::server::{Server, View};

/// How long a command may take until it serves.
const START_WITHIN: Duration = Duration::from_secs(10);

/// How long the set of its workers must not change.
const STABLE_FOR: Duration = Duration::from_millis(200);

/// The same if no worker can be seen: workers may still be starting.
const UNSEEN_FOR: Duration = Duration::from_secs(1);

/// How long one read of the first answer may block.
const GLANCE: Duration = Duration::from_millis(5);

/// How many lines of its output messages show.
const SHOWN_LINES: usize = 5;

/// Starts a command with `{port}` and `{host}` replaced, and waits until it serves: the set of its workers
/// has been stable for 200 ms, and a GET is answered. Some servers listen seconds before they accept.
/// Fails when it ends, or does not serve within 10 s, with its output.
pub fn start(name: &str, words: &[String], address: SocketAddr) -> Result<Server> {
    let (port, host) = (address.port().to_string(), address.ip().to_string());
    let mut words = words.iter().map(|word| word.replace("{port}", &port).replace("{host}", &host));
    let program = words.next().context("the command is empty")?;
    let mut child = Child::start_server(name, Command::new(&program).args(words), Stdio::null())
        .with_context(|| format!("cannot run '{program}'; install it, and check the PATH"))?;
    child.by_group = true;
    let mut workers = Workers::new(Some(child.pid()), address.port());
    let (mut pids, mut since) = (Vec::new(), Instant::now());
    let (mut asked, mut answered) = (None, false);
    let serves = child.wait_until_it_serves(START_WITHIN, why_it_ended, || {
        workers.look()?;
        let now: Vec<u32> = workers.totals().map(|worker| worker.pid).collect();
        if now != pids {
            (pids, since) = (now, Instant::now());
        }
        answered = answered || is_answered(&mut asked, address);
        let stable_for = if pids.is_empty() { UNSEEN_FOR } else { STABLE_FOR };
        Ok((answered && since.elapsed() >= stable_for).then_some(()))
    })?;
    if serves.is_some() {
        return Ok(Server::started(child, View::Kernel(workers), address));
    }
    let limit = START_WITHIN.as_secs();
    let what = match asked {
        _ if answered => format!("kept replacing its workers for {limit} s"),
        Some(_) => format!("listens, but answered no GET / within {limit} s"),
        None => format!(
            "did not listen on port {port} within {limit} s; check that its command uses {{port}}"
        ),
    };
    bail!("{name} {what}{}", output_after(said(&child)))
}

/// Its output, if there is any, for the end of a message.
fn output_after(said: Option<String>) -> String {
    said.map_or_else(String::new, |said| format!("; its output: {said}"))
}

/// Its output before it ended, and the remedy.
fn why_it_ended(child: &Child) -> String {
    format!("{}; run its command by itself to see why", reason(child))
}

/// Whether a GET has been answered, at least in part. Sends one if there is none under way, or if its connection
/// was closed without an answer.
fn is_answered(asked: &mut Option<TcpStream>, address: SocketAddr) -> bool {
    let ask = || -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(GLANCE))?;
        write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        Ok(stream)
    };
    *asked = asked.take().or_else(|| ask().ok());
    let waits = |error: &io::Error| matches!(error.kind(), WouldBlock | TimedOut);
    let Some(stream) = asked else { return false };
    match uninterrupted(|| stream.read(&mut [0; 512])) {
        Ok(1..) => return true,
        Err(error) if waits(&error) => {}
        _ => *asked = None,
    }
    false
}

/// A free port of the loopback. Another process may take it before the server does; then the server reports
/// that and ends.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(
        "there is no free port for the server: all ports of the sysctl \
         net.ipv4.ip_local_port_range are taken; wait until connections have left TIME_WAIT (a \
         minute), or widen it",
    )?;
    Ok(listener.local_addr()?)
}

/// The last lines of its output, joined into one, or a text that there are none.
pub fn reason(child: &Child) -> String {
    said(child).unwrap_or_else(|| "it printed nothing".into())
}

/// The last lines of its output, joined into one; `None` if there are none.
fn said(child: &Child) -> Option<String> {
    let said = child.output() + &child.errors();
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let left_out = lines.len().saturating_sub(SHOWN_LINES);
    (!lines.is_empty()).then(|| lines[left_out..].join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netns;

    #[test]
    fn where_a_server_printed_nothing_its_output_is_not_mentioned() {
        assert_eq!(output_after(Some("I use no port".into())), "; its output: I use no port");
        assert_eq!(output_after(None), "");
    }

    #[test]
    fn that_no_port_is_free_is_said_with_the_sysctl() {
        if let Err(reason) = netns::available() {
            return crate::skip_test(&reason);
        }
        let refusal = netns::within(&[("net/ipv4/ip_local_port_range", "40000 40000")], || {
            let _taken = TcpListener::bind(free_address()?)?;
            Ok(free_address().unwrap_err().to_string())
        });
        assert!(refusal.unwrap().contains("ip_local_port_range"));
    }
}
