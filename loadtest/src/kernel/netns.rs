//! Network namespaces: separate loopback, ports, sysctls and counters.
//!
//! An experiment that changes a sysctl, or reads counters that the whole machine shares, must not do
//! that in the machine's namespace. A namespace belongs to a thread; the threads and programs that it
//! starts inherit it, and the kernel removes it with the last of them.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::thread;

use anyhow::{Context, Error, Result, bail};
use netlink_packet_core::{NLM_F_ACK, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::libc::{IFF_UP, RTM_SETLINK};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::geteuid;

use common::kernel::netlink;

/// The loopback is the first interface of every namespace.
const LOOPBACK: u32 = 1;

/// Runs `action` in a new network namespace, where the loopback is up and these sysctls are set, each
/// given by its path below `/proc/sys` and its value: `("net/ipv4/tcp_migrate_req", "1")`.
///
/// The action runs on a thread of its own, because the rest of this program stays in its namespace.
/// `/proc/net` still shows the namespace of the process's first thread; `/proc/thread-self/net` shows
/// that of the caller.
///
/// # Errors
/// When there can be no such namespace, a sysctl cannot be set, or the action fails or panics.
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
    on_a_thread(enter_and_act)
}

/// Runs `action` in the network namespace of a process, on a thread of its own if that is another namespace.
///
/// # Errors
/// When there is no such process, it may not be looked at, its namespace may not be entered, or the
/// action fails or panics.
pub fn within_that_of<T: Send>(pid: u32, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/proc/{pid}/ns/net");
    let theirs = std::fs::read_link(&path).map_err(|error| {
        let refusal = match error.kind() {
            ErrorKind::NotFound => "it has ended",
            _ if geteuid().is_root() => {
                "even root may not here, which takes CAP_SYS_PTRACE and the consent of whatever \
                 confines the process; name the port of the server alone: --port N"
            }
            _ => {
                "this user may not: run as root, or as the process's user, or grant CAP_SYS_PTRACE"
            }
        };
        let refusal = format!("cannot look at process {pid}: {refusal}");
        Error::new(error).context(refusal)
    })?;
    if std::fs::read_link("/proc/self/ns/net").is_ok_and(|own| own == theirs) {
        return action();
    }
    on_a_thread(|| {
        let entered = std::fs::File::open(&path)
            .and_then(|theirs| Ok(setns(theirs, CloneFlags::CLONE_NEWNET)?));
        entered.with_context(|| {
            format!(
                "cannot enter the network namespace of process {pid}: run as root (CAP_SYS_ADMIN), or \
                 begin the command with `nsenter --user --net --preserve-credentials -t {pid}`"
            )
        })?;
        action()
    })
}

fn on_a_thread<T: Send>(action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".into());
        let thread = thread.spawn_scoped(scope, action).context("cannot start a thread")?;
        thread.join().unwrap_or_else(|_| bail!("the thread in the network namespace panicked"))
    })
}

/// Whether this program can make a namespace and set its sysctls; if not, the reason and the remedy.
#[cfg(test)]
pub fn available() -> std::result::Result<(), String> {
    // Any sysctl of a namespace will do. In a container /proc/sys is often read-only.
    within(&[("net/core/somaxconn", "4096")], || Ok(())).map_err(|error| format!("{error:#}"))
}

/// Does the same as `ip link set lo up`.
fn raise_loopback() -> Result<()> {
    netlink::ask(NETLINK_ROUTE, NLM_F_ACK, RaiseLoopback).map(drop)
}

/// The request to the kernel: a `struct ifinfomsg`, see rtnetlink(7). The crate for these messages,
/// netlink-packet-route, takes as long to build as tokio, nix and hyper together.
#[derive(Debug)]
struct RaiseLoopback;

impl NetlinkSerializable for RaiseLoopback {
    fn message_type(&self) -> u16 {
        RTM_SETLINK
    }

    fn buffer_len(&self) -> usize {
        16
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..4].fill(0); // address family and type of device: not used
        buffer[4..8].copy_from_slice(&LOOPBACK.to_ne_bytes());
        buffer[8..12].copy_from_slice(&(IFF_UP as u32).to_ne_bytes());
        buffer[12..16].copy_from_slice(&(IFF_UP as u32).to_ne_bytes()); // the only flag to change
    }
}

