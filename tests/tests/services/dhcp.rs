//! A DHCP client on the group interface: BusyBox's, and dnsmasq as the server.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{FrameCounters, Lab, MS, Mac, Production, Program, Stream, TIMEOUT, filter, show_mac, wait_until};
use nix::sys::signal::Signal;

use crate::{dnsmasq, shown, wait_answered, wait_gone, without_addresses};

/// What the server has to give.
const RANGE: &str = "192.168.178.220,192.168.178.229";
/// Packets per second to the leased address.
const RATE: u64 = 200;
/// For how long nothing may arrive for an address whose inbound member is pulled.
const OUTAGE: Duration = Duration::from_millis(500);

/// What a client does with a lease, by `ip`; and a line for the test.
const SCRIPT: &str = r#"#!/bin/sh
case $1 in
deconfig)
	ip -4 address flush dev "$interface" scope global
	;;
bound | renew)
	ip -4 address replace "$ip/$mask" dev "$interface" valid_lft "$lease" preferred_lft "$lease"
	ip route replace default via "$router" dev "$interface"
	;;
esac
echo "lease $1 $ip"
"#;

/// A message of the client, as it comes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message {
    /// RFC 2132 section 9.6.
    kind: u8,
    to: Mac,
    from: Mac,
}

const DISCOVER: u8 = 1;
const REQUEST: u8 = 3;
const RELEASE: u8 = 7;
const BROADCAST: Mac = [0xff; 6];

/// Reads the messages of the client at the server.
struct Server {
    socket: PacketSocket,
}

impl Server {
    fn listen(lab: &Lab) -> Self {
        let ipv4 = filter::ethertype(0x0800);
        let socket = PacketSocket::open(lab.router().namespace(), Some("eth0"), &ipv4).unwrap();
        socket.set_buffer(8 << 20).unwrap();
        Self { socket }
    }

    /// What came since the last call.
    fn heard(&self) -> Vec<Message> {
        let mut buffer = [0; 2048];
        let mut heard = Vec::new();
        while let Some(seen) = self.socket.receive(&mut buffer, MS).unwrap() {
            heard.extend(message(&buffer[..seen.length.min(2048)]).filter(|_| !seen.outgoing));
        }
        heard
    }
}

/// A DHCP message to a server (RFC 2131 section 2).
fn message(frame: &[u8]) -> Option<Message> {
    let udp = 14 + usize::from(frame.get(14)? & 15) * 4;
    if frame.get(23)? != &17 || frame.get(udp + 2..udp + 4)? != [0, 67] {
        return None;
    }
    let mut options = frame.get(udp + 8 + 240..)?;
    loop {
        match *options {
            [0, ref rest @ ..] => options = rest,
            [53, 1, kind, ..] => {
                let mac = |at: usize| frame[at..at + 6].try_into().expect("six bytes");
                return Some(Message { kind, to: mac(0), from: mac(6) });
            }
            [_, length, ref rest @ ..] => options = rest.get(usize::from(length)..)?,
            _ => return None,
        }
    }
}

/// The client, as an administrator would start it.
fn udhcpc(lab: &Lab, options: &[&str]) -> Program {
    let script = lab.directory().join("lease.sh");
    fs::write(&script, SCRIPT).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = lab.host().command("busybox");
    command.args(["udhcpc", "-f", "-i", GROUP, "-T", "1", "-t", "20", "-s"]).arg(&script).args(options);
    Program::start(lab, command).unwrap()
}

