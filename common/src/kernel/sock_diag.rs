//! The listening sockets of a port, how many connections wait in each accept queue, and the accepted connections.
//!
//! It uses sock_diag, as ss(8) does. `/proc/net/tcp` has the same figures, but for it the kernel goes
//! through all connections, including those in TIME_WAIT; here it looks only at the listening sockets
//! of that port.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, InetResponseHeader, SocketId, StateFlags,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use serde::{Deserialize, Serialize};

use super::netlink;

/// A listening TCP socket.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// The address that it is bound to.
    pub address: SocketAddr,
    /// Its inode, as in `/proc/PID/fd`: the same for all processes that share it.
    pub inode: u64,
    /// The user that made it.
    pub uid: u32,
    /// Connections that wait in its accept queue (`idiag_rqueue`).
    pub queued: u32,
    /// How many may wait at most (`idiag_wqueue`): the backlog of listen(2), or the sysctl net.core.somaxconn if that
    /// is less. The kernel lets one more in.
    pub backlog: u32,
}

/// All TCP sockets that listen on this port in this thread's network namespace, on any address, in
/// the order of their inodes.
///
/// # Errors
/// When the kernel does not answer: it was built without `INET_DIAG`, or may not load the module `tcp_diag`.
pub fn listeners(port: u16) -> Result<Vec<Listener>> {
    let found = sockets(port, StateFlags::LISTEN, &ExtensionFlags::empty())?;
    let mut found: Vec<Listener> =
        found.into_iter().map(|response| Listener::from(&response.header)).collect();
    found.sort_by_key(|listener| listener.inode);
    Ok(found)
}

/// A listening socket with more details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// The socket.
    pub listener: Listener,
    /// How many connections it has dropped so far, for any reason; most often its queue was full.
    pub dropped: u32,
    /// Whether it is an IPv6 socket that takes no IPv4 connections.
    pub only_v6: bool,
}

/// The listening sockets of a port, or of all (0), with their details, in the order of their inodes.
/// Fails as [`listeners`] does.
pub fn details(port: u16) -> Result<Vec<Details>> {
    let details = |response: InetResponse| Details {
        listener: Listener::from(&response.header),
        dropped: (response.nlas.iter())
            .find_map(|nla| if let Nla::MemInfo(memory) = nla { Some(memory.drops) } else { None })
            .unwrap_or(0),
        only_v6: response.nlas.contains(&Nla::SkV6Only(true)),
    };
    let found = sockets(port, StateFlags::LISTEN, &ExtensionFlags::SKMEMINFO)?;
    let mut found: Vec<Details> = found.into_iter().map(details).collect();
    found.sort_by_key(|found| found.listener.inode);
    Ok(found)
}

impl From<&InetResponseHeader> for Listener {
    fn from(header: &InetResponseHeader) -> Self {
        let id = &header.socket_id;
        Self {
            // An IPv6 socket may be bound to an IPv4 address.
            address: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
            inode: header.inode.into(),
            uid: header.uid,
            queued: header.recv_queue,
            backlog: header.send_queue,
        }
    }
}

/// The inodes of the accepted connections of this port that are open at this end. A connection in an accept queue
/// has no inode yet.
pub fn connections(port: u16) -> Result<BTreeSet<u64>> {
    let states = StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT;
    let found = sockets(port, states, &ExtensionFlags::empty())?;
    let inodes = found.iter().map(|response| response.header.inode.into());
    Ok(inodes.filter(|&inode| inode != 0).collect())
}

/// The connections in the accept queues of this port, by the kernel's cookies, which are never used again. A queue is
/// first in, first out: while one waits there, nothing was accepted that came later.
pub fn waiting(port: u16) -> Result<BTreeSet<[u8; 8]>> {
    let states = StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT;
    let found = sockets(port, states, &ExtensionFlags::empty())?;
    let waiting = found.iter().filter(|response| response.header.inode == 0);
    Ok(waiting.map(|response| response.header.socket_id.cookie).collect())
}

