//! A DHCP client on the group interface: BusyBox's udhcpc, with dnsmasq as server.

use std::net::IpAddr;
use std::time::Duration;

use lab::dhcp::{dnsmasq, udhcpc, wait_lease};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{FrameCounters, Lab, MS, Mac, Production, Program, Stream, TIMEOUT, filter, show_mac, wait_until};
use nix::sys::signal::Signal;

use crate::{wait_inbound, wait_removed, without_addresses};

/// Address range of the server.
const RANGE: &str = "192.168.178.220,192.168.178.229";
/// Packets per second to the leased address.
const RATE: u64 = 200;
/// Maximum inbound outage after a pull.
const MAX_OUTAGE: Duration = Duration::from_millis(500);

/// A message of the client, as received by the server.
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

/// Captures the messages of the client at the server.
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

    /// The messages since the last call.
    fn messages(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        self.socket
            .receive_for(MS, |seen, frame| messages.extend(message(frame).filter(|_| !seen.outgoing)))
            .unwrap();
        messages
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

/// Sends renewals while the cable of a member is pulled, until one is answered by the server's unicast reply.
///
/// udhcpc sends a unicast renewal from a socket that it closes at once. A reply that arrives before its raw socket is open
/// is lost, on every interface, and the client then broadcasts. So several attempts may be needed.
fn renew_by_unicast(lab: &Lab, client: &mut Program, server: &Server, address: IpAddr, out: &str) {
    const ATTEMPTS: usize = 20;
    let to_server = lab.router().mac();
    for attempt in 1..=ATTEMPTS {
        let lines = client.log().len();
        client.signal(Signal::SIGUSR1).unwrap();
        assert_eq!(wait_lease(client, "renew", lines).unwrap(), address);
        let requests = server.messages();
        println!("{out} is unplugged, attempt {attempt}: {requests:02x?}");
        for message in &requests {
            let live = lab.members().iter().any(|other| other.mac() == message.from && other.name() != out);
            assert!(message.kind == REQUEST && live, "{out} is unplugged: {message:02x?}");
        }
        assert_eq!(requests.first().map(|message| message.to), Some(to_server), "{out} is unplugged");
        if requests.iter().all(|message| message.to == to_server) {
            return;
        }
    }
    panic!("{out} is unplugged, and no unicast reply of the server reaches the client");
}

#[test]
fn dhcp_lease_is_obtained_renewed_and_released_while_cables_are_pulled() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let range = format!("--dhcp-range={RANGE},120");
    let _dnsmasq = dnsmasq(&lab, &[&range, "--dhcp-authoritative", "--no-ping"]).unwrap();
    let production = without_addresses(&lab);
    let (host, peer, router) = (lab.host(), lab.peer(0), lab.router());
    let server = Server::listen(&lab);
    let to_group = FrameCounters::start(&lab, &filter::to(host.link(GROUP).unwrap().mac)).unwrap();
    let mac = |name: &str| lab.member(name).mac();

    // A host without an address broadcasts, through the cast member.
    let mut client = udhcpc(&lab, GROUP, 0, &[]).unwrap();
    let address = wait_lease(&mut client, "bound", 0).unwrap();
    let inbound = wait_inbound(&production, address);
    let cast = mac(&production.cast().unwrap());
    let had: Vec<_> = server.messages();
    let asked = |kind| Message { kind, to: BROADCAST, from: cast };
    assert!(had.contains(&asked(DISCOVER)) && had.contains(&asked(REQUEST)), "{had:?}");
    assert!(host.ip("-4 route show default").unwrap().contains(GROUP));
    let known = |host: &lab::Host, address: IpAddr| host.neighbour(address).unwrap();
    // The server has sent to the MAC in the client's request, the group's. It must then use that of the inbound member.
    assert!(to_group.on(router.cable().name()) > 0, "no offer to the group's MAC");
    let updated = wait_until(TIMEOUT, || known(router, address) == Some(mac(&inbound)));
    assert!(updated, "the server has {:?}", known(router, address).map(show_mac));
    println!("leased {address}, inbound member {inbound}");

    let stream = Stream::new(peer.namespace(), host, address).source(peer.v4()).rate(RATE).start().unwrap();
    stream.wait_received(RATE / 4, TIMEOUT).unwrap();
    let roles: [fn(&Production<'_>, IpAddr) -> String; 2] = [
        |production, address| production.inbound(address).unwrap(),
        |production, _| production.cast().unwrap(),
    ];
    let pulls = roles.len() as u64;
    for role in roles {
        let out = role(&production, address);
        let member = lab.member(&out);
        member.cable().pull().unwrap();
        let moved = || production.inbound(address).unwrap() != out && production.cast().unwrap() != out;
        assert!(wait_until(TIMEOUT, moved), "{out} is unplugged:\n{}", production.show());
        renew_by_unicast(&lab, &mut client, &server, address, &out);
        stream.wait_received(RATE / 4, TIMEOUT).unwrap();
        member.cable().replug().unwrap();
        production.clear_flap_history(member).unwrap();
    }
    let report = stream.stop().unwrap();
    println!("to the leased address, {pulls} pulls: {report}");
    assert!(report.lost() <= pulls * RATE * MAX_OUTAGE.as_millis() as u64 / 1000, "{report}");
    assert_eq!(report.duplicated(), 0, "{report}");

    // After a release, it is no longer a data address.
    let lines = client.log().len();
    client.signal(Signal::SIGUSR2).unwrap();
    client.wait_line("lease deconfig", lines, TIMEOUT).unwrap();
    wait_removed(&production, address);
    let released = server.messages();
    assert!(released.iter().any(|message| message.kind == RELEASE), "{released:?}");
    client.terminate().unwrap();

    // Leased again while the old cast member is unplugged, with broadcast replies.
    let out = production.cast().unwrap();
    lab.member(&out).cable().pull().unwrap();
    assert!(wait_until(TIMEOUT, || production.cast().unwrap() != out), "{}", production.show());
    let before = to_group.on(router.cable().name());
    let mut client = udhcpc(&lab, GROUP, 0, &["-B"]).unwrap();
    let again = wait_lease(&mut client, "bound", 0).unwrap();
    let inbound = wait_inbound(&production, again);
    let had = server.messages();
    let asked = Message { kind: DISCOVER, to: BROADCAST, from: mac(&production.cast().unwrap()) };
    assert_eq!(to_group.on(router.cable().name()), before, "a reply to the group's MAC");
    assert!(had.contains(&asked), "{had:?}");
    let ping = peer.ping(again, 5, 10 * MS, TIMEOUT).unwrap();
    assert_eq!((ping.answered, ping.duplicates), (5, 0));
    println!("leased {again} again while {out} is unplugged, inbound member {inbound}");
    production.assert_clean();
}