/// Waits until the client has used a lease, and gives its address.
fn leased(client: &mut Program, how: &str, since: usize) -> Ipv4Addr {
    let line = client.wait_line(&format!("lease {how} "), since, TIMEOUT).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// The client renews its lease by asking its server and nobody else, while a member is out.
///
/// It asks from a socket of the lease's address that it closes at once, and an answer that is there sooner is lost with
/// it, on any interface; the client goes on to ask everybody. It is asked to renew until it hears its server.
fn renewed_by_the_server_alone(
    lab: &Lab,
    client: &mut Program,
    server: &Server,
    address: Ipv4Addr,
    out: &str,
) {
    const ATTEMPTS: usize = 20;
    let to_server = lab.router().mac();
    for attempt in 1..=ATTEMPTS {
        let lines = client.log().len();
        client.signal(Signal::SIGUSR1).unwrap();
        assert_eq!(leased(client, "renew", lines), address);
        let asked = server.heard();
        println!("{out} is out, attempt {attempt}: {asked:02x?}");
        for message in &asked {
            let live = lab.members().iter().any(|other| other.mac() == message.from && other.name() != out);
            assert!(message.kind == REQUEST && live, "{out} is out: {message:02x?}");
        }
        assert_eq!(asked.first().map(|message| message.to), Some(to_server), "{out} is out");
        if asked.iter().all(|message| message.to == to_server) {
            return;
        }
    }
    panic!("{out} is out, and the server's answers do not reach the client");
}

#[test]
fn a_lease_is_had_kept_and_had_again_whatever_cable_is_out() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let _dnsmasq = dnsmasq(
        &lab,
        &[format!("--dhcp-range={RANGE},120"), "--dhcp-authoritative".into(), "--no-ping".into()],
    );
    let production = without_addresses(&lab);
    let (host, peer, router) = (lab.host(), lab.peer(0), lab.router());
    let server = Server::listen(&lab);
    let to_group = FrameCounters::start(&lab, &filter::to(host.link(GROUP).unwrap().mac)).unwrap();
    let mac = |name: &str| lab.member(name).mac();

    // A host without any address asks everybody, through the cast member.
    let mut client = udhcpc(&lab, &[]);
    let address = leased(&mut client, "bound", 0);
    let inbound = wait_answered(&production, address.into());
    let cast = mac(&production.cast().unwrap());
    let had: Vec<_> = server.heard();
    let asked = |kind| Message { kind, to: BROADCAST, from: cast };
    assert!(had.contains(&asked(DISCOVER)) && had.contains(&asked(REQUEST)), "{had:?}");
    assert!(host.ip("-4 route show default").unwrap().contains(GROUP));
    let known = |host: &lab::Host, address: Ipv4Addr| host.neighbour(IpAddr::from(address)).unwrap();
    // The server wrote to the MAC that the client gave, the group's; it must not go on with it.
    assert!(to_group.on(router.cable().name()) > 0, "no offer to the group's MAC");
    let told = wait_until(TIMEOUT, || known(router, address) == Some(mac(&inbound)));
    assert!(told, "the server believes in {:?}", known(router, address).map(show_mac));
    println!("leased {address}, inbound member {inbound}");

    let stream = Stream::new(peer.namespace(), host, address).source(peer.v4()).rate(RATE).start().unwrap();
    stream.wait_received(RATE / 4, TIMEOUT).unwrap();
    let roles: [fn(&Production<'_>, Ipv4Addr) -> String; 2] = [
        |production, address| production.inbound(address).unwrap(),
        |production, _| production.cast().unwrap(),
    ];
    let pulls = roles.len() as u64;
    for role in roles {
        let out = role(&production, address);
        let member = lab.member(&out);
        member.cable().pull().unwrap();
        let moved = || production.inbound(address).unwrap() != out && production.cast().unwrap() != out;
        assert!(wait_until(TIMEOUT, moved), "{out} is out:\n{}", shown(&production));
        renewed_by_the_server_alone(&lab, &mut client, &server, address, &out);
        stream.wait_received(RATE / 4, TIMEOUT).unwrap();
        member.cable().replug().unwrap();
        production.clear_flap_history(member).unwrap();
    }
    let report = stream.stop().unwrap();
    println!("to the leased address, {pulls} pulls: {report}");
    assert!(report.lost() <= pulls * RATE * OUTAGE.as_millis() as u64 / 1000, "{report}");
    assert_eq!(report.duplicated(), 0, "{report}");

    // Given back, it is no data address any more.
    let lines = client.log().len();
    client.signal(Signal::SIGUSR2).unwrap();
    client.wait_line("lease deconfig", lines, TIMEOUT).unwrap();
    wait_gone(&production, address.into());
    let released = server.heard();
    assert!(released.iter().any(|message| message.kind == RELEASE), "{released:?}");
    client.terminate().unwrap();

    // Had again, it is one: with the cast member out, and answers that go to everybody.
    let out = production.cast().unwrap();
    lab.member(&out).cable().pull().unwrap();
    assert!(wait_until(TIMEOUT, || production.cast().unwrap() != out), "{}", shown(&production));
    let before = to_group.on(router.cable().name());
    let mut client = udhcpc(&lab, &["-B"]);
    let again = leased(&mut client, "bound", 0);
    let inbound = wait_answered(&production, again.into());
    let had = server.heard();
    let asked = Message { kind: DISCOVER, to: BROADCAST, from: mac(&production.cast().unwrap()) };
    assert_eq!(to_group.on(router.cable().name()), before, "an answer to the group's MAC");
    assert!(had.contains(&asked), "{had:?}");
    let ping = peer.ping(again.into(), 5, 10 * MS, TIMEOUT).unwrap();
    assert_eq!((ping.answered, ping.duplicates), (5, 0));
    println!("leased {again} again while {out} is out, inbound member {inbound}");
    production.assert_clean();
}
