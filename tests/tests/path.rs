//! `ipmpctl path`, `ipmpctl simulate` and `ipmpctl flows` against what the members count.

lab::lane!(alone, no_clsact = "the selection of a member does not depend on how programs are attached");

use std::net::UdpSocket;
use std::process::{Command, Stdio};

use ipmp::{
    control::path::{PathReport, Simulation},
    types::MemberState,
};
use lab::daemon::binary;
use lab::network::DATA;
use lab::{Lab, MeasurementLock, Production, TIMEOUT, wait_until};
use serde::de::DeserializeOwned;
use serde_json::Value;

const PORTS: std::ops::Range<u16> = 40_000..40_012;
/// Packets of a flow: far more than the host sends otherwise meanwhile.
const PACKETS: u64 = 200;

/// A part of the output of a command with `--json`.
fn read<T: DeserializeOwned>(production: &Production<'_>, command: &str, part: &str) -> T {
    let mut printed: Value = serde_json::from_str(&production.daemon.ctl(command).unwrap()).unwrap();
    serde_json::from_value(printed[part].take()).unwrap()
}

struct Scene<'lab> {
    lab: &'lab Lab,
    production: Production<'lab>,
}

impl Scene<'_> {
    /// The member that `ipmpctl path` names for a flow.
    fn predicted(&self, port: u16, options: &str) -> String {
        let peer = self.lab.peer(0).v4();
        let command = format!("path production0 {DATA} {peer} udp {port} 9 --json{options}");
        let path: PathReport = read(&self.production, &command, "path");
        path.member.clone().unwrap_or_else(|| panic!("no member transmits port {port}: {path:?}"))
    }

    fn simulated(&self, lost: &str) -> Simulation {
        read(
            &self.production,
            &format!("simulate production0 --lose {lost} --seconds 0 --json"),
            "simulation",
        )
    }

    /// Packets that each member has sent.
    fn sent(&self) -> Vec<(String, u64)> {
        let members = self.production.report().unwrap().members.into_iter();
        members.map(|member| (member.name, member.traffic.out_packets)).collect()
    }

    fn sent_since(&self, before: &[(String, u64)]) -> Vec<(String, u64)> {
        self.sent()
            .into_iter()
            .zip(before)
            .map(|((name, after), (_, before))| (name, after - before))
            .collect()
    }

    /// Sends packets of a flow; the member that transmits them.
    fn transmitting(&self, port: u16) -> String {
        let before = self.sent();
        self.lab.host().run(|| {
            let socket = UdpSocket::bind((DATA, port)).unwrap();
            for _ in 0..PACKETS {
                socket.send_to(b"packet", (self.lab.peer(0).v4(), 9)).unwrap();
            }
        });
        let (used, others): (Vec<_>, Vec<_>) =
            self.sent_since(&before).into_iter().partition(|(_, packets)| *packets >= PACKETS);
        assert!(
            used.len() == 1 && others.iter().all(|(_, packets)| *packets < PACKETS / 2),
            "{used:?} {others:?}"
        );
        used[0].0.clone()
    }
}

#[test]
fn path_names_member_that_transmits_before_and_after_pull() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::builder(&lab).settings("hash=flow").create().unwrap();
    let scene = Scene { lab: &lab, production };
    for port in PORTS {
        assert_eq!(scene.predicted(port, ""), scene.transmitting(port), "port {port}");
    }

    let lost = scene.predicted(PORTS.start, "");
    let predicted: Vec<String> =
        PORTS.map(|port| scene.predicted(port, &format!(" --if-lost {lost}"))).collect();
    let simulation = scene.simulated(&lost);
    assert!(simulation.moved_slots > 1000 && simulation.dropped_slots == 0, "{simulation:?}");
    assert!(simulation.roles.iter().any(|role| role.from.as_ref() == Some(&lost)), "{simulation:?}");

    lab.member(&lost).cable().pull().unwrap();
    scene.production.wait_state(&lost, MemberState::Failed, TIMEOUT).unwrap();
    for (port, predicted) in PORTS.zip(&predicted) {
        assert_ne!(*predicted, lost, "port {port}");
        assert_eq!(*predicted, scene.predicted(port, ""), "port {port}");
        assert_eq!(*predicted, scene.transmitting(port), "port {port}");
    }
    let now = scene.simulated(&lost);
    for (then, now) in simulation.members.iter().zip(&now.members) {
        assert_eq!((&then.name, then.slots_after), (&now.name, now.slots));
    }
    assert_eq!((now.moved_slots, now.roles.len()), (0, 0), "it is lost already");
    for role in &simulation.roles {
        let member = match role.address {
            Some(address) => scene.production.inbound(address),
            None => scene.production.cast(),
        };
        assert_eq!(Some(member.unwrap()), role.to, "{role:?}");
    }
    println!(
        "simulated and pulled {lost}: {} of 4096 slots and {} roles moved as predicted; {} flows transmitted by the \
         predicted member, before and after",
        simulation.moved_slots,
        simulation.roles.len(),
        PORTS.len()
    );
    scene.production.assert_clean();
}

