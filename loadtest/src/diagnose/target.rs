//! The server to observe: given by a port, by a process, or by both.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use common::kernel::port_owner::{holder, name_of};
use common::kernel::sock_diag;
use procfs::ProcError;

use crate::diagnose::families::ancestor;
use crate::diagnose::observer::Observer;
use crate::kernel::netns;
use crate::kernel::open_sockets::OpenSockets;
use crate::kernel::procfs::{Running, family};

/// A port in this network namespace, or a process with its port in its own namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target {
    /// The port; not needed for a process that listens on only one.
    pub port: Option<u16>,
    /// A process of the server.
    pub pid: Option<u32>,
}

impl Target {
    /// Finds the server, begins to observe it, and calls the function with the observer; for another network namespace
    /// on a thread that has entered it.
    ///
    /// # Errors
    /// When there is no such server, or it may not be looked at; with the remedy.
    pub fn observe<T: Send>(
        self,
        action: impl FnOnce(&mut Observer) -> Result<T> + Send,
    ) -> Result<T> {
        let Some(pid) = self.pid else {
            let port = self.port.context("name a --port or a --pid")?;
            return observe(port, None, action);
        };
        ensure!(
            Running::of(pid).is_some(),
            "there is no process {pid}; name the port of the server instead: --port N"
        );
        netns::within_that_of(pid, || {
            let port = self.port.map_or_else(|| port_of(pid), Ok)?;
            observe(port, Some(pid), action)
        })
    }
}

fn observe<T>(
    port: u16,
    pid: Option<u32>,
    action: impl FnOnce(&mut Observer) -> Result<T>,
) -> Result<T> {
    if sock_diag::listeners(port)?.is_empty() {
        bail!("nothing listens on port {port} of this network namespace; {}", nearest(port)?);
    }
    action(&mut Observer::start(port, pid)?)
}

/// The nearest port with a listening socket, for a user who mistyped it.
fn nearest(port: u16) -> Result<String> {
    let all = sock_diag::details(0)?;
    let nearest = all.iter().min_by_key(|found| found.listener.address.port().abs_diff(port));
    let container = "for a server in a container use --pid";
    Ok(match nearest {
        None => format!("no process listens on any port; {container}"),
        Some(found) => {
            let who = holder(found.listener.inode).map_or_else(String::new, |it| format!(", {it}"));
            let port = found.listener.address.port();
            format!("the nearest port in use is {port}{who}; {container}")
        }
    })
}

/// The port on which a process listens or, if it does not, its descendants or its server.
fn port_of(pid: u32) -> Result<u16> {
    let name = name_of(pid).unwrap_or_default();
    let all = sock_diag::details(0)?;
    let mut is_hidden = false;
    let mut ports = |pids: &[u32]| -> BTreeSet<u16> {
        let mut inodes = BTreeSet::new();
        for &pid in pids {
            match OpenSockets::of(pid) {
                Ok(open) => inodes.extend(open.inodes()),
                Err(ProcError::PermissionDenied(_)) => is_hidden = true,
                Err(_) => {} // it has just ended
            }
        }
        let has = all.iter().filter(|found| inodes.contains(&found.listener.inode));
        has.map(|found| found.listener.address.port()).collect()
    };
    let pids = |root| -> Result<Vec<u32>> { Ok(family(root)?.iter().map(|it| it.pid).collect()) };
    let mut found = ports(&[pid]);
    for root in [pid, ancestor(pid)] {
        if found.is_empty() {
            found = ports(&pids(root)?);
        }
    }
    let ports: Vec<String> = found.iter().map(u16::to_string).collect();
    match (found.first(), found.len()) {
        (Some(&port), 1) => Ok(port),
        (None, _) if is_hidden => bail!(
            "cannot inspect process {pid} ({name}): run as root, or as its user, or grant \
             CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
        ),
        (None, _) => bail!(
            "process {pid} ({name}) is not a server: neither it nor its descendants have a \
             listening TCP socket; name the port of the server: --port N"
        ),
        _ => bail!(
            "process {pid} ({name}) listens on several ports; add --port with one of {}",
            ports.join(", ")
        ),
    }
}
