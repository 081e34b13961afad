//! For a server that systemd starts: socket activation, and notifications.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use listenfd::ListenFd;
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
use sd_notify::NotifyState;
use socket2::SockRef;

/// The listening socket that systemd passed, if it did (sd_listen_fds(3), socket activation). It is
/// bound and listens already, with the backlog of the socket unit.
///
/// # Errors
/// When systemd passed several, or one that is not a listening TCP socket.
pub fn listening_socket() -> Result<Option<TcpListener>> {
    let mut passed = ListenFd::from_env();
    if passed.len() == 0 {
        return Ok(None);
    }
    ensure!(
        passed.len() == 1,
        "{} sockets were passed (LISTEN_FDS), and one can be served; with systemd, leave one \
         ListenStream= in the socket unit",
        passed.len()
    );
    let what = "the socket that was passed (LISTEN_FDS) is not a listening TCP socket";
    let listener = passed.take_tcp_listener(0).context(what)?.context(what)?;
    ensure!(
        getsockopt(&listener, AcceptConn)?,
        "the socket that was passed (LISTEN_FDS) does not listen; with systemd, set Accept=no and \
         ListenStream= in the socket unit"
    );
    listener.set_nonblocking(true)?;
    SockRef::from(&listener).set_tcp_nodelay(true)?; // as on a socket of the server's own
    Ok(Some(listener))
}

/// Refuses a socket that systemd passed to a server that cannot use one.
///
/// # Errors
/// When systemd passed one.
pub fn refuse_sockets() -> Result<()> {
    let passed = ListenFd::from_env().len();
    ensure!(
        passed == 0,
        "sockets were passed (LISTEN_FDS={passed}), and cannot be used: each worker binds one of its \
         own; start reuseport-server without a socket unit, or use shared-fd-server"
    );
    Ok(())
}

/// Tells systemd, if it asked for that (NOTIFY_SOCKET), that all workers serve: after the start, and after a
/// reload. The status is a line for `systemctl status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells systemd that a reload begins, which ends when the server is [`ready`] again. With `Type=notify-reload`
/// systemd takes this as an answer to its SIGHUP if the message's time is later than the signal.
pub fn reloading(status: &str) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status(status)]),
        Err(error) => tracing::warn!("cannot notify systemd of a reload: {error}"),
    }
}

/// Tells systemd the status.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Tells systemd that the server is another process from now on.
pub fn main_process(pid: i32) {
    tell(&[NotifyState::MainPid(pid.unsigned_abs())]);
}

/// Tells systemd that the server ends.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// How often to tell systemd that the parent is [`alive`]: twice as often as it demands (WATCHDOG_USEC); `None` if
/// it does not.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|half| !half.is_zero())
}

/// Tells systemd that the parent is alive, that is, handles signals and messages. The parent watches its workers
/// itself.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot notify systemd ({state:?}): {error}");
    }
}
