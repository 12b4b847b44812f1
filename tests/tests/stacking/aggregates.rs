//! Bonds and teams as members (1.6.4 of the tutorial): the carrier of the aggregate decides, whatever happens to its ports.

use std::process::{Command, Stdio};

use ipmp::types::{GroupState, LinkState};
use lab::packet::PacketSocket;
use lab::{MemberKind, Stream, filter};

use super::*;

const AGGREGATE: &str = "aggregate0";
/// Its ports: cables 1 and 2.
const LEGS: [&str; 2] = ["e1000g0", "e1000g1"];
/// LACPDUs and other slow protocols.
const SLOW_PROTOCOLS: u16 = 0x8809;

/// Lets Switch A take cables 1 and 2 as one link: a bond of this mode.
fn trunk(lab: &Lab, mode: &str) {
    let switch = &lab.cable(1).far().namespace;
    switch.ip(&format!("link add trunk0 type bond {mode}")).unwrap();
    for number in [1, 2] {
        let port = &lab.cable(number).far().interface;
        switch.ip(&format!("link set {port} nomaster")).unwrap();
        enslave(switch, port, "trunk0");
    }
    switch.ip("link set trunk0 master br0 up").unwrap();
}

fn enslave(namespace: &Namespace, port: &str, to: &str) {
    namespace.ip(&format!("link set {port} down")).unwrap();
    namespace.ip(&format!("link set {port} master {to}")).unwrap();
    namespace.ip(&format!("link set {port} up")).unwrap();
}

/// What the bonding driver prints.
fn bonding(namespace: &Namespace, bond: &str) -> String {
    command::run(namespace.command("cat").arg(format!("/proc/net/bonding/{bond}"))).unwrap()
}

/// What the loss of a leg must not change: share, weight and state of each member.
fn shares(production: &Production<'_>) -> Vec<(String, u32, u32, String)> {
    let report = production.report().unwrap();
    assert_eq!(report.state, GroupState::Ok, "{}", production.show());
    let of = |member: ipmp::control::report::MemberReport| {
        let rest = format!("active {} {}", member.active, member.state);
        (member.name, member.slots, member.weight, rest)
    };
    report.members.into_iter().map(of).collect()
}

/// One leg is lost, then both, and one is repaired: only the loss of both concerns the group.
fn lose_legs(lab: &Lab, production: &Production<'_>) {
    let before = shares(production);
    println!("{before:?}");
    let stream = Stream::outbound(lab).flows(8).rate(50).start().unwrap();
    stream.wait_received(20, TIMEOUT).unwrap();
    let since = production.daemon.log().len();
    let reached = |what: &str| {
        let answered = || lab.peer(0).ping(DATA.into(), 1, MS, SECOND).unwrap().answered == 1;
        assert!(wait_until(TIMEOUT, answered), "{what}:\n{}", production.show());
    };
    lab.cable(2).pull().unwrap();
    lab.cable(2).wait_carrier(false, TIMEOUT).unwrap();
    reached("cable 2 pulled");
    assert!(lab.host().link(AGGREGATE).unwrap().carrier);
    assert_eq!(shares(production), before, "cable 2 pulled");
    let log = production.daemon.log();
    let is_about = |line: &&String| line.contains(AGGREGATE) && !line.contains("No test address");
    let lines: Vec<&String> = log[since..].iter().filter(is_about).collect();
    assert!(lines.is_empty(), "{lines:?}");

    lab.cable(1).pull().unwrap();
    let has_failed = || {
        let report = production.report().unwrap();
        let is_active = |name: &str| report.members.iter().any(|member| member.name == name && member.active);
        report.state == GroupState::Degraded && !is_active(AGGREGATE) && is_active(FREE)
    };
    assert!(wait_until(TIMEOUT, has_failed), "{}", production.show());
    assert_eq!(production.member(AGGREGATE).unwrap().link, LinkState::Down);
    reached("both cables pulled");
    lab.cable(1).replug().unwrap();
    let is_repaired = || production.report().unwrap().state == GroupState::Ok && shares(production) == before;
    assert!(wait_until(TIMEOUT, is_repaired), "{}", production.show());
    reached("cable 1 plugged in again");
    lab.cable(2).replug().unwrap();
    lab.cable(2).wait_carrier(true, TIMEOUT).unwrap();
    assert_eq!(shares(production), before, "both cables plugged in again");
    println!("{}", stream.stop().unwrap());
}

