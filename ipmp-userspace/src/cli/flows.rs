//! `ipmpctl flows`: the flows with the most traffic, of each member.

use std::{
    fmt::Write as _,
    io::Write,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    error::Error,
    flow_table::{Amount, Flow, MemberFlows, Observation, Tally},
    output::Content,
    packets::{Direction, Tap, group_here},
    verb::{Command, Invocation, Outcome},
};

/// Flows that are counted one by one: about 20 MiB. Of more, the smaller half is added up.
const MOST: usize = 1 << 17;

/// Print the flows with the most traffic, of each member: observed, whatever the hash policy
///
/// Reads the unicast IP packets of the members for some seconds and adds them up by protocol, addresses and ports. Bytes are those
/// of IP packets; a large TCP segment counts as one packet. Reading costs CPU time for each
/// packet: with --sample 100 one of a hundred is read, and the figures are estimates. Only root can do it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl flows production0
  ipmpctl flows production0 --seconds 60 --top 3 --sample 100")]
pub struct Flows {
    /// Group interface, group name, or member
    group: String,
    /// How long packets are read
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// Flows that are printed, of each member and direction
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    top: usize,
    /// Read one of so many packets, chosen at random
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
}

impl Command for Flows {
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        let group = group_here(invocation.socket, invocation.netns, &self.group)?;
        let tap = Tap::open(&group, self.sample)?;
        let begin = Instant::now();
        let mut tally = Tally::default();
        tap.read(Duration::from_secs(self.seconds.into()), |seen| {
            tally.count(seen, MOST);
            None::<()>
        })?;
        let observation = Observation {
            group: group.name.clone(),
            seconds: begin.elapsed().as_secs_f64(),
            sample: self.sample,
            read: tally.read,
            missed: tap.missed(),
            members: tally.top(&group, self.sample, self.top),
        };
        let content = Content::Flows { flows: &observation };
        Ok(Outcome::done(content.print(invocation.format, || text(&observation))))
    }
}

fn text(observation: &Observation) -> String {
    let Observation { group, seconds, sample, read, missed, members } = observation;
    let mut text = format!("{group}: {read} packets read in {seconds:.1} s");
    if *sample > 1 {
        write!(text, ", one of {sample}").expect("a string grows");
    }
    if *missed > 0 {
        write!(text, "; {missed} more did not fit the buffers: the figures are too low, use --sample")
            .expect("a string grows");
    }
    text.push('\n');
    let rate = |Amount { packets, bytes }: &Amount| {
        let per_second = |count: u64| count as f64 / seconds;
        format!("{:.3} Mbit/s, {:.1} packets/s", per_second(*bytes) * 8.0 / 1e6, per_second(*packets))
    };
    for MemberFlows { member, direction, total, count, flows } in
        members.iter().filter(|flows| flows.count > 0)
    {
        let verb = if *direction == Direction::Out { "sends" } else { "receives" };
        writeln!(text, "{member} {verb} {}, {count} flows", rate(total)).expect("a string grows");
        for Flow { protocol, source, destination, source_port, destination_port, amount } in flows {
            let end = |address: &IpAddr, port: &Option<u16>| match port {
                Some(port) => std::net::SocketAddr::new(*address, *port).to_string(),
                None => address.to_string(),
            };
            let (source, destination) = (end(source, source_port), end(destination, destination_port));
            writeln!(text, "        {protocol} {source} > {destination}: {}", rate(amount))
                .expect("a string grows");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::packets::seen, control::report::sample};

    #[test]
    fn largest_flows_are_first_and_all_are_added_up() {
        let mut tally = Tally::default();
        for (port, length) in [(1, 100), (2, 400), (3, 50), (1, 100), (1, 100)] {
            tally.count(seen(0, Direction::Out, port, length), MOST);
        }
        tally.count(seen(1, Direction::In, 9, 1000), MOST);
        let observation = Observation {
            group: "production0".into(),
            seconds: 2.0,
            sample: 10,
            read: tally.read,
            missed: 3,
            members: tally.top(&sample(), 10, 2),
        };
        assert_eq!(
            text(&observation),
            "\
production0: 6 packets read in 2.0 s, one of 10; 3 more did not fit the buffers: the figures are too low, use --sample
e1000g0 sends 0.030 Mbit/s, 25.0 packets/s, 3 flows
        udp 192.168.178.200:2 > 192.168.178.22:443: 0.016 Mbit/s, 5.0 packets/s
        udp 192.168.178.200:1 > 192.168.178.22:443: 0.012 Mbit/s, 15.0 packets/s
e1000g1 receives 0.040 Mbit/s, 5.0 packets/s, 1 flows
        udp 192.168.178.200:9 > 192.168.178.22:443: 0.040 Mbit/s, 5.0 packets/s
"
        );
    }
}
