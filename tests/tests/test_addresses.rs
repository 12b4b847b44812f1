//! Test addresses of members, configured by an administrator or a DHCP client: they are not selected as source addresses,
//! add no routes, are answered only by their members, and are removed completely.

lab::lane!(side_by_side, seconds = 60);

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};

use lab::dhcp::{dnsmasq, udhcpc, wait_lease};
use lab::network::{DATA, DATA6, ROUTER, counterpart};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{Daemon, Lab, MS, Production, Snapshot, TIMEOUT, filter, wait_until};
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

/// Waits until the report of a member has the address, and it is up.
fn wait_ready(production: &Production<'_>, member: &str, address: IpAddr) {
    let ready = || {
        let addresses = production.member(member).unwrap().addresses;
        addresses.iter().any(|known| known.up && known.address == address)
    };
    assert!(wait_until(TIMEOUT, ready), "{member} has no {address}");
}

/// Waits until no route uses a member, except link-local routes and local routes.
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
    assert!(none, "routes on {member}: {left:#?}");
}

/// Checks that packets of unbound sockets to all types of destinations have another source address, in the sockets, in
/// the routing tables and on the cables.
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
            // Probes are ICMP.
            if matches!(protocol, 6 | 17) {
                sent += 1;
                assert!(!tests.contains(&source), "from {source}: {frame:02x?}");
            }
        }
    }
    assert!(sent >= 4, "only {sent} packets were captured");
}

/// Source and protocol of an IP packet.
fn sender(frame: &[u8]) -> Option<(IpAddr, u8)> {
    match frame.get(14)? >> 4 {
        4 => Some((<[u8; 4]>::try_from(frame.get(26..30)?).ok()?.into(), *frame.get(23)?)),
        6 => Some((<[u8; 16]>::try_from(frame.get(22..38)?).ok()?.into(), *frame.get(20)?)),
        _ => None,
    }
}

/// Checks that a test address is resolved once, to the MAC of its member, and answers a ping only while the cable of that
/// member is plugged in.
fn assert_bound_to_member(lab: &Lab, production: &Production<'_>, member: &str, address: IpAddr) {
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
fn test_addresses_are_no_source_addresses_and_are_removed() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let (host, peer) = (lab.host(), lab.peer(0));
    // The default of many distributions.
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
        println!("{what}: no route on a member, no packet from a test address");
    };
    // Without and with a default route.
    check("on the link alone");
    host.ip(&format!("route add default via {ROUTER} dev {GROUP}")).unwrap();
    host.ip(&format!("-6 route add default via {} dev {GROUP}", counterpart(ROUTER))).unwrap();
    check("with a router");
    host.ip("route del default").unwrap();
    for (member, address) in [TESTS[0], TESTS[2], TESTS[3]] {
        assert_bound_to_member(&lab, &production, member, ip_of(address));
    }

    // Probes are sent from each test address, to the target in its subnet.
    let targets = format!("{ROUTER} {} {OWN_TARGET}", counterpart(ROUTER));
    production.daemon.ctl(&format!("target add {targets} --group {GROUP}")).unwrap();
    production.daemon.ctl(&format!("set {GROUP} fdt=2s")).unwrap();
    let mut unanswered = Vec::new();
    let answered = wait_until(TIMEOUT, || {
        let report = production.report().unwrap();
        let probing = report.members.iter().flat_map(|member| &member.probing);
        unanswered = probing.filter(|probing| probing.replies == 0).cloned().collect();
        unanswered.is_empty()
    });
    assert!(answered, "{unanswered:#?}");

    // An address that is not declared is logged with the remedy and stays as it is; a route is removed.
    let lines = production.daemon.log().len();
    host.ip("address add 192.168.178.204/24 dev rge0").unwrap();
    let line = "Address 192.168.178.204 on rge0 is not declared as a test address";
    println!("{}", production.daemon.wait_line(line, lines, TIMEOUT).unwrap());
    let shown = host.ip("-4 address show dev rge0").unwrap();
    assert!(shown.contains("192.168.178.204/24 scope global rge0"), "{shown}");
    let _ = host.ip("route add 198.51.100.0/24 dev rge0");
    check("with changes by an administrator");
    host.ip("address del 192.168.178.204/24 dev rge0").unwrap();

    // After a restart of the daemon, and without data addresses.
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
    let rules = host.ip("rule show").unwrap();
    assert!(!rules.contains("10.9.9.203"), "{rules}");
    let left = Snapshot::settled(&lab).unwrap().differences(&before);
    assert!(left.is_empty(), "{left:#?}");
    production.assert_clean();
}

