//! Test addresses of members, as an administrator and a DHCP client give them: nobody sends from one unasked, nothing is
//! routed by a member, each is answered for by its member alone, and nothing of them is left in the end.

lab::lane!(side_by_side, seconds = 60);

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;

use lab::network::{DATA, DATA6, ROUTER, counterpart};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{Daemon, Lab, MS, Production, Program, Snapshot, TIMEOUT, filter, wait_until};
use nix::sys::signal::Signal;

/// Test addresses in the subnet of the data addresses, and in one of their own, with a target there.
const TESTS: [(&str, &str); 4] = [
    ("e1000g0", "192.168.178.201/24"),
    ("e1000g1", "192.168.178.202/24"),
    ("e1000g1", "fd00:178::202/64"),
    ("rge0", "10.9.9.203/24"),
];
/// The target in the subnet of their own.
const OWN_TARGET: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 22);

fn ip_of(address: &str) -> IpAddr {
    address.split('/').next().unwrap().parse().unwrap()
}

/// Waits until a member shows the address, ready.
fn wait_ready(production: &Production<'_>, member: &str, address: IpAddr) {
    let ready = || {
        let addresses = production.member(member).unwrap().addresses;
        addresses.iter().any(|known| known.up && known.address == address)
    };
    assert!(wait_until(TIMEOUT, ready), "{member} has no {address}");
}

/// Waits until no route leads ordinary traffic by a member, but to link-local addresses and to its own.
fn assert_no_route(lab: &Lab, member: &str) {
    let mut left = Vec::new();
    let none = wait_until(TIMEOUT, || {
        left.clear();
        for question in ["-4 route show table main", "-6 route show table main", "-4 route show table local"]
        {
            let shown = lab.host().ip(&format!("{question} dev {member}")).unwrap();
            let leads = |line: &&str| !line.starts_with("local ") && !line.starts_with("fe80::/64");
            left.extend(shown.lines().filter(leads).map(str::to_owned));
        }
        left.is_empty()
    });
    assert!(none, "routes by {member}: {left:#?}");
}

/// Every packet that unbound sockets send to destinations of all kinds has another source, by the kernel's word and on
/// the wires.
fn assert_not_a_source(lab: &Lab, tests: &[IpAddr]) {
    let peer = lab.peer(0);
    let to: Vec<IpAddr> = vec![
        peer.v4().into(),
        ROUTER.into(),
        peer.v6().into(),
        counterpart(ROUTER).into(),
        OWN_TARGET.into(),
        Ipv4Addr::new(10, 9, 9, 255).into(),
        Ipv4Addr::new(192, 168, 178, 255).into(),
        Ipv4Addr::new(203, 0, 113, 1).into(),
        Ipv4Addr::new(239, 1, 2, 3).into(),
        "2001:db8:99::1".parse().unwrap(),
    ];
    let sockets: Vec<PacketSocket> = lab
        .members()
        .iter()
        .flat_map(|member| [0x0800, 0x86dd].map(|kind| (member.name(), kind)))
        .map(|(name, kind)| PacketSocket::open(lab.host(), Some(name), &filter::ethertype(kind)).unwrap())
        .collect();
    lab.host().run(|| {
        for ip in &to {
            let any: SocketAddr = if ip.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_broadcast(true).unwrap();
            // There may be no route at all.
            if socket.connect((*ip, 9)).is_ok() {
                let from = socket.local_addr().unwrap().ip();
                assert!(!tests.contains(&from), "an unbound socket sends to {ip} from {from}");
                let _ = socket.send(b"unbound");
            }
            let _ = TcpStream::connect_timeout(&(*ip, 9).into(), 100 * MS);
        }
    });
    for ip in &to {
        let Ok(way) = lab.host().ip(&format!("route get {ip}")) else { continue };
        assert!(tests.iter().all(|test| !way.contains(&format!("src {test} "))), "{way}");
    }
    let mut sent = 0;
    let mut buffer = [0; 2048];
    for socket in &sockets {
        while let Some(seen) = socket.receive(&mut buffer, 5 * MS).unwrap() {
            let frame = &buffer[..seen.length.min(buffer.len())];
            let Some((source, protocol)) = sender(frame).filter(|_| seen.outgoing) else { continue };
            // Theirs are the probes.
            if matches!(protocol, 6 | 17) {
                sent += 1;
                assert!(!tests.contains(&source), "from {source}: {frame:02x?}");
            }
        }
    }
    assert!(sent >= 4, "{sent} packets were seen");
}

/// Source and protocol of an IP packet.
fn sender(frame: &[u8]) -> Option<(IpAddr, u8)> {
    match frame.get(14)? >> 4 {
        4 => Some((<[u8; 4]>::try_from(frame.get(26..30)?).ok()?.into(), *frame.get(23)?)),
        6 => Some((<[u8; 16]>::try_from(frame.get(22..38)?).ok()?.into(), *frame.get(20)?)),
        _ => None,
    }
}