/// Sets what the driver of a TAP device reports as its speed, in Mbit/s: `ETHTOOL_SSET` of include/uapi/linux/ethtool.h.
fn set_speed(namespace: &Namespace, interface: &str, speed: u16) {
    let mut command = [0_u8; 44];
    command[0] = 2;
    command[12..14].copy_from_slice(&speed.to_ne_bytes());
    command[14] = 1; // full duplex
    namespace.run(|| {
        // SAFETY: the name is terminated, and the data has the size of `struct ethtool_cmd`.
        unsafe {
            let mut request: libc::ifreq = std::mem::zeroed();
            for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
                *place = byte as libc::c_char;
            }
            request.ifr_ifru.ifru_data = command.as_mut_ptr().cast();
            let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            assert_eq!(libc::ioctl(socket, libc::SIOCETHTOOL, &raw mut request), 0, "{interface}");
            libc::close(socket);
        }
    });
}

/// An aggregate of 10 Gbit/s by LACP, and a card of 1 Gbit/s as standby: the purpose of the section.
#[test]
#[ignore = "needs bond: `cargo xtask test` boots a kernel with it"]
fn aggregate_of_two_legs_fails_with_last_leg_and_standby_replaces_it() {
    lab::needs_root!();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let host = lab.host();
    for (name, speed) in [(LEGS[0], 5_000), (LEGS[1], 5_000), (FREE, 1_000)] {
        set_speed(host, name, speed);
    }
    let daemon = lab::Daemon::start_in(&lab).unwrap();
    daemon.ctl(&format!("create {GROUP} --address {DATA}/24")).unwrap();

    // Without link monitoring the driver keeps the carrier of a bond whose ports have none.
    host.ip(&format!("link add {AGGREGATE} type bond mode balance-xor")).unwrap();
    let refused = daemon.ctl_error(&format!("attach {AGGREGATE} --group {GROUP}")).unwrap();
    println!("{refused}");
    assert!(
        refused.contains(&format!(
            "{AGGREGATE} is a bond that does not monitor the links of its ports, and stays up when all of them have failed: ip link \
             set {AGGREGATE} type bond miimon 100"
        )),
        "{refused}"
    );
    host.ip(&format!("link del {AGGREGATE}")).unwrap();

    let lacp = "mode 802.3ad miimon 100 lacp_rate fast";
    trunk(&lab, lacp);
    host.ip(&format!("link add {AGGREGATE} type bond {lacp}")).unwrap();
    LEGS.iter().for_each(|leg| enslave(host, leg, AGGREGATE));
    host.ip(&format!("link set {AGGREGATE} up")).unwrap();
    // The sum of the ports that are in use.
    let aggregated = || host.run(|| ipmp::link::speed(AGGREGATE)) == Some(10_000);
    assert!(wait_until(TIMEOUT, aggregated), "{}", bonding(host, AGGREGATE));

    // A capture of each port, which sees LACPDUs and all else.
    let captures =
        LEGS.map(|leg| PacketSocket::open(host, Some(leg), &filter::ethertype(SLOW_PROTOCOLS)).unwrap());
    let captured = || captures.iter().map(|socket| socket.statistics().unwrap().0).collect::<Vec<_>>();
    daemon.ctl(&format!("attach {AGGREGATE} --group {GROUP}")).unwrap();
    daemon.ctl(&format!("attach {FREE} --group {GROUP} --standby")).unwrap();
    let production = Production::with_daemon(&lab, daemon).unwrap();
    production.wait_live(AGGREGATE, true).unwrap();
    production.wait_live(FREE, true).unwrap();
    captured();
    // The statistics are those since they were last read: LACPDUs of both directions, once a second each.
    std::thread::sleep(3 * SECOND);
    let counts = captured();
    println!("LACPDUs in three seconds on each port: {counts:?}");
    assert!(counts.iter().all(|count| *count >= 2), "{counts:?}");
    let text = bonding(host, AGGREGATE);
    assert!(
        text.contains("Number of ports: 2") && !text.contains("Partner Mac Address: 00:00:00:00:00:00"),
        "{text}"
    );
    for leg in LEGS {
        let programs = production.daemon.ctl(&format!("attach {leg} --group {GROUP}"));
        assert!(programs.unwrap_err().to_string().contains(&format!("{leg} belongs to {AGGREGATE} (bond)")));
    }
    assert_eq!([AGGREGATE, FREE].map(|name| production.member(name).unwrap().weight), [10_000, 1_000]);
    let is_active = |name: &str| production.member(name).unwrap().active;
    assert!(is_active(AGGREGATE) && !is_active(FREE), "{}", production.show());
    lose_legs(&lab, &production);
    production.assert_clean();
}

