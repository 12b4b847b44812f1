//! Dumps: lists that the kernel sends in several messages.
//!
//! If the list changes between two of these messages, an object that exists may be missing. The kernel marks such a dump with
//! NLM_F_DUMP_INTR (`nl_dump_check_consistent`, include/net/netlink.h); it is read again.

use futures_util::StreamExt;
use rtnetlink::{
    Error, Handle,
    packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};

/// How often an interrupted dump is read. The last one is used even if it was interrupted, too: where the list changes all
/// the time, an absence must be confirmed by other means.
const ATTEMPTS: usize = 10;

/// A dump as it was received.
struct Dump<T> {
    objects: Vec<T>,
    is_interrupted: bool,
}

/// Reads a list of the kernel. The connection must forward the end of a dump (`set_forward_done`), which may be marked, too.
pub(super) async fn dump(
    handle: &Handle,
    request: RouteNetlinkMessage,
) -> Result<Vec<RouteNetlinkMessage>, Error> {
    until_consistent(|| read(handle.clone(), request.clone())).await
}

async fn until_consistent<T, F>(mut read: impl FnMut() -> F) -> Result<Vec<T>, Error>
where
    F: Future<Output = Result<Dump<T>, Error>>,
{
    for _ in 1..ATTEMPTS {
        let dump = read().await?;
        if !dump.is_interrupted {
            return Ok(dump.objects);
        }
    }
    log::debug!("a list of the kernel has changed during each of {ATTEMPTS} attempts to read it");
    Ok(read().await?.objects)
}

async fn read(mut handle: Handle, request: RouteNetlinkMessage) -> Result<Dump<RouteNetlinkMessage>, Error> {
    let mut request = NetlinkMessage::from(request);
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut dump = Dump { objects: Vec::new(), is_interrupted: false };
    let mut messages = handle.request(request)?;
    while let Some(message) = messages.next().await {
        dump.is_interrupted |= i32::from(message.header.flags) & libc::NLM_F_DUMP_INTR != 0;
        match message.payload {
            NetlinkPayload::InnerMessage(object) => dump.objects.push(object),
            NetlinkPayload::Error(error) => return Err(Error::NetlinkError(error)),
            NetlinkPayload::Overrun(_) => dump.is_interrupted = true,
            _ => {}
        }
    }
    Ok(dump)
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
            let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
            let is_interrupted = async || {
                let dump = read(links.lists.clone(), request.clone()).await.unwrap();
                dump.is_interrupted
            };
            assert!(!is_interrupted().await);
            let stop = Arc::new(AtomicBool::new(false));
            let changes = change_until(stop.clone());
            let start = Instant::now();
            let mut count = 1;
            while !is_interrupted().await {
                assert!(start.elapsed() < Duration::from_secs(30), "{count} lists, none interrupted");
                count += 1;
            }
            println!("list {count} was interrupted, after {:?}", start.elapsed());
            stop.store(true, Relaxed);
            changes.join().unwrap();
        });
    }

    /// Reads dumps that are interrupted `interrupted` times; what is returned, and how many were read.
    async fn read_after(interrupted: usize) -> (Vec<usize>, usize) {
        let mut count = 0;
        let objects = until_consistent(|| {
            count += 1;
            std::future::ready(Ok(Dump { objects: vec![count], is_interrupted: count <= interrupted }))
        });
        (objects.await.unwrap(), count)
    }

    #[tokio::test]
    async fn interrupted_dump_is_read_again() {
        assert_eq!(read_after(0).await, (vec![1], 1));
        assert_eq!(read_after(3).await, (vec![4], 4));
        assert_eq!(read_after(usize::MAX).await, (vec![ATTEMPTS], ATTEMPTS));
    }
}
