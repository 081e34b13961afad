//! A child process that must not outlive this program.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::interrupt;
use crate::kernel::procfs;

/// How often a wait checks its condition. Rare enough to cost nothing, even during a measurement.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a program may take to end when asked to.
const END_WITHIN: Duration = Duration::from_secs(10);

/// A running program. Dropping it ends the program and everything in its process group.
pub struct Child {
    /// Its name in messages.
    name: String,
    process: process::Child,
    /// Its standard output and error go to files without a name: a pipe that is not read while the program
    /// runs would fill up and stop it.
    output: File,
    errors: File,
    /// The process that ends the group if this program is killed; wrk and similar programs end by themselves.
    keeper: Option<process::Child>,
    /// Whether its whole group is asked to end and waited for, not only the program.
    pub by_group: bool,
}

impl Child {
    /// Starts a program in a process group of its own: Ctrl-C in a terminal reaches a whole group, and this
    /// program must decide when the child ends.
    ///
    /// # Errors
    /// When it cannot be started, with the `io::Error` inside, for a remedy.
    pub fn start(name: impl Into<String>, command: &mut Command, input: Stdio) -> Result<Self> {
        let name = name.into();
        let no_file = "cannot create a temporary file; check the space in the folder TMPDIR";
        let output = tempfile::tempfile().context(no_file)?;
        let errors = tempfile::tempfile().context(no_file)?;
        let process = command
            .stdin(input)
            .stdout(output.try_clone()?)
            .stderr(errors.try_clone()?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, process, output, errors, keeper: None, by_group: false })
    }

    /// The same for a server: its whole process group ends with this program, even if this program is killed.
    pub fn start_server(
        name: impl Into<String>,
        command: &mut Command,
        input: Stdio,
    ) -> Result<Self> {
        let mut child = Self::start(name, command, input)?;
        child.keeper = Some(keeper(child.pid())?);
        Ok(child)
    }

    /// Its process id, which is its process group's id as well.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Calls `done` until it returns a value, or the time is over (`None`).
    pub fn wait_for<T>(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = done(self)? {
                return Ok(Some(found));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            sleep(LOOK_EVERY);
        }
    }

    /// Waits until a server serves, as [`wait_for`](Self::wait_for).
    /// Fails when it ends, with the reason that `reason` finds in its output, and after Ctrl-C.
    pub fn wait_until_it_serves<T>(
        &mut self,
        limit: Duration,
        reason: fn(&Self) -> String,
        mut serves: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        self.wait_for(limit, |child| {
            interrupt::check()?;
            if let Some(status) = child.ended()? {
                bail!("{} did not start ({status}): {}", child.name, reason(child));
            }
            serves()
        })
    }

    /// Sends a signal to the program only.
    pub fn signal(&self, signal: Signal) {
        // It fails if the program has just ended, which does not matter.
        let _ = kill(Pid::from_raw(self.pid() as i32), signal);
    }

    /// Sends a signal to the program's process group.
    fn signal_group(&self, signal: Signal) {
        let _ = killpg(Pid::from_raw(self.pid() as i32), signal);
    }

    /// Asks the program to end, and kills it if it does not. With `by_group` the whole group, even if the program
    /// itself has ended and left other processes behind.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        match (self.by_group, self.ended()?) {
            (true, _) => self.signal_group(Signal::SIGTERM),
            (false, None) => self.signal(Signal::SIGTERM),
            (false, Some(status)) => return Ok(status),
        }
        let status = match self.wait_for(END_WITHIN, Self::ended)? {
            Some(status) => status,
            None => {
                self.signal_group(Signal::SIGKILL);
                self.process.wait().with_context(|| format!("cannot wait for {}", self.name))?
            }
        };
        if !self.by_group {
            return Ok(status);
        }
        let keeper = self.keeper.as_ref().map(process::Child::id);
        let all_ended = self.wait_for(END_WITHIN, |child| {
            let left = procfs::family(child.pid())?;
            Ok(left.iter().all(|process| Some(process.pid) == keeper).then_some(()))
        })?;
        if all_ended.is_none() {
            self.signal_group(Signal::SIGKILL);
        }
        Ok(status)
    }

    /// All it has written to its standard output.
    pub fn output(&self) -> String {
        read_all(&self.output)
    }

    /// All it has written to its standard error.
    pub fn errors(&self) -> String {
        read_all(&self.errors)
    }

    /// The last line of its standard error: the reason, if it ended early.
    pub fn last_words(&self) -> String {
        let errors = self.errors();
        let last = errors.lines().map(str::trim).rfind(|line| !line.is_empty());
        last.unwrap_or("it printed nothing on stderr").to_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.stop();
        // A server may leave processes behind that ignore other signals.
        if let Some(mut keeper) = self.keeper.take() {
            self.signal_group(Signal::SIGKILL);
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
    }
}

/// Starts a process in a server's process group that kills the whole group when this program has ended.
///
/// It waits at the read end of a pipe whose other end only this program has. The kernel closes that end
/// however this program ends. As a member it keeps the group's id from being reused, and Ctrl-C, which
/// goes to the terminal's foreground group, does not reach it.
fn keeper(leader: u32) -> Result<process::Child> {
    // The trap: signals to the server's group are not for the keeper.
    let script = "trap '' HUP INT QUIT TERM USR1 USR2; read -r _; kill -s KILL 0";
    Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(leader as i32)
        .spawn()
        .context("cannot start the process that ends the server if loadtest is killed")
}

/// A file's whole content, read without moving the file position, which the writing program shares.
fn read_all(file: &File) -> String {
    let mut bytes = vec![0; file.metadata().map_or(0, |found| found.len()) as usize];
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        Child::start("a shell", command.args(["-c", script]), Stdio::null()).unwrap()
    }

    #[test]
    fn the_last_line_on_stderr_is_its_last_words() {
        let mut child = shell("echo out; echo first >&2; echo why >&2; echo >&2; exit 3");
        let status = child.wait_for(END_WITHIN, Child::ended).unwrap().unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(child.last_words(), "why");
        assert_eq!(child.output(), "out\n");
    }

    #[test]
    fn it_has_a_process_group_of_its_own_and_dropping_it_ends_it() {
        let child = shell("exec sleep 60");
        let pid = Pid::from_raw(child.pid() as i32);
        assert_eq!(nix::unistd::getpgid(Some(pid)).unwrap(), pid);
        drop(child);
        assert!(kill(pid, None).is_err());
    }
}