/// The TCP sockets of both families on a local port, or on all (0), in any of these states.
fn sockets(
    port: u16,
    states: StateFlags,
    extensions: &ExtensionFlags,
) -> Result<Vec<InetResponse>> {
    let mut found = Vec::new();
    for (family, any) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        let request = SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: extensions.clone(),
            states: StateFlags::from_bits_retain(states.bits()),
            socket_id: SocketId { source_port: port, ..any },
        });
        let answers = netlink::ask(NETLINK_SOCK_DIAG, NLM_F_DUMP, request).with_context(|| {
            format!(
                "cannot ask the kernel about the sockets of port {port}; it needs the module \
                 tcp_diag (as root: modprobe tcp_diag)"
            )
        })?;
        found.extend(answers.into_iter().filter_map(|answer| match answer {
            SockDiagMessage::InetResponse(response) => Some(*response),
            _ => None,
        }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use nix::unistd::getuid;
    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::eventually::eventually;
    use crate::kernel::sockets::inode;

    /// A listening socket with this backlog, which shares its port.
    fn listen(address: IpAddr, port: u16, backlog: i32) -> TcpListener {
        let address = SocketAddr::new(address, port);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        if address.is_ipv6() {
            socket.set_only_v6(true).unwrap(); // so that both families can have the same port
        }
        socket.bind(&address.into()).unwrap();
        socket.listen(backlog).unwrap();
        socket.into()
    }

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn connections_that_nobody_accepts_are_counted_as_queued() {
        let listener = listen(LOOPBACK, 0, 7);
        let address = listener.local_addr().unwrap();
        let (inode_of_it, uid) = (inode(&listener), getuid().as_raw());
        let with = |queued| [Listener { address, inode: inode_of_it, uid, queued, backlog: 7 }];
        assert_eq!(listeners(address.port()).unwrap(), with(0));

        let _clients = [0; 3].map(|_| TcpStream::connect(address).unwrap());
        assert_eq!(listeners(address.port()).unwrap(), with(3));
        assert!(connections(address.port()).unwrap().is_empty());

        let before = waiting(address.port()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let after = waiting(address.port()).unwrap();
        assert!(before.len() == 3 && after.len() == 2 && after.is_subset(&before), "{before:?}");
        assert_eq!(listeners(address.port()).unwrap(), with(2));
        assert_eq!(connections(address.port()).unwrap(), [inode(&accepted)].into());

        drop(listener);
        assert!(eventually(|| listeners(address.port()).unwrap().is_empty()));
    }

    #[test]
    fn details_tell_the_family_and_all_ports_are_one_question() {
        let (four, six) = (listen(LOOPBACK, 0, 1), listen(Ipv6Addr::LOCALHOST.into(), 0, 1));
        let both = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        both.set_only_v6(false).unwrap();
        both.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
        both.listen(1).unwrap();
        let all = details(0).unwrap();
        for (inode, only_v6) in [(inode(&four), false), (inode(&six), true), (inode(&both), false)]
        {
            let found = all.iter().find(|found| found.listener.inode == inode).unwrap();
            assert_eq!((found.only_v6, found.dropped), (only_v6, 0), "{found:?}");
        }
        let port = four.local_addr().unwrap().port();
        assert_eq!(details(port).unwrap()[0].listener, listeners(port).unwrap()[0]);
    }

    #[test]
    fn sockets_of_one_group_and_of_both_families_are_told_apart_and_of_hundreds_none_is_lost() {
        let first = listen(LOOPBACK, 0, 2);
        let port = first.local_addr().unwrap().port();
        let mut sockets = vec![(first, 2), (listen(Ipv6Addr::LOCALHOST.into(), port, 3), 3)];
        // They take more than one datagram.
        sockets.extend((1..500).map(|_| (listen(LOOPBACK, port, 1), 1)));
        let of = |(socket, backlog): &(TcpListener, u32)| {
            (inode(socket), socket.local_addr().unwrap(), *backlog)
        };
        let mut expected: Vec<_> = sockets.iter().map(of).collect();
        expected.sort();
        let found = listeners(port).unwrap();
        let found: Vec<_> = found.iter().map(|l| (l.inode, l.address, l.backlog)).collect();
        assert_eq!(found, expected);
    }
}