/// A message of the generic netlink family `team` (include/uapi/linux/if_team.h) that sets the mode of a team device, as teamd
/// does.
fn set_team_mode(namespace: &Namespace, team: &str, mode: &str) {
    let attribute = |kind: u16, data: &[u8]| {
        let mut bytes = ((data.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let message = |family: u16, command: u8, version: u8, attributes: &[u8]| {
        let mut bytes = ((20 + attributes.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(family.to_ne_bytes());
        bytes.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([command, version, 0, 0]);
        bytes.extend(attributes);
        bytes
    };
    let text = |name: &str| [name.as_bytes(), &[0]].concat();
    let ifindex = namespace.link(team).unwrap().index;
    namespace.run(|| {
        // SAFETY: the buffers outlive the calls, which get their lengths.
        unsafe {
            let socket =
                libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_GENERIC);
            let call = |request: Vec<u8>| {
                assert!(libc::send(socket, request.as_ptr().cast(), request.len(), 0) > 0);
                let mut reply = vec![0_u8; 8192];
                let read = libc::recv(socket, reply.as_mut_ptr().cast(), reply.len(), 0);
                reply.truncate(read.try_into().expect("a reply"));
                reply
            };
            // CTRL_CMD_GETFAMILY by CTRL_ATTR_FAMILY_NAME; CTRL_ATTR_FAMILY_ID is in the reply.
            let reply = call(message(libc::GENL_ID_CTRL as u16, 3, 1, &attribute(2, &text("team"))));
            let mut rest = &reply[20..];
            let family = loop {
                let length = u16::from_ne_bytes([rest[0], rest[1]]) as usize;
                if rest[2] == 1 {
                    break u16::from_ne_bytes([rest[4], rest[5]]);
                }
                rest = &rest[length.next_multiple_of(4)..];
            };
            libc::recv(socket, vec![0_u8; 8192].as_mut_ptr().cast(), 8192, 0);
            // TEAM_ATTR_OPTION_NAME, _TYPE (NLA_STRING), _DATA.
            let option =
                [attribute(1, &text("mode")), attribute(3, &[5]), attribute(4, &text(mode))].concat();
            let options =
                attribute(2 | libc::NLA_F_NESTED as u16, &attribute(1 | libc::NLA_F_NESTED as u16, &option));
            let set = [attribute(1, &ifindex.to_ne_bytes()), options].concat();
            let reply = call(message(family, 1, 1, &set));
            let error = i32::from_ne_bytes(reply[16..20].try_into().unwrap());
            // No program receives the event about it (`team_nl_send_event_options_get` in drivers/net/team/team_core.c).
            assert!(
                [0, -libc::ESRCH].contains(&error),
                "mode of {team}: {}",
                std::io::Error::from_raw_os_error(-error)
            );
            libc::close(socket);
        }
    });
}

#[test]
#[ignore = "needs team: `cargo xtask test` boots a kernel with it"]
fn team_of_two_legs_fails_with_last_leg() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let host = lab.host();
    trunk(&lab, "mode balance-xor miimon 100");
    host.ip(&format!("link add {AGGREGATE} type team")).unwrap();
    set_team_mode(host, AGGREGATE, "roundrobin");
    LEGS.iter().for_each(|leg| enslave(host, leg, AGGREGATE));
    host.ip(&format!("link set {AGGREGATE} up")).unwrap();
    let production = Production::builder(&lab).members(&[AGGREGATE, FREE]).create().unwrap();
    lose_legs(&lab, &production);
    production.assert_clean();
}

/// The demo types the commands of the section, and compares its tables.
#[test]
#[ignore = "needs bond: `cargo xtask test` boots a kernel with it"]
fn aggregate_chapter_matches_tutorial() {
    lab::needs_root!();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_ipmp-demo"));
    let output = demo.args(["--chapter", "aggregate"]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.matches("The same in every cell").count(), 13);
}