#[test]
fn path_leaves_random_slot_to_socket_until_one_member_is_left() {
    lab::needs_root!();
    let lab = Lab::builder().members(2).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let command = format!("path production0 {DATA} {} --json", lab.peer(0).v4());
    let path: PathReport = read(&production, &command, "path");
    assert_eq!(
        (&path.member, path.shares.iter().map(|share| share.slots).sum::<u32>()),
        (&None, 4096),
        "{path:?}"
    );
    assert!(path.shares.len() == 2 && path.shares.iter().all(|share| share.slots == 2048), "{path:?}");
    let [first, second] = [0, 1].map(|number| lab.members()[number].name().to_owned());
    let path: PathReport = read(&production, &format!("{command} --if-lost {first}"), "path");
    assert_eq!(path.member, Some(second.clone()));
    let path: PathReport = read(&production, &format!("{command} --if-lost {first} {second}"), "path");
    assert_eq!((&path.member, path.shares[0].slots), (&None, 4096), "{path:?}");
    production.assert_clean();
}

/// Runs `ipmpctl` on the host, where it can read packets.
fn on_host(lab: &Lab, production: &Production<'_>, arguments: &str) -> Command {
    let mut command = lab.host().command(binary("ipmpctl").unwrap().to_str().unwrap());
    command.arg("--socket").arg(production.daemon.socket()).args(arguments.split_whitespace());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Each socket has a slot of its own: the member that the command observes is the one that has counted the packets.
#[test]
fn watched_path_and_flows_show_member_that_counts_packets() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let scene = Scene { lab: &lab, production: Production::create(&lab).unwrap() };
    let peer = lab.peer(0).v4();

    let silent = format!("path production0 {DATA} {peer} udp 1 9 --watch=1");
    let output = on_host(&lab, &scene.production, &silent).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "ipmpctl: no member of production0 has sent such a packet within 1 s: send one meanwhile, or watch for longer\n"
    );

    assert_eq!(
        scene.production.daemon.ctl_error("flows production0").unwrap(),
        "ipmpctl: e1000g0 of production0 is not in this network namespace: use --netns NAME, or run the command there"
    );

    let socket = lab.host().run(|| UdpSocket::bind((DATA, PORTS.start)).unwrap());
    let send = || socket.send_to(b"packet", (peer, 9)).map(drop).unwrap();
    let (before, port) = (scene.sent(), PORTS.start);
    let watching = format!("path production0 {DATA} {peer} udp {port} 9 --watch=60 --json");
    let mut watching = on_host(&lab, &scene.production, &watching).spawn().unwrap();
    let mut packets = 0;
    assert!(wait_until(TIMEOUT, || {
        send();
        packets += 1;
        watching.try_wait().unwrap().is_some()
    }));
    let observed: Value = serde_json::from_slice(&watching.wait_with_output().unwrap().stdout).unwrap();
    let member = observed["observed"]["member"].as_str().unwrap().to_owned();
    assert_eq!(observed["observed"]["length"], 20 + 8 + 6);

    let command = "flows production0 --seconds 3 --top 1 --json";
    let mut reading = on_host(&lab, &scene.production, command).spawn().unwrap();
    assert!(wait_until(TIMEOUT, || {
        send();
        packets += 1;
        reading.try_wait().unwrap().is_some()
    }));
    let read: Value = serde_json::from_slice(&reading.wait_with_output().unwrap().stdout).unwrap();
    let is_ours = |flow: &Value| flow["source_port"] == PORTS.start && flow["destination_port"] == 9;
    let carrying: Vec<&Value> = read["flows"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|member| {
            member["direction"] == "out" && member["flows"].as_array().unwrap().iter().any(is_ours)
        })
        .collect();
    assert_eq!(carrying.len(), 1, "{read:#}");
    assert_eq!(carrying[0]["member"], *member, "{read:#}");
    let flow = &carrying[0]["flows"][0];
    let (seen, bytes) = (flow["packets"].as_u64().unwrap(), flow["bytes"].as_u64().unwrap());
    assert!(seen > 10 && seen <= packets && bytes == seen * 34, "{packets} packets: {read:#}");

    let more = scene.sent_since(&before);
    let counted = more.iter().find(|(name, _)| *name == member).unwrap().1;
    assert!(counted >= packets, "{member} has counted {counted} of {packets}");
    println!(
        "observed on {member}, which counted {counted} packets; the socket sent {packets}; flows has read {seen}"
    );
    scene.production.assert_clean();
}
