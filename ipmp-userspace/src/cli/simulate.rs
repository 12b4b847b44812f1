//! `ipmpctl simulate`: what moves when members are lost.

use std::{
    fmt::Write as _,
    io::Write,
    thread,
    time::{Duration, Instant},
};

use ipmp_common::steer::SLOTS;

use super::{
    error::Error,
    output::{Content, Format, Rate},
    verb::Verb,
};
use crate::control::{
    Client, Request, Response,
    path::{MovedRole, SimulatedMember, Simulation},
    report::Traffic,
};

/// Print what moves if the links of members go down, and what is left: before a cable is pulled
///
/// Prints the share of the flows that move, their traffic as measured for a second, the data addresses that move, and the speed
/// of the members that are left. The state machine of ipmpd computes it on a copy of the group; nothing changes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl simulate production0 --lose eth0
  ipmpctl simulate production0 --lose eth0 eth1 --seconds 10")]
pub struct Simulate {
    /// Name of the group
    group: String,
    /// The members
    #[arg(long, value_name = "MEMBER", num_args = 1.., required = true)]
    lose: Vec<String>,
    /// How long traffic is measured; 0: not
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(..=3600))]
    seconds: u16,
}

impl Verb for Simulate {
    fn request(&self) -> Result<Request, Error> {
        Ok(Request::Simulate { group: self.group.clone(), lost: self.lose.clone() })
    }

    fn run(
        &self,
        mut client: Client,
        request: Request,
        format: Format,
        _out: &mut dyn Write,
    ) -> Result<String, Error> {
        let begin = Instant::now();
        let Response::Simulated(mut simulation) = client.call(&request)? else { return Ok(String::new()) };
        let mut traffic = Vec::new();
        if self.seconds > 0 {
            thread::sleep(Duration::from_secs(self.seconds.into()));
            let Response::Simulated(later) = client.call(&request)? else { return Ok(String::new()) };
            traffic = rates(&simulation, &later, begin.elapsed());
            simulation = later;
        }
        let content = Content::Simulation { simulation: &simulation, traffic: &traffic };
        Ok(content.print(format, || text(&simulation, &traffic)))
    }
}

/// The traffic of the members between two simulations. A member that has joined in between is left out.
fn rates(before: &Simulation, after: &Simulation, time: Duration) -> Vec<Rate> {
    let rate = |member: &SimulatedMember| {
        let SimulatedMember { traffic: before, .. } =
            before.members.iter().find(|old| old.name == member.name)?;
        let bits = |of: fn(&Traffic) -> u64| {
            let bytes = of(&member.traffic).saturating_sub(of(before));
            (bytes as f64 * 8.0 / time.as_secs_f64()) as u64
        };
        let (out_bits, in_bits) = (bits(|traffic| traffic.out_bytes), bits(|traffic| traffic.in_bytes));
        Some(Rate { member: member.name.clone(), out_bits, in_bits })
    };
    after.members.iter().filter_map(rate).collect()
}

