//! The streams through the group and their results.

use std::time::Duration;

use anyhow::Result;
use lab::network::DATA;
use lab::stream::Progress;
use lab::{Bulk, Lab, Stream, TIMEOUT, bulk, stream};

use crate::page::{self, number};

/// UDP packets per second, of all sockets together.
const RATE: u64 = 50_000;
/// Sockets that send them: every member has some.
const SOCKETS: usize = 32;
/// Bytes per second of the TCP stream: enough to be disturbed by a loss, too few to disturb the other.
const PACE: u64 = 5_000_000;
/// One retransmission timeout of TCP takes 200 ms, a second one twice as long.
const STALL: Duration = Duration::from_millis(500);

/// Duration of an account of missing packets.
pub const MISSING: Duration = Duration::from_secs(1);

/// A UDP stream from the data address to a peer, and a TCP stream from the peer to the data address.
pub struct Traffic<'lab> {
    lab: &'lab Lab,
    udp: stream::Running,
    tcp: bulk::Running,
    dropped_before: u64,
    /// The counters at the last account.
    last: Last,
}

#[derive(Default)]
struct Last {
    udp: Progress,
    tcp: u64,
    dropped: u64,
}

/// The results of the streams.
pub struct Outcome {
    udp: stream::Report,
    tcp: bulk::Report,
    dropped: u64,
}

impl<'lab> Traffic<'lab> {
    /// Starts both, and waits until packets are received.
    pub fn start(lab: &'lab Lab) -> Result<Self> {
        let peer = lab.peer(0);
        let dropped_before = dropped(lab)?;
        let tcp = Bulk::new(peer.namespace(), lab.host(), DATA).pace(PACE).start()?;
        let udp = Stream::outbound(lab).flows(SOCKETS).rate(RATE).start()?;
        udp.wait_received(RATE / 10, TIMEOUT)?;
        tcp.wait_received(PACE / 10, TIMEOUT)?;
        page::block(&format!(
            "UDP: {} packets/s from {DATA} to {}, by {SOCKETS} sockets\nTCP: {} Mbit/s from {} to {DATA}, one connection",
            number(RATE),
            peer.v4(),
            PACE * 8 / 1_000_000,
            peer.v4()
        ))?;
        Ok(Self { lab, udp, tcp, dropped_before, last: Last::default() })
    }

    /// Prints the counters since the last account.
    pub fn account(&mut self) -> Result<()> {
        let now = Last {
            udp: self.udp.progress(),
            tcp: self.tcp.received(),
            dropped: dropped(self.lab)? - self.dropped_before,
        };
        let since = |what: fn(&Progress) -> u64| number(what(&now.udp) - what(&self.last.udp));
        page::line(&format!(
            "UDP sent {}, received {}, lost {}; dropped by the switch ports {}",
            since(|p| p.sent),
            since(|p| p.received),
            since(|p| p.lost),
            number(now.dropped - self.last.dropped)
        ))?;
        page::line(&format!(
            "    reordered {}, duplicated {}, longest gap {}",
            since(|p| p.reordered),
            since(|p| p.duplicated),
            ms(now.udp.longest_gap)
        ))?;
        page::line(&format!("TCP received {} kB", number((now.tcp - self.last.tcp) / 1000)))?;
        self.last = now;
        Ok(())
    }

    /// Prints what was received within [`MISSING`], while some paths have failed. Returns whether TCP continued.
    pub fn account_missing(&mut self) -> Result<bool> {
        let (sent, received, tcp) = (self.udp.sent(), self.udp.received(), self.tcp.received());
        std::thread::sleep(MISSING);
        let (sent, received) = (self.udp.sent() - sent, self.udp.received() - received);
        let tcp = self.tcp.received() - tcp;
        page::line(&format!(
            "in one second: UDP sent {}, received {}: {} of 100 packets are lost",
            number(sent),
            number(received),
            100 * sent.saturating_sub(received) / sent.max(1)
        ))?;
        page::line(&format!("               TCP received {} kB", number(tcp / 1000)))?;
        // Data received earlier may be read only now.
        Ok(tcp > PACE / 10)
    }

    /// UDP packets known to be lost so far.
    pub fn lost(&self) -> u64 {
        self.udp.progress().lost
    }

    /// Waits until TCP continues, after its retransmission timeout.
    pub fn wait_tcp(&self) -> Result<()> {
        self.tcp.wait_received(PACE / 10, TIMEOUT)
    }

    /// Stops both and returns their results.
    pub fn stop(self) -> Result<Outcome> {
        let udp = self.udp.stop()?;
        let tcp = self.tcp.stop()?;
        Ok(Outcome { udp, tcp, dropped: dropped(self.lab)? - self.dropped_before })
    }
}

