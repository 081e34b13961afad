//! A server that is not ours: any command that serves on the port it is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::interrupt;
use crate::server::process::Child;
use crate::server::telemetry::Readings;
use crate::server::workers::Workers;

/// How long a command may take until it serves.
const START_WITHIN: Duration = Duration::from_secs(10);

/// How long the set of its workers must have been the same.
const STABLE_FOR: Duration = Duration::from_millis(200);

/// The same where no worker can be told: others may still be on their way.
const UNSEEN_FOR: Duration = Duration::from_secs(1);

/// How often its processes are looked at while a load runs. Rare enough to cost nothing.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// How long one read of the first answer may block.
const GLANCE: Duration = Duration::from_millis(5);

/// Of its output, messages show so many lines.
const SHOWN_LINES: usize = 5;

/// A foreign server that runs.
pub struct Foreign {
    pub child: Child,
    pub address: SocketAddr,
    pub workers: Workers,
    sampled: Instant,
    /// What it reads and writes; removed with it, after it.
    _folder: Option<TempDir>,
}

impl Foreign {
    /// Starts a command with `{port}` and `{host}` replaced, and waits until it serves: the set of
    /// its workers has been stable for 200 ms, and a GET is answered. Some listen seconds before
    /// they accept.
    ///
    /// # Errors
    /// When it ends, or does not serve within 10 s, with its output.
    pub fn start(
        name: &str,
        words: &[String],
        address: SocketAddr,
        folder: Option<TempDir>,
    ) -> Result<Self> {
        let replaced = words.iter().map(|word| {
            let word = word.replace("{port}", &address.port().to_string());
            word.replace("{host}", &address.ip().to_string())
        });
        let replaced: Vec<String> = replaced.collect();
        let mut command = Command::new(&replaced[0]);
        command.args(&replaced[1..]);
        let child = Child::start_server(name, &mut command).with_context(|| {
            format!("'{}' cannot be run; is it installed, and on the PATH?", replaced[0])
        })?;
        let workers = Workers::new(child.pid(), address.port());
        let mut server = Self { child, address, workers, sampled: Instant::now(), _folder: folder };
        server.wait_until_it_serves()?;
        Ok(server)
    }

    fn wait_until_it_serves(&mut self) -> Result<()> {
        let Self { child, workers, address, .. } = self;
        let (mut pids, mut since) = (Vec::new(), Instant::now());
        let (mut first, mut answered) = (None, false);
        let serves = child.wait_for(START_WITHIN, |child| {
            interrupt::check()?;
            if let Some(status) = child.ended()? {
                bail!("{} did not start ({status}): {}", child.name(), output(child));
            }
            workers.look()?;
            let now = workers.pids();
            if now != pids {
                (pids, since) = (now, Instant::now());
            }
            if first.is_none() {
                first = FirstAnswer::ask(*address);
            }
            match first.as_mut().map(FirstAnswer::look) {
                Some(None) => first = None, // not by this connection: it was closed unanswered
                Some(Some(came)) => answered |= came,
                None => {}
            }
            let stable_for = if pids.is_empty() { UNSEEN_FOR } else { STABLE_FOR };
            Ok((answered && since.elapsed() >= stable_for).then_some(()))
        })?;
        if serves.is_some() {
            return Ok(());
        }
        let (name, limit, port) = (child.name(), START_WITHIN.as_secs(), address.port());
        let what = match first {
            None => {
                format!("did not listen on port {port} within {limit} s; does it use {{port}}?")
            }
            Some(_) if !answered => format!("listens, but answered no GET / within {limit} s"),
            Some(_) => format!("kept replacing its workers for {limit} s"),
        };
        bail!("{name} {what} Its output: {}", output(child))
    }

    /// Reads the counters of its processes.
    pub fn read(&mut self) -> Result<Readings> {
        // A load begins or ends here: the next sample is taken within it.
        self.sampled = Instant::now();
        self.workers.look()?;
        let read = self.workers.read();
        read.with_context(|| format!("cannot look at a worker of {}", self.child.name()))
    }

    /// Who serves at this moment; as it was seen last, if the kernel does not tell.
    pub fn look(&mut self) -> &Workers {
        let _ = self.workers.look();
        &self.workers
    }

    /// Looks at its processes if it is time to.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn sample(&mut self) -> Result<()> {
        if self.sampled.elapsed() >= SAMPLE_EVERY {
            self.sampled = Instant::now();
            self.workers.sample()?;
        }
        Ok(())
    }
}

/// A GET that was sent and is waited for without blocking.
struct FirstAnswer(TcpStream);

impl FirstAnswer {
    /// None as long as nobody listens.
    fn ask(address: SocketAddr) -> Option<Self> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(GLANCE)).ok()?;
        write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        Some(Self(stream))
    }

    /// Whether the answer has begun; none if there will be none.
    fn look(&mut self) -> Option<bool> {
        match self.0.read(&mut [0; 512]) {
            Ok(0) => None,
            Ok(_) => Some(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Some(false)
            }
            Err(_) => None,
        }
    }
}

/// A port of the loopback that nobody has now. Somebody may take it before the server does; the
/// server then says so and ends.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(
        "there is no free port for the server: all of the sysctl net.ipv4.ip_local_port_range are \
         taken; wait until connections have left TIME_WAIT (a minute), or widen it",
    )?;
    Ok(listener.local_addr()?)
}

/// The last lines of what it said, in one.
pub fn output(child: &Child) -> String {
    let said = child.output() + &child.errors();
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len().saturating_sub(SHOWN_LINES) {
        _ if lines.is_empty() => "(none)".into(),
        left_out => lines[left_out..].join(" | "),
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.stop_group();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netns;

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