fn text(simulation: &Simulation, traffic: &[Rate]) -> String {
    let Simulation { group, state, moved_slots, dropped_slots, members, roles, .. } = simulation;
    let lost: Vec<&str> =
        members.iter().filter(|member| member.lost).map(|member| member.name.as_str()).collect();
    let percent = |slots: u32| f64::from(slots) * 100.0 / SLOTS as f64;
    let mut text = format!(
        "{group} without {}: {state}; {:.1}% of the flows move ({moved_slots} of {SLOTS} slots)",
        lost.join(" "),
        percent(*moved_slots)
    );
    if *dropped_slots > 0 {
        write!(text, "; {:.1}% have no member and are dropped", percent(*dropped_slots))
            .expect("a string grows");
    }
    text.push('\n');
    let mut line = |line: &str| writeln!(text, "        {}", line.trim_end()).expect("a string grows");
    line(&format!(
        "{:<15} {:>7} {:>7} {:>12} {:>12} {:>12}",
        "member", "now", "then", "Mbit/s", "sends", "receives"
    ));
    for member in members {
        let rate = traffic.iter().find(|rate| rate.member == member.name);
        let rate = |of: fn(&Rate) -> u64| rate.map_or("-".to_owned(), |rate| megabits(of(rate)));
        let then =
            if member.lost { "lost".to_owned() } else { format!("{:.1}%", percent(member.slots_after)) };
        line(&format!(
            "{:<15} {:>6.1}% {then:>7} {:>12} {:>12} {:>12}",
            member.name,
            percent(member.slots),
            member.speed_mbit.map_or("-".to_owned(), |speed| speed.to_string()),
            rate(|rate| rate.out_bits),
            rate(|rate| rate.in_bits)
        ));
    }
    let speed = |used: fn(&SimulatedMember) -> bool| {
        let speeds = members.iter().filter(|member| used(member)).map(|member| member.speed_mbit);
        let sum = speeds.map(|speed| speed.map(u64::from)).sum::<Option<u64>>();
        sum.map_or("unknown".to_owned(), |sum| sum.to_string())
    };
    line(&format!(
        "speed of the members in use, Mbit/s: {} now, {} then",
        speed(|member| member.slots > 0),
        speed(|member| member.slots_after > 0)
    ));
    if !traffic.is_empty() {
        let moves = |rate: &&Rate| lost.contains(&rate.member.as_str());
        let sum = |of: fn(&Rate) -> u64| {
            let all = traffic.iter().map(of).sum();
            let moving = traffic.iter().filter(moves).map(of).sum();
            format!("{} of {}", megabits(moving), megabits(all))
        };
        let (sent, received) = (sum(|rate| rate.out_bits), sum(|rate| rate.in_bits));
        line(&format!("traffic of the lost members, Mbit/s: sends {sent}, receives {received}"));
    }
    for MovedRole { address, from, to } in roles {
        let role = address.map_or("multicast and broadcast".to_owned(), |address| address.to_string());
        let name = |member: &Option<String>| member.clone().unwrap_or_else(|| "none".to_owned());
        line(&format!("{role}: from {} to {}", name(from), name(to)));
    }
    text
}

fn megabits(bits: u64) -> String {
    format!("{:.2}", bits as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::path::sample_simulation;

    #[test]
    fn text_has_shares_traffic_and_roles() {
        let before = sample_simulation();
        let mut after = before.clone();
        after.members[1].traffic.out_bytes = 250_000;
        after.members[2].traffic.in_bytes = 125_000;
        let traffic = rates(&before, &after, Duration::from_secs(2));
        assert_eq!(
            text(&after, &traffic),
            "\
production0 without e1000g1: degraded; 33.3% of the flows move (1365 of 4096 slots)
        member              now    then       Mbit/s        sends     receives
        e1000g0           33.3%   50.0%         1000         0.00         0.00
        e1000g1           33.3%    lost         1000         1.00         0.00
        rge0              33.3%   50.0%            -         0.00         0.50
        speed of the members in use, Mbit/s: unknown now, unknown then
        traffic of the lost members, Mbit/s: sends 1.00 of 1.00, receives 0.00 of 0.50
        192.168.178.200: from e1000g1 to rge0
        multicast and broadcast: from e1000g1 to none
"
        );
    }

    #[test]
    fn text_without_measurement_has_no_traffic_and_names_dropped_flows() {
        let mut simulation = Simulation { dropped_slots: 1024, roles: vec![], ..sample_simulation() };
        simulation.members.pop();
        assert_eq!(
            text(&simulation, &[]),
            "\
production0 without e1000g1: degraded; 33.3% of the flows move (1365 of 4096 slots); 25.0% have no member and are dropped
        member              now    then       Mbit/s        sends     receives
        e1000g0           33.3%   50.0%         1000            -            -
        e1000g1           33.3%    lost         1000            -            -
        speed of the members in use, Mbit/s: 2000 now, 1000 then
"
        );
    }
}
