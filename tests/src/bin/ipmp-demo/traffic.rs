//! The streams through the group, and what became of them.

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

/// How long it is watched what does not arrive.
pub const BLIND: Duration = Duration::from_secs(1);

/// A UDP stream from the data address to a peer, and a TCP stream from the peer to the data address.
pub struct Traffic<'lab> {
    lab: &'lab Lab,
    udp: stream::Running,
    tcp: bulk::Running,
    died_before: u64,
    /// How things stood at the last account.
    last: Last,
}

#[derive(Default)]
struct Last {
    udp: Progress,
    tcp: u64,
    died: u64,
}

/// What became of the streams.
pub struct Outcome {
    udp: stream::Report,
    tcp: bulk::Report,
    died: u64,
}

impl<'lab> Traffic<'lab> {
    /// Starts both, and waits until they flow.
    pub fn start(lab: &'lab Lab) -> Result<Self> {
        let peer = lab.peer(0);
        let died_before = died(lab)?;
        let tcp = Bulk::new(peer.namespace(), lab.host(), DATA).pace(PACE).start()?;
        let udp = Stream::new(lab.host(), peer.namespace(), peer.v4())
            .source(DATA)
            .flows(SOCKETS)
            .rate(RATE)
            .start()?;
        udp.wait_received(RATE / 10, TIMEOUT)?;
        tcp.wait_received(PACE / 10, TIMEOUT)?;
        page::block(&format!(
            "UDP: {} packets/s from {DATA} to {}, by {SOCKETS} sockets\nTCP: {} Mbit/s from {} to {DATA}, one connection",
            number(RATE),
            peer.v4(),
            PACE * 8 / 1_000_000,
            peer.v4()
        ))?;
        Ok(Self { lab, udp, tcp, died_before, last: Last::default() })
    }

    /// Prints what was lost since the last account.
    pub fn account(&mut self) -> Result<()> {
        let now = Last {
            udp: self.udp.progress(),
            tcp: self.tcp.received(),
            died: died(self.lab)? - self.died_before,
        };
        let since = |what: fn(&Progress) -> u64| number(what(&now.udp) - what(&self.last.udp));
        page::line(&format!(
            "UDP sent {}, received {}, lost {}; died in the switch ports {}",
            since(|p| p.sent),
            since(|p| p.received),
            since(|p| p.lost),
            number(now.died - self.last.died)
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

    /// Prints what has not arrived since the last account, while some of it cannot. Returns whether TCP went on.
    pub fn account_missing(&mut self) -> Result<bool> {
        let (sent, received, tcp) = (self.udp.sent(), self.udp.received(), self.tcp.received());
        std::thread::sleep(BLIND);
        let (sent, received) = (self.udp.sent() - sent, self.udp.received() - received);
        let tcp = self.tcp.received() - tcp;
        page::line(&format!(
            "in one second: UDP sent {}, received {}: {} of 100 packets are gone",
            number(sent),
            number(received),
            100 * sent.saturating_sub(received) / sent.max(1)
        ))?;
        page::line(&format!("               TCP received {} kB", number(tcp / 1000)))?;
        // What had arrived before may be read only now.
        Ok(tcp > PACE / 10)
    }

    /// Packets of UDP that are known to be lost by now.
    pub fn lost(&self) -> u64 {
        self.udp.progress().lost
    }

    /// Waits until TCP goes on, which sends again at the end of its own timeout.
    pub fn wait_tcp(&self) -> Result<()> {
        self.tcp.wait_received(PACE / 10, TIMEOUT)
    }

    /// Ends both, and accounts for every packet.
    pub fn stop(self) -> Result<Outcome> {
        let udp = self.udp.stop()?;
        let tcp = self.tcp.stop()?;
        Ok(Outcome { udp, tcp, died: died(self.lab)? - self.died_before })
    }
}

impl Outcome {
    /// Prints it.
    pub fn summary(&self) -> Result<()> {
        let Self { udp, tcp, died } = self;
        page::line(&format!(
            "UDP    {} packets sent in {:.1} s, {} received, {} lost",
            number(udp.sent()),
            udp.duration.as_secs_f64(),
            number(udp.received()),
            number(udp.lost())
        ))?;
        page::line(&format!("       died in the switch ports as they were pulled: {}", number(*died)))?;
        page::line(&format!(
            "       {} reordered, {} duplicated, longest gap {}",
            udp.reordered(),
            udp.duplicated(),
            ms(udp.longest_gap)
        ))?;
        page::block(&format!(
            "TCP    {} kB received, {}, {}\n       longest stall {}, {} retransmissions",
            number(tcp.bytes / 1000),
            if tcp.intact { "every byte right" } else { "data CORRUPT" },
            tcp.error.as_deref().unwrap_or("the connection lived"),
            ms(tcp.longest_stall),
            tcp.retransmissions
        ))
    }

    /// What should not have been where every packet should arrive, a sentence each.
    pub fn faults(&self) -> Vec<String> {
        let Self { udp, tcp, died } = self;
        let mut faults = self.faults_of_any();
        let mut expect = |good: bool, fault: String| {
            if !good {
                faults.push(fault);
            }
        };
        expect(
            udp.lost() <= *died,
            format!("{} packets were lost that need not be", udp.lost().saturating_sub(*died)),
        );
        expect(
            tcp.longest_stall < STALL,
            format!("the TCP stream stood still for {}", ms(tcp.longest_stall)),
        );
        faults
    }

    /// The same where some paths were dead for so long: the others should not have known.
    pub fn faults_of_dead_paths(&self, time: Duration) -> Vec<String> {
        let mut faults = self.faults_of_any();
        let dead = self.dead_flows(time).count();
        if dead == 0 || dead == SOCKETS {
            faults.push(format!("{dead} of {SOCKETS} flows had a dead path: some should, some should not"));
        }
        faults
    }

    /// What the flows lost whose path was dead, each: more than half of what they sent in that time.
    fn dead_flows(&self, time: Duration) -> impl Iterator<Item = u64> {
        let least = RATE * time.as_millis() as u64 / 1000 / SOCKETS as u64 / 2;
        self.udp.flows.iter().map(lab::flow::Flow::lost_count).filter(move |&lost| lost > least)
    }

    /// Prints how many flows lost how much.
    pub fn summary_of_dead_paths(&self, time: Duration) -> Result<()> {
        let dead: Vec<u64> = self.dead_flows(time).collect();
        let lost: u64 = dead.iter().sum();
        page::line(&format!(
            "UDP: {} of {SOCKETS} flows lost {} packets each on the average; the other {} lost {} in all.",
            dead.len(),
            number(lost / dead.len().max(1) as u64),
            SOCKETS - dead.len(),
            number(self.udp.lost() - lost)
        ))?;
        page::line(&format!(
            "TCP: stood still for {}, {}.",
            ms(self.tcp.longest_stall),
            self.tcp.error.as_deref().unwrap_or("and lived")
        ))
    }

    /// What should never have been.
    fn faults_of_any(&self) -> Vec<String> {
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
        // The fault is the machine's, but nothing is shown.
        faults.extend(udp.ensure_valid().err().map(|error| error.to_string()));
        faults
    }
}

/// Frames that died in the switch ports of the members: after a port has stopped, before its carrier falls.
fn died(lab: &Lab) -> Result<u64> {
    lab.members().iter().map(|member| Ok(member.cable().port()?.rx_dropped)).sum()
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