#[test]
fn test_address_removed_by_other_program_is_added_again() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let host = lab.host();
    let production = Production::create(&lab).unwrap();
    let tests = [TESTS[1], TESTS[2], TESTS[3]];
    for (member, address) in tests {
        production.daemon.ctl(&format!("test-address add {member} {address}")).unwrap();
        wait_ready(&production, member, ip_of(address));
    }
    for member in ["e1000g1", "rge0"] {
        let since = production.daemon.log().len();
        host.ip(&format!("address flush dev {member} scope link")).unwrap();
        host.ip(&format!("-6 address flush dev {member} scope global")).unwrap();
        for (_, address) in tests.iter().filter(|(other, _)| *other == member) {
            let line =
                format!("Test address {} was removed from {member} by another program", ip_of(address));
            println!("{}", production.daemon.wait_line(&line, since, TIMEOUT).unwrap());
            wait_ready(&production, member, ip_of(address));
        }
    }
    // Again and again: the conflict is reported, and the address stays declared.
    let ip = ip_of(TESTS[0].1);
    production.daemon.ctl(&format!("test-address add e1000g0 {}", TESTS[0].1)).unwrap();
    wait_ready(&production, "e1000g0", ip);
    let since = production.daemon.log().len();
    let line = format!("Test address {ip} is missing on e1000g0: another program has removed it 4 times");
    let is_reported = wait_until(TIMEOUT, || {
        let _ = host.ip(&format!("address del {} dev e1000g0", TESTS[0].1));
        production.daemon.log()[since..].iter().any(|logged| logged.contains(&line))
    });
    assert!(is_reported, "{:#?}", &production.daemon.log()[since..]);
    let message = format!("test address {ip} is missing on e1000g0");
    let (shown, explained) = (production.show(), production.daemon.ctl("explain e1000g0").unwrap());
    assert!(shown.contains(&message) && explained.contains(&message), "{shown}\n{explained}");
    // Added by the other program itself.
    host.ip(&format!("address add {} dev e1000g0 scope link noprefixroute", TESTS[0].1)).unwrap();
    wait_ready(&production, "e1000g0", ip);
    let shown = production.show();
    assert!(!shown.contains(&message), "{shown}");
    production.assert_clean();
}

/// The value of a kernel setting of an IPv4 interface.
fn setting(lab: &Lab, interface: &str, name: &str) -> String {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/{name}");
    lab.host().run(|| std::fs::read_to_string(path).unwrap().trim().to_owned())
}

#[test]
fn settings_and_rule_changed_by_other_program_are_restored() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let (host, peer) = (lab.host(), lab.peer(0));
    peer.namespace().ip(&format!("address add {OWN_TARGET}/24 dev eth0")).unwrap();
    let production = Production::create(&lab).unwrap();
    for (member, address) in [TESTS[0], TESTS[3]] {
        production.daemon.ctl(&format!("test-address add {member} {address}")).unwrap();
        wait_ready(&production, member, ip_of(address));
    }
    let assert_answers = |address: &str| {
        peer.flush_neighbours().unwrap();
        let ping = || peer.ping(ip_of(address), 3, 10 * MS, 500 * MS).unwrap();
        assert!(wait_until(TIMEOUT, || ping().answered == 3), "{address}: {:?}", ping());
    };
    let log = || production.daemon.log().len();
    let wait_line = |line: &str, since| {
        println!("{}", production.daemon.wait_line(line, since, TIMEOUT).unwrap());
    };
    // The kernel takes the maximum of `all` and the interface.
    host.sysctl("net.ipv4.conf.all.rp_filter", "1").unwrap();
    assert_answers(TESTS[0].1);
    assert_answers(TESTS[3].1);

    let since = log();
    host.sysctl("net.ipv4.conf.e1000g0.rp_filter", "1").unwrap();
    wait_line("net.ipv4.conf.e1000g0.rp_filter was set to 1 by another program; it is 2 again", since);
    assert_eq!(setting(&lab, "e1000g0", "rp_filter"), "2");
    assert_answers(TESTS[0].1);

    let since = log();
    host.ip("rule del from 10.9.9.203").unwrap();
    wait_line("The routing rule of test address 10.9.9.203 on rge0 was removed by another program", since);
    assert!(host.ip("rule show").unwrap().contains("from 10.9.9.203 lookup"));
    assert_answers(TESTS[3].1);

    // Only reported: it holds for all interfaces.
    let since = log();
    host.sysctl("net.ipv4.conf.all.arp_ignore", "2").unwrap();
    let message = "net.ipv4.conf.all.arp_ignore is 2, and the group needs 1: it holds for all interfaces";
    wait_line(message, since);
    let (shown, explained) = (production.show(), production.daemon.ctl("explain e1000g0").unwrap());
    assert!(shown.contains(message) && explained.contains(message), "{shown}\n{explained}");
    host.sysctl("net.ipv4.conf.all.arp_ignore", "1").unwrap();
    assert!(wait_until(TIMEOUT, || !production.show().contains(message)), "{}", production.show());

    // Only reported, until the operator lets ipmpd restore it.
    production.daemon.ctl(&format!("set {GROUP} manage-sysctls=warn")).unwrap();
    let since = log();
    host.sysctl("net.ipv4.conf.e1000g0.arp_ignore", "0").unwrap();
    let message = "net.ipv4.conf.e1000g0.arp_ignore is 0, and the group needs 1";
    wait_line(message, since);
    let (shown, explained) = (production.show(), production.daemon.ctl("explain e1000g0").unwrap());
    assert!(shown.contains(message) && explained.contains(message), "{shown}\n{explained}");
    assert_eq!(setting(&lab, "e1000g0", "arp_ignore"), "0");
    production.daemon.ctl(&format!("set {GROUP} manage-sysctls=yes")).unwrap();
    wait_line("net.ipv4.conf.e1000g0.arp_ignore was set to 0 by another program; it is 1 again", since);
    assert!(!production.show().contains(message));

    // A program that removes rules until none is left comes to an end.
    let since = log();
    let delete_rule = || host.ip("rule del from 10.9.9.203").is_ok();
    let deleted = (0..100).take_while(|_| delete_rule()).count();
    println!("rules deleted in a row: {deleted}");
    assert!((1..100).contains(&deleted), "{deleted}");
    wait_line("The routing rule of test address 10.9.9.203 on rge0 was removed by another program", since);
    // Again and again: the conflict is reported.
    let message =
        "routing rule of test address 10.9.9.203 on rge0 is missing: another program has removed it";
    let is_reported = wait_until(TIMEOUT, || {
        delete_rule();
        production.daemon.log()[since..].iter().any(|line| line.contains(message))
    });
    println!("{:?}", production.daemon.log_matches(message, since));
    assert!(is_reported, "{:#?}", &production.daemon.log()[since..]);
    let (shown, explained) = (production.show(), production.daemon.ctl("explain rge0").unwrap());
    assert!(shown.contains(message) && explained.contains(message), "{shown}\n{explained}");

    // Detach restores what the other program has set.
    production.daemon.ctl("detach e1000g0").unwrap();
    assert_eq!(setting(&lab, "e1000g0", "rp_filter"), "1");
    production.assert_clean();
}