impl Outcome {
    /// Prints the results.
    pub fn summary(&self) -> Result<()> {
        let Self { udp, tcp, dropped } = self;
        page::line(&format!(
            "UDP    {} packets sent in {:.1} s, {} received, {} lost",
            number(udp.sent()),
            udp.duration.as_secs_f64(),
            number(udp.received()),
            number(udp.lost())
        ))?;
        page::line(&format!("       dropped by the pulled switch ports: {}", number(*dropped)))?;
        page::line(&format!(
            "       {} reordered, {} duplicated, longest gap {}",
            udp.reordered(),
            udp.duplicated(),
            ms(udp.longest_gap)
        ))?;
        page::block(&format!(
            "TCP    {} kB received, {}, {}\n       longest stall {}, {} retransmissions",
            number(tcp.bytes / 1000),
            if tcp.intact { "all data correct" } else { "data CORRUPT" },
            tcp.error.as_deref().unwrap_or("the connection survived"),
            ms(tcp.longest_stall),
            tcp.retransmissions
        ))
    }

    /// UDP packets that were sent.
    pub fn sent(&self) -> u64 {
        self.udp.sent()
    }

    /// UDP packets that were lost.
    pub fn lost(&self) -> u64 {
        self.udp.lost()
    }

    /// The longest time in which the TCP connection received nothing.
    pub fn longest_stall(&self) -> Duration {
        self.tcp.longest_stall
    }

    /// The faults of streams that should lose no packet, one sentence each.
    pub fn faults(&self) -> Vec<String> {
        let Self { udp, tcp, dropped } = self;
        let mut faults = self.common_faults();
        let mut expect = |good: bool, fault: String| {
            if !good {
                faults.push(fault);
            }
        };
        expect(
            udp.lost() <= *dropped,
            format!("{} packets were lost without need", udp.lost().saturating_sub(*dropped)),
        );
        expect(tcp.longest_stall < STALL, format!("the TCP stream stalled for {}", ms(tcp.longest_stall)));
        faults
    }

    /// The faults of streams after a path failure of this duration, which must not affect flows on other paths.
    pub fn faults_of_path_failure(&self, time: Duration) -> Vec<String> {
        let mut faults = self.common_faults();
        let failed = self.failed_flows(time).count();
        if failed == 0 || failed == SOCKETS {
            faults.push(format!("{failed} of {SOCKETS} flows had a failed path: expected some, but not all"));
        }
        faults
    }

    /// The loss of each flow whose path had failed: more than half of its packets in that time.
    fn failed_flows(&self, time: Duration) -> impl Iterator<Item = u64> {
        let least = RATE * time.as_millis() as u64 / 1000 / SOCKETS as u64 / 2;
        self.udp.flows.iter().map(lab::flow::Flow::lost_count).filter(move |&lost| lost > least)
    }

    /// Prints the loss of the flows.
    pub fn summary_of_path_failure(&self, time: Duration) -> Result<()> {
        let failed: Vec<u64> = self.failed_flows(time).collect();
        let lost: u64 = failed.iter().sum();
        page::line(&format!(
            "UDP: {} of {SOCKETS} flows lost {} packets each on average; the other {} lost {} in total.",
            failed.len(),
            number(lost / failed.len().max(1) as u64),
            SOCKETS - failed.len(),
            number(self.udp.lost() - lost)
        ))?;
        page::line(&format!(
            "TCP: stalled for {}, {}.",
            ms(self.tcp.longest_stall),
            self.tcp.error.as_deref().unwrap_or("connection survived")
        ))
    }

    /// The faults that are never acceptable.
    fn common_faults(&self) -> Vec<String> {
        let Self { udp, tcp, .. } = self;
        let mut faults = Vec::new();
        let mut expect = |good: bool, fault: String| {
            if !good {
                faults.push(fault);
            }
        };
        expect(udp.reordered() == 0, format!("{} packets were reordered", udp.reordered()));
        expect(udp.duplicated() == 0, format!("{} packets were duplicated", udp.duplicated()));
        expect(tcp.intact, "the TCP stream was corrupted".into());
        faults.extend(tcp.error.iter().map(|error| format!("the TCP connection broke: {error}")));
        // A fault of the machine, but the result is not valid.
        faults.extend(udp.ensure_valid().err().map(|error| error.to_string()));
        faults
    }
}

/// Frames that dropped by the switch ports of the members: after a port has stopped, before its carrier falls.
fn dropped(lab: &Lab) -> Result<u64> {
    lab.members().iter().map(|member| Ok(member.cable().port()?.rx_dropped)).sum()
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