/// The kernel acknowledges the request, and sends no other answer.
impl NetlinkDeserializable for RaiseLoopback {
    type Error = Infallible;

    fn deserialize(_: &NetlinkHeader, _: &[u8]) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

/// A sysctl that is a number, as the calling thread's namespace has it; `None` if the kernel has no such one.
pub fn sysctl(path: &str) -> Option<u32> {
    std::fs::read_to_string(format!("/proc/sys/{path}")).ok()?.trim().parse().ok()
}

/// Sets a sysctl of the calling thread's namespace, which `/proc/sys/net` shows.
fn set(path: &str, value: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).open(format!("/proc/sys/{path}"));
    file.and_then(|mut file| file.write_all(value.as_bytes()))
        .with_context(|| format!("cannot set the sysctl {path} to {value} in a network namespace"))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use super::*;
    use common::kernel::sock_diag::listeners;

    const SYSCTL: &str = "net/ipv4/tcp_fin_timeout";

    /// The standard output of `cat`.
    fn cat(path: &str) -> Result<String> {
        Ok(String::from_utf8(Command::new("cat").arg(path).output()?.stdout)?)
    }

    #[test]
    fn ports_sysctls_and_devices_inside_are_others_also_for_threads_and_programs() {
        if let Err(reason) = available() {
            return crate::skip_test(&reason);
        }
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        let value = || sysctl(SYSCTL);
        let (address, before) = (outside.local_addr().unwrap(), value());
        assert_ne!(before, Some(7), "this test would show nothing");
        let inside = within(&[(SYSCTL, "7")], || {
            assert!(TcpStream::connect(address).is_err(), "nobody listens in here");
            let inside = TcpListener::bind(address)?;
            let _client = TcpStream::connect(address)?;
            inside.accept()?;
            assert_eq!([value(), thread::spawn(value).join().unwrap()], [Some(7); 2]);
            assert_eq!(cat(&format!("/proc/sys/{SYSCTL}"))?, "7\n");
            let devices = cat("/proc/net/dev")?;
            let names = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
            assert!(names.clone().any(|name| name == "lo"), "{devices}");
            assert!(!names.clone().any(|name| name.starts_with("eth")), "{devices}");
            Ok(listeners(address.port())?.iter().map(|found| found.inode).collect::<Vec<_>>())
        });
        let seen = listeners(address.port()).unwrap();
        assert!(seen.len() == 1 && inside.unwrap() != [seen[0].inode], "{seen:?}");
        assert_eq!(value(), before);
    }

    #[test]
    fn the_namespace_of_another_process_is_entered() {
        if let Err(reason) = available() {
            return crate::skip_test(&reason);
        }
        let (listener, mut child) = within(&[], || {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            Ok((listener, Command::new("sleep").arg("60").spawn()?))
        })
        .unwrap();
        let port = listener.local_addr().unwrap().port();
        let count = || Ok(listeners(port)?.len());
        assert_eq!(within_that_of(child.id(), count).unwrap(), 1);
        assert_eq!(within_that_of(std::process::id(), count).unwrap(), 0);
        child.kill().unwrap();
        child.wait().unwrap();
        let refusal = within_that_of(u32::MAX / 2, count).unwrap_err().to_string();
        assert!(refusal.contains("cannot look at process") && refusal.contains("has ended"));
    }

    #[test]
    fn what_fails_inside_is_an_error_outside() {
        if let Err(reason) = available() {
            return crate::skip_test(&reason);
        }
        let refusal = |sysctls: &[_], action: fn() -> Result<()>| {
            format!("{:#}", within(sysctls, action).unwrap_err())
        };
        assert_eq!(refusal(&[], || bail!("no luck")), "no luck");
        assert!(refusal(&[], || panic!("as is tested here")).contains("panicked"));
        let refusal = refusal(&[("net/ipv4/tcp_magic", "1")], || Ok(()));
        assert!(refusal.contains("net/ipv4/tcp_magic") && refusal.contains("No such file"));
    }
}