#[test]
fn dhcp_lease_on_member_becomes_its_test_address() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let host = lab.host();
    host.sysctl("net.ipv4.conf.all.rp_filter", "1").unwrap();
    let range = "--dhcp-range=192.168.178.220,192.168.178.229,3600";
    let _dnsmasq = dnsmasq(&lab, &[range, "--dhcp-authoritative", "--no-ping"]).unwrap();
    let daemon = Daemon::start_in(&lab).unwrap();
    daemon.ctl(&format!("create {GROUP} --address {DATA}/24 --address {DATA6}/64")).unwrap();
    daemon.ctl(&format!("attach e1000g0 --group {GROUP}")).unwrap();
    daemon.ctl(&format!("attach e1000g1 rge0 --group {GROUP} --test-address dhcp")).unwrap();
    let production = Production::with_daemon(&lab, daemon).unwrap();
    production.wait_usable(3).unwrap();
    host.ip(&format!("route add default via {ROUTER} dev {GROUP}")).unwrap();

    // One client accepts unicast offers, the other broadcast offers. Neither member is the cast member.
    assert_eq!(production.cast().unwrap(), "e1000g0");
    let mut clients = [("e1000g1", &[][..]), ("rge0", &["-B"])]
        .map(|(member, options)| udhcpc(&lab, member, 50, options).unwrap());
    let tests = clients.each_mut().map(|client| wait_lease(client, "bound", 0).unwrap());
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
    assert_bound_to_member(&lab, &production, "rge0", tests[1]);
    println!("leased {tests:?}");

    // After a renewal, the client configures the address again.
    let lines = clients[1].log().len();
    clients[1].signal(Signal::SIGUSR1).unwrap();
    assert_eq!(wait_lease(&mut clients[1], "renew", lines).unwrap(), tests[1]);
    check(&tests);

    // Released, and leased again.
    let (lines, said) = (clients[1].log().len(), production.daemon.log().len());
    clients[1].signal(Signal::SIGUSR2).unwrap();
    clients[1].wait_line("lease deconfig", lines, TIMEOUT).unwrap();
    let removed = format!("Test address {} has been removed from rge0", tests[1]);
    production.daemon.wait_line(&removed, said, TIMEOUT).unwrap();
    let lines = clients[1].log().len();
    clients[1].signal(Signal::SIGUSR1).unwrap();
    let again = wait_lease(&mut clients[1], "bound", lines).unwrap();
    check(&[tests[0], again]);
    println!("released, and leased {again}");
    production.assert_clean();
}
