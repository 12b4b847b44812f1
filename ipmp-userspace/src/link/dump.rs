//! Dumps: lists that the kernel sends in several messages. It writes each message while that is received, so that reading one waits for
//! nothing but locks of the kernel.
//!
//! If the list changes between two of these messages, an object that exists may be missing. The kernel marks such a dump with
//! NLM_F_DUMP_INTR (`nl_dump_check_consistent`, include/net/netlink.h); it is read again.

use std::{io, ops::ControlFlow};

use rtnetlink::{
    packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::event_socket::each_message;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// How often an interrupted dump is read. The last one is used even if it was interrupted, too: where the list changes all
/// the time, an absence must be confirmed by other means.
const ATTEMPTS: usize = 10;

/// A dump as it was received.
struct Dump<T> {
    objects: Vec<T>,
    is_interrupted: bool,
}

/// Reads a list of the kernel, without the objects of which `parse` makes nothing. The call blocks.
pub(super) fn dump<T>(
    request: &RouteNetlinkMessage,
    mut parse: impl FnMut(RouteNetlinkMessage) -> Option<T>,
) -> io::Result<Vec<T>> {
    until_consistent(|| {
        let mut objects = Vec::new();
        let is_interrupted = each_object(request.clone(), |object| objects.extend(parse(object)))?;
        Ok(Dump { objects, is_interrupted })
    })
}

fn until_consistent<T>(mut read: impl FnMut() -> io::Result<Dump<T>>) -> io::Result<Vec<T>> {
    for _ in 1..ATTEMPTS {
        let dump = read()?;
        if !dump.is_interrupted {
            return Ok(dump.objects);
        }
    }
    log::debug!("a list of the kernel has changed during each of {ATTEMPTS} attempts to read it");
    Ok(read()?.objects)
}

/// Reads a list of the kernel once, object by object; returns whether it has changed meanwhile. The call blocks. Since Linux 4.20 the
/// kernel leaves out what the request does not match.
pub(super) fn each_object(
    request: RouteNetlinkMessage,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> io::Result<bool> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Without it a dump is not filtered.
    let _ = socket.set_netlink_get_strict_chk(true);
    let mut request = NetlinkMessage::from(request);
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut is_interrupted = false;
    loop {
        chunk.clear();
        match socket.recv(&mut chunk, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        let end = each_message(&chunk, |message| {
            is_interrupted |= i32::from(message.header.flags) & libc::NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(object) => {
                    each(object);
                    ControlFlow::Continue(())
                }
                NetlinkPayload::Done(done) if done.code < 0 => {
                    ControlFlow::Break(Err(io::Error::from_raw_os_error(-done.code)))
                }
                NetlinkPayload::Done(_) => ControlFlow::Break(Ok(())),
                NetlinkPayload::Error(error) => ControlFlow::Break(Err(error.to_io())),
                NetlinkPayload::Overrun(_) => {
                    is_interrupted = true;
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Continue(()),
            }
        });
        if let ControlFlow::Break(result) = end {
            return result.map(|()| is_interrupted);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::IpAddr,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering::Relaxed},
        },
        thread,
        time::{Duration, Instant},
    };

    use rtnetlink::packet_route::address::AddressMessage;

    use super::*;
    use crate::link::{Address, Links, testing::in_namespace};

    const LOOPBACK: u32 = 1;

    fn address(number: u16) -> Address {
        let [third, fourth] = number.to_be_bytes();
        Address::new(IpAddr::from([10, 0, third, fourth]), 32)
    }

    /// Adds and removes an address, in the network namespace of the thread that calls it.
    fn change_until(stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let links = Links::open().unwrap();
                while !stop.load(Relaxed) {
                    links.add_address(LOOPBACK, "lo", &address(u16::MAX)).await.unwrap();
                    links.delete_address(LOOPBACK, "lo", &address(u16::MAX)).await.unwrap();
                }
            });
        })
    }

    #[test]
    fn list_that_changes_while_it_is_read_is_interrupted() {
        in_namespace(|links| async move {
            // More than one message of the kernel has room for.
            for number in 0..1000 {
                links.add_address(LOOPBACK, "lo", &address(number)).await.unwrap();
            }
            let is_interrupted = || {
                let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
                each_object(request, |_| {}).unwrap()
            };
            assert!(!is_interrupted());
            let stop = Arc::new(AtomicBool::new(false));
            let changes = change_until(stop.clone());
            let start = Instant::now();
            let mut count = 1;
            while !is_interrupted() {
                assert!(start.elapsed() < Duration::from_secs(30), "{count} lists, none interrupted");
                count += 1;
            }
            println!("list {count} was interrupted, after {:?}", start.elapsed());
            stop.store(true, Relaxed);
            changes.join().unwrap();
        });
    }

    /// Reads dumps that are interrupted `interrupted` times; what is returned, and how many were read.
    fn read_after(interrupted: usize) -> (Vec<usize>, usize) {
        let mut count = 0;
        let objects = until_consistent(|| {
            count += 1;
            Ok(Dump { objects: vec![count], is_interrupted: count <= interrupted })
        });
        (objects.unwrap(), count)
    }

    #[test]
    fn interrupted_dump_is_read_again() {
        assert_eq!(read_after(0), (vec![1], 1));
        assert_eq!(read_after(3), (vec![4], 4));
        assert_eq!(read_after(usize::MAX), (vec![ATTEMPTS], ATTEMPTS));
    }
}
