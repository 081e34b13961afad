//! A network namespace: a loopback, ports, sysctls and counters of one's own.
//!
//! An experiment that turns a sysctl, or looks at counters that the whole machine shares, must not
//! do so where others work. A namespace belongs to a thread; the threads and programs it starts
//! inherit it, and the kernel removes it with the last of them.

use std::any::Any;
use std::fs::OpenOptions;
use std::io::Write;
use std::thread;

use anyhow::{Context, Result, anyhow};
use netlink_packet_core::NLM_F_ACK;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sched::{CloneFlags, unshare};

use super::netlink;

/// The loopback is the first interface of every namespace.
const LOOPBACK: u32 = 1;

/// Runs `action` in a network namespace that it has to itself, where the loopback is up and these
/// sysctls are set, each as its path below `/proc/sys` and its value: `("net/ipv4/tcp_migrate_req",
/// "1")`.
///
/// The action runs on a thread of its own, because the rest of this program stays where it is. What
/// asks `/proc/net` still sees the outside: that is the namespace of the process's first thread;
/// `/proc/thread-self/net` is that of the caller.
///
/// # Errors
/// When there can be no such namespace, a sysctl cannot be set, or the action
/// fails or panics.
pub fn within<T: Send>(
    sysctls: &[(&str, &str)],
    action: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let enter_and_act = || {
        unshare(CloneFlags::CLONE_NEWNET).context(
            "cannot make a network namespace, which needs CAP_SYS_ADMIN: run as root, or begin the \
             command with `unshare --map-root-user`",
        )?;
        raise_loopback().context("cannot set up the loopback of a network namespace")?;
        sysctls.iter().try_for_each(|(path, value)| set(path, value))?;
        action()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".into());
        let thread = thread.spawn_scoped(scope, enter_and_act).context("cannot start a thread")?;
        thread.join().unwrap_or_else(|panic| Err(anyhow!("panic: {}", words_of(&*panic))))
    })
}

/// Whether there can be a namespace with sysctls of its own; if not, why not, and the remedy.
#[cfg(test)]
pub fn available() -> std::result::Result<(), String> {
    // Any sysctl of a namespace would do. In a container /proc/sys is often read-only.
    within(&[("net/core/somaxconn", "4096")], || Ok(())).map_err(|error| format!("{error:#}"))
}

/// What `ip link set lo up` does.
fn raise_loopback() -> Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = LOOPBACK;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    netlink::ask(NETLINK_ROUTE, NLM_F_ACK, RouteNetlinkMessage::SetLink(link)).map(drop)
}

/// Sets a sysctl of the calling thread's namespace: that is whose `/proc/sys/net` shows.
fn set(path: &str, value: &str) -> Result<()> {
    let write = || {
        OpenOptions::new()
            .write(true)
            .open(format!("/proc/sys/{path}"))?
            .write_all(value.as_bytes())
    };
    write()
        .with_context(|| format!("cannot set the sysctl {path} to {value} in a network namespace"))
}

/// What a panic said; `panic!` leaves one of these two types.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason".into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use super::*;
    use crate::kernel::sock_diag::listeners;

    const SYSCTL: &str = "net/ipv4/tcp_fin_timeout";

    fn sysctl() -> String {
        std::fs::read_to_string(format!("/proc/sys/{SYSCTL}")).unwrap().trim().to_owned()
    }

    /// Runs a test's action, or says why it cannot.
    fn try_within<T: Send>(
        sysctls: &[(&str, &str)],
        action: impl FnOnce() -> Result<T> + Send,
    ) -> Option<Result<T>> {
        match available() {
            Ok(()) => Some(within(sysctls, action)),
            Err(reason) => {
                crate::skip_test(&reason);
                None
            }
        }
    }

    #[test]
    fn a_client_inside_reaches_a_listener_inside_and_the_port_is_free_outside() {
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = outside.local_addr().unwrap();
        let Some(done) = try_within(&[], || {
            assert!(TcpStream::connect(address).is_err(), "nobody listens in here");
            let inside = TcpListener::bind(address)?;
            let mut client = TcpStream::connect(address)?;
            inside.accept()?.0.write_all(b"hello")?;
            let mut heard = [0; 5];
            client.read_exact(&mut heard)?;
            assert_eq!(&heard, b"hello");
            assert_eq!(listeners(address.port())?.len(), 1);
            Ok(listeners(address.port())?[0].inode)
        }) else {
            return;
        };
        let inside = done.unwrap();
        let seen = listeners(address.port()).unwrap();
        assert!(seen.len() == 1 && seen[0].inode != inside, "{seen:?}");
    }

    #[test]
    fn a_sysctl_is_set_inside_and_stays_as_it_was_outside() {
        let before = sysctl();
        let Some(done) = try_within(&[(SYSCTL, "7")], || {
            assert_eq!(sysctl(), "7");
            Ok(())
        }) else {
            return;
        };
        done.unwrap();
        assert_eq!(sysctl(), before);
        assert_ne!(before, "7", "this test would show nothing");
    }

    #[test]
    fn threads_and_programs_started_inside_are_inside() {
        let Some(done) = try_within(&[(SYSCTL, "8")], || {
            assert_eq!(thread::spawn(sysctl).join().unwrap(), "8");
            let output = Command::new("cat").arg(format!("/proc/sys/{SYSCTL}")).output()?;
            assert_eq!(output.stdout, b"8\n");
            let output = Command::new("cat").arg("/proc/net/dev").output()?;
            let devices = String::from_utf8(output.stdout)?;
            let names = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
            assert!(names.clone().any(|name| name == "lo"), "{devices}");
            assert!(!names.clone().any(|name| name.starts_with("eth")), "{devices}");
            Ok(())
        }) else {
            return;
        };
        done.unwrap();
    }

    #[test]
    fn an_error_and_a_panic_inside_are_errors_outside() {
        let Some(done) = try_within(&[], || Err::<(), _>(anyhow!("no luck"))) else { return };
        assert_eq!(done.unwrap_err().to_string(), "no luck");
        let panics = within(&[], || -> Result<()> { panic!("number {}", 7) });
        assert_eq!(panics.unwrap_err().to_string(), "panic: number 7");
    }

    #[test]
    fn a_sysctl_that_there_is_not_is_named() {
        let Some(done) = try_within(&[("net/ipv4/tcp_magic", "1")], || Ok(())) else { return };
        let refusal = format!("{:#}", done.unwrap_err());
        assert!(refusal.contains("net/ipv4/tcp_magic"), "{refusal}");
        assert!(refusal.contains("No such file"), "{refusal}");
    }
}
