//! How a process ended.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With status 0, as a worker that was told to.
    Done,
    /// By SIGKILL, as a worker that the parent kills.
    Killed,
    /// In another way, in its own words if it has said why.
    Failed(String),
}

impl Exit {
    /// How a process ended with this status, and perhaps with these words before.
    pub fn of(status: ExitStatus, last_words: Option<String>) -> Self {
        match (last_words, status.code(), status.signal().unwrap_or_default()) {
            (Some(words), ..) => Self::Failed(words),
            (None, Some(0), _) => Self::Done,
            (None, Some(code), _) => Self::Failed(format!("exited with status {code}")),
            (None, None, libc::SIGKILL) => Self::Killed,
            (None, None, number) => Self::Failed(match Signal::try_from(number) {
                Ok(signal) => format!("was killed by {signal}"),
                Err(_) => format!("was killed by signal {number}"),
            }),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Self::Done => "exited with status 0",
            Self::Killed => "was killed by SIGKILL",
            Self::Failed(why) => why,
        })
    }
}

/// The next child that has ended, if there is one, and its status.
///
/// nix's waitpid would lose a child that was killed by a real-time signal: the kernel has forgotten the child when nix
/// finds that it has no name for this signal, and returns an error without the pid.
#[allow(unsafe_code)]
pub fn next_dead() -> Option<(Pid, ExitStatus)> {
    let mut status = 0;
    // SAFETY: the kernel writes one integer, for which there is room.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    (pid > 0).then(|| (Pid::from_raw(pid), ExitStatus::from_raw(status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_told_by_status_or_signal_or_in_its_own_words() {
        let said = |status, words: Option<&str>| {
            Exit::of(ExitStatus::from_raw(status), words.map(str::to_owned)).to_string()
        };
        assert_eq!(said(0, None), "exited with status 0");
        assert_eq!(said(3 << 8, None), "exited with status 3");
        assert_eq!(said(9, None), "was killed by SIGKILL");
        assert_eq!(said(6, None), "was killed by SIGABRT");
        assert_eq!(said(34, None), "was killed by signal 34");
        assert_eq!(said(1 << 8, Some("no memory")), "no memory");
    }
}