/// A test address is resolved to its member's MAC, once, and answers a ping while that member's cable is in.
fn assert_its_members(lab: &Lab, production: &Production<'_>, member: &str, address: IpAddr) {
    let (peer, member) = (lab.peer(0), lab.member(member));
    peer.flush_neighbours().unwrap();
    if address != IpAddr::from([10, 9, 9, 203]) {
        let answers = peer.resolve(address, 300 * MS).unwrap();
        let macs: Vec<_> = answers.iter().map(|answer| answer.mac).collect();
        assert_eq!(macs, [member.mac()], "{address}");
    }
    let ping = || peer.ping(address, 3, 10 * MS, 500 * MS).unwrap();
    let answered = wait_until(TIMEOUT, || ping().answered == 3);
    assert!(answered, "{address} of {} does not answer: {:?}", member.name(), ping());
    assert_eq!(peer.neighbour(address).unwrap(), Some(member.mac()), "{address}");
    member.cable().pull().unwrap();
    assert!(wait_until(TIMEOUT, || ping().answered == 0), "{address} answers by another member");
    member.cable().replug().unwrap();
    production.clear_flap_history(member).unwrap();
}

#[test]
fn nobody_sends_from_one_unasked_and_nothing_is_left_of_them() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let (host, peer) = (lab.host(), lab.peer(0));
    // As many distributions have it.
    host.sysctl("net.ipv4.conf.all.rp_filter", "1").unwrap();
    peer.namespace().ip(&format!("address add {OWN_TARGET}/24 dev eth0")).unwrap();
    let before = Snapshot::settled(&lab).unwrap();

    let mut production = Production::create(&lab).unwrap();
    for (member, address) in TESTS {
        production.daemon.ctl(&format!("test-address add {member} {address}")).unwrap();
    }
    for (member, address) in TESTS {
        wait_ready(&production, member, ip_of(address));
    }
    let tests = TESTS.map(|(_, address)| ip_of(address));
    let check = |what: &str| {
        for member in lab.members() {
            assert_no_route(&lab, member.name());
        }
        assert_not_a_source(&lab, &tests);
        println!("{what}: no route by a member, and nobody sends from a test address");
    };
    // Without a default route, and with one.
    check("on the link alone");
    host.ip(&format!("route add default via {ROUTER} dev {GROUP}")).unwrap();
    host.ip(&format!("-6 route add default via {} dev {GROUP}", counterpart(ROUTER))).unwrap();
    check("with a router");
    host.ip("route del default").unwrap();
    for (member, address) in [TESTS[0], TESTS[2], TESTS[3]] {
        assert_its_members(&lab, &production, member, ip_of(address));
    }

    // Each is probed from, to the target in its subnet.
    let targets = format!("{ROUTER} {} {OWN_TARGET}", counterpart(ROUTER));
    production.daemon.ctl(&format!("target add {targets} --group {GROUP}")).unwrap();
    production.daemon.ctl(&format!("set {GROUP} fdt=2s")).unwrap();
    let mut unanswered = Vec::new();
    let answered = wait_until(TIMEOUT, || {
        let report = production.report().unwrap();
        let probing = report.members.iter().flat_map(|member| &member.probing);
        unanswered = probing.filter(|probing| probing.answers == 0).cloned().collect();
        unanswered.is_empty()
    });
    assert!(answered, "{unanswered:#?}");

    // An administrator's address and route, by other means than ours.
    host.ip("address add 192.168.178.204/24 dev rge0").unwrap();
    wait_ready(&production, "rge0", ip_of("192.168.178.204"));
    let _ = host.ip("route add 198.51.100.0/24 dev rge0");
    check("with what others did");
    let shown = host.ip("-4 address show dev rge0").unwrap();
    assert!(shown.lines().filter(|line| line.contains("scope link noprefixroute")).count() == 2, "{shown}");

    // Without any data address, and with another daemon.
    production.daemon.kill().unwrap();
    production.daemon.start().unwrap();
    for (member, address) in TESTS {
        wait_ready(&production, member, ip_of(address));
    }
    for address in [format!("{DATA}/24"), format!("{DATA6}/64")] {
        production.daemon.ctl(&format!("address del {address} --group {GROUP}")).unwrap();
    }
    for member in lab.members() {
        assert_no_route(&lab, member.name());
    }
    let unbound = |to: &str| host.ip(&format!("route get {to}"));
    for to in ["10.9.9.22", "192.168.178.22", "fd00:178::22"] {
        let way = unbound(to).unwrap_or_default();
        assert!(tests.iter().all(|test| !way.contains(&format!("src {test} "))), "{way}");
    }

    production.daemon.ctl("detach e1000g0").unwrap();
    assert!(!host.ip("-4 address show dev e1000g0").unwrap().contains("inet"));
    production.daemon.terminate().unwrap();
    production.daemon.teardown().unwrap();
    host.ip("address del 192.168.178.204/24 dev rge0").unwrap();
    let rules = host.ip("rule show").unwrap();
    assert!(!rules.contains("10.9.9.203"), "{rules}");
    let left = Snapshot::settled(&lab).unwrap().differences(&before);
    assert!(left.is_empty(), "{left:#?}");
    production.assert_clean();
}

