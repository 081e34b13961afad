//! One question to the kernel over netlink, and all its answers.

use std::fmt::Debug;
use std::io;

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// Asks the kernel, and waits for the whole answer, which is about the network namespace of the calling
/// thread.
///
/// `flags` is `NLM_F_DUMP` for a question with many answers, `NLM_F_ACK` for an order: without either
/// the kernel would not mark the end, and this would wait for ever.
/// Fails when the kernel refuses, with its `io::Error` inside.
pub fn ask<Message>(protocol: isize, flags: u16, question: Message) -> Result<Vec<Message>>
where
    Message: NetlinkSerializable + NetlinkDeserializable + Debug,
{
    let socket = Socket::new(protocol).context("cannot open a netlink socket")?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    let kernel = SocketAddr::new(0, 0);
    socket.send_to(&bytes, &kernel, 0).context("cannot ask the kernel")?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().context("the kernel gave no answer")?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let length = NetlinkBuffer::new_checked(rest)?.length() as usize;
            match NetlinkMessage::<Message>::deserialize(rest)?.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Done(done) if done.code == 0 => return Ok(answers),
                // The end of a failed dump carries the error as a negative number.
                NetlinkPayload::Done(done) => {
                    return Err(io::Error::from_raw_os_error(-done.code).into());
                }
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                other => bail!("the kernel gave an answer of another kind: {other:?}"),
            }
            // Each message of a datagram begins at a multiple of 4 bytes.
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}
