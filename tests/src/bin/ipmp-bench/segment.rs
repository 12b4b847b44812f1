//! The length of TCP segments that leave the host: segmentation offload must work through the group.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::bulk::Bulk;
use lab::cable::End;
use lab::{filter, packet::PacketSocket};

/// Longer than any segment of IPv4.
const LONGEST: usize = 128 << 10;
const ETHERTYPE_IPV4: u16 = 0x0800;

/// Bytes of the longest frame of a bulk transfer that an interface receives.
pub fn longest(transfer: Bulk, seen_at: &End, time: Duration) -> Result<usize> {
    let filter = filter::ethertype(ETHERTYPE_IPV4);
    let socket = PacketSocket::open(&seen_at.namespace, Some(&seen_at.interface), &filter)?;
    socket.set_buffer(8 << 20)?;
    let running = transfer.start()?;
    let mut buffer = vec![0; LONGEST];
    let mut longest = 0;
    let start = Instant::now();
    while start.elapsed() < time {
        if let Some(frame) = socket.receive(&mut buffer, Duration::from_millis(10))?
            && !frame.outgoing
        {
            longest = longest.max(frame.length);
        }
    }
    let report = running.stop()?;
    ensure!(report.error.is_none(), "a bulk transfer failed: {report}");
    ensure!(longest > 0, "{} received no frame", seen_at.interface);
    Ok(longest)
}