/// What a client does with a lease, by `ip`; and a line for the test.
const SCRIPT: &str = r#"#!/bin/sh
case $1 in
deconfig)
	ip -4 address flush dev "$interface"
	;;
bound | renew)
	ip -4 address replace "$ip/$mask" dev "$interface" valid_lft "$lease" preferred_lft "$lease"
	ip route replace default via "$router" dev "$interface" metric 50
	;;
esac
echo "lease $1 $ip"
"#;

fn dnsmasq(lab: &Lab) -> Program {
    let mut command = lab.router().namespace().command("dnsmasq");
    // Nothing of the machine's: no configuration, no name service, no files but those of the lab.
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"]);
    command.args(["--log-facility=-", "--pid-file=", "--interface=eth0", "--bind-interfaces", "--no-ping"]);
    command.args(["--dhcp-range=192.168.178.220,192.168.178.229,3600", "--dhcp-authoritative"]);
    command.arg(format!("--dhcp-leasefile={}", lab.directory().join("leases").display()));
    let mut program = Program::start(lab, command).unwrap();
    program.wait_line("started, version", 0, TIMEOUT).unwrap();
    program
}

fn udhcpc(lab: &Lab, interface: &str, options: &[&str]) -> Program {
    let script = lab.directory().join("lease.sh");
    fs::write(&script, SCRIPT).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = lab.host().command("busybox");
    command.args(["udhcpc", "-f", "-i", interface, "-T", "1", "-t", "20", "-s"]).arg(&script).args(options);
    Program::start(lab, command).unwrap()
}

/// Waits until the client has used a lease, and gives its address.
fn leased(client: &mut Program, how: &str, since: usize) -> IpAddr {
    let line = client.wait_line(&format!("lease {how} "), since, TIMEOUT).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn a_lease_on_a_member_is_its_test_address() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let host = lab.host();
    host.sysctl("net.ipv4.conf.all.rp_filter", "1").unwrap();
    let _dnsmasq = dnsmasq(&lab);
    let daemon = Daemon::start_in(&lab).unwrap();
    daemon.ctl(&format!("create {GROUP} --address {DATA}/24 --address {DATA6}/64")).unwrap();
    daemon.ctl(&format!("attach e1000g0 --group {GROUP}")).unwrap();
    daemon.ctl(&format!("attach e1000g1 rge0 --group {GROUP} --test-address dhcp")).unwrap();
    let production = Production::with_daemon(&lab, daemon).unwrap();
    production.wait_usable(3).unwrap();
    host.ip(&format!("route add default via {ROUTER} dev {GROUP}")).unwrap();

    // Offers to the address that is offered, and to everybody; neither member is the cast member.
    assert_eq!(production.cast().unwrap(), "e1000g0");
    let mut clients = [udhcpc(&lab, "e1000g1", &[]), udhcpc(&lab, "rge0", &["-B"])];
    let tests = clients.each_mut().map(|client| leased(client, "bound", 0));
    let check = |tests: &[IpAddr]| {
        for (member, address) in ["e1000g1", "rge0"].into_iter().zip(tests) {
            wait_ready(&production, member, *address);
            assert_no_route(&lab, member);
            let shown = host.ip(&format!("-4 address show dev {member}")).unwrap();
            assert!(shown.contains("scope link") && shown.contains("noprefixroute"), "{shown}");
        }
        assert_not_a_source(&lab, tests);
        assert!(host.ip("-4 route show default").unwrap().contains(GROUP));
    };
    check(&tests);
    assert_its_members(&lab, &production, "rge0", tests[1]);
    println!("leased {tests:?}");

    // Renewed: the client writes it all anew.
    let lines = clients[1].log().len();
    clients[1].signal(Signal::SIGUSR1).unwrap();
    assert_eq!(leased(&mut clients[1], "renew", lines), tests[1]);
    check(&tests);

    // Lost, and had again.
    let (lines, said) = (clients[1].log().len(), production.daemon.log().len());
    clients[1].signal(Signal::SIGUSR2).unwrap();
    clients[1].wait_line("lease deconfig", lines, TIMEOUT).unwrap();
    let gone = format!("Test address {} has been removed from rge0", tests[1]);
    production.daemon.wait_line(&gone, said, TIMEOUT).unwrap();
    let lines = clients[1].log().len();
    clients[1].signal(Signal::SIGUSR1).unwrap();
    let again = leased(&mut clients[1], "bound", lines);
    check(&[tests[0], again]);
    println!("lost, and leased {again}");
    production.assert_clean();
}
