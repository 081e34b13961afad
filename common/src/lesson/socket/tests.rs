//! Listening sockets, and which others can be bound to the same port.

use super::*;
use crate::kernel::sockets::inode;

fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[test]
fn one_socket_keeps_others_out() {
    let first = listen(any_port(), 8, Sharing::OneSocket).unwrap();
    let address = first.local_addr().unwrap();
    for sharing in [Sharing::OneSocket, Sharing::ReusePort] {
        let refusal = listen(address, 8, sharing).unwrap_err();
        assert!(refusal.to_string().contains("listens there"), "{refusal:#}");
    }
}

#[test]
fn sockets_with_reuse_port_share_an_address() {
    let first = listen(any_port(), 8, Sharing::ReusePort).unwrap();
    let second = listen(first.local_addr().unwrap(), 8, Sharing::ReusePort).unwrap();
    assert_ne!(inode(&first), inode(&second));
}

#[test]
fn an_address_of_another_machine_is_refused_by_name() {
    let refusal = listen("192.0.2.1:80".parse().unwrap(), 8, Sharing::OneSocket).unwrap_err();
    assert!(refusal.to_string().contains("no address 192.0.2.1"), "{refusal:#}");
}
