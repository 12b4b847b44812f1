//! Measures the outage of a stream to a data address whose inbound member loses its carrier.
//!
//! Only the host can end this outage: the sender uses the MAC in its neighbour table until it receives another.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cable::Change;
use crate::network::{DATA, Lab};
use crate::production::Production;
use crate::stream::{Report, Running, Stream};
use crate::{show_mac, wait_until};

/// Packets per second to the data address.
pub const PACKETS_PER_S: u64 = 20_000;
/// The interval of the sender, and so the shortest outage that is detected.
pub const BURST: Duration = Duration::from_micros(100);
/// An outage that begins later after a pull has another cause.
pub const WINDOW: Duration = Duration::from_millis(5);
/// The shortest time without a packet that the stream records.
const GAPS: Duration = Duration::from_micros(150);
/// How long a cable stays unplugged.
const UNPLUGGED: Duration = Duration::from_millis(50);
/// Maximum time until the sender has another MAC.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The outages of a stream.
#[derive(Clone, Debug)]
pub struct InboundOutages {
    /// The longest time without a packet at each pull.
    pub outages: Vec<Duration>,
    /// The longest time without a packet in a window of the same length before each pull: the noise of this machine.
    pub before: Vec<Duration>,
    /// The result of the stream.
    pub report: Report,
}

impl InboundOutages {
    /// Finds the outages at these pulls.
    pub fn find(report: Report, pulls: &[Change]) -> Self {
        let longest = |from, time| report.outage(from, time).max(BURST);
        let outages = pulls.iter().map(|at| longest(at.before, at.after + WINDOW - at.before)).collect();
        let before = pulls.iter().map(|at| longest(at.before - WINDOW, WINDOW - 2 * BURST)).collect();
        Self { outages, before, report }
    }
}

/// Starts a stream from the first peer to the data address, and waits until its packets arrive.
pub fn start_stream(lab: &Lab) -> Result<Running> {
    let stream = Stream::inbound(lab).source(lab.peer(0).v4());
    let running = stream.rate(PACKETS_PER_S).burst(BURST).gaps(GAPS).start()?;
    running.wait_received(PACKETS_PER_S / 5, crate::TIMEOUT)?;
    Ok(running)
}

/// Pulls the cable of the inbound member of [`DATA`] `pulls` times. After each pull, the neighbour entry of the sender
/// must change to another member.
pub fn measure(lab: &Lab, production: &Production<'_>, pulls: usize) -> Result<InboundOutages> {
    measure_during(lab, production, pulls, || Ok(()), |()| Ok(()))
}

/// The same, during something that is begun before each pull and ended after it.
pub fn measure_during<T>(
    lab: &Lab,
    production: &Production<'_>,
    pulls: usize,
    begin: impl Fn() -> Result<T>,
    end: impl Fn(T) -> Result<()>,
) -> Result<InboundOutages> {
    let peer = lab.peer(0);
    let running = start_stream(lab)?;
    let mut pulled = Vec::new();
    for _ in 0..pulls {
        let member = lab.member(&production.inbound(DATA)?);
        let neighbour = || peer.neighbour(DATA.into());
        let settled = wait_until(TIMEOUT, || neighbour().is_ok_and(|mac| mac == Some(member.mac())));
        ensure!(
            settled,
            "{} is the inbound member of {DATA}, but the peer has {:?}",
            member.name(),
            neighbour()?.map(show_mac)
        );
        // A quiet time for comparison: `ipmpctl` has ended.
        std::thread::sleep(2 * WINDOW);
        let begun = begin()?;
        pulled.push(member.cable().pull()?);
        std::thread::sleep(UNPLUGGED);
        let others = production.macs_without(&[member.name().to_owned()]);
        let updated =
            wait_until(TIMEOUT, || neighbour().is_ok_and(|mac| mac.is_some_and(|mac| others.contains(&mac))));
        ensure!(
            updated,
            "the cable of {} was pulled, but the peer still has {:?}",
            member.name(),
            neighbour()?.map(show_mac)
        );
        end(begun)?;
        member.cable().replug()?;
        production.clear_flap_history(member).context("after a pull")?;
    }
    Ok(InboundOutages::find(running.stop()?, &pulled))
}
