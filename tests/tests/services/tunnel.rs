//! WireGuard between the group's data address and a peer, while cables are pulled.
//!
//! Some kernels that the lab supports have no WireGuard, so wireguard-go is used, which has the same protocol.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use lab::network::DATA;
use lab::{Bulk, Lab, Namespace, Production, Program, SECOND, Stream, TIMEOUT, command};

/// The ends of the tunnel, and its network.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 178, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 178, 0, 2);
const PORT: u16 = 51820;
/// Packets per second, each way. wireguard-go has default receive buffers, which must not overflow when the machine is
/// busy for half a second.
const RATE: u64 = 200;
/// Bytes per second of a connection.
const PACE: u64 = 100_000;
/// Maximum inbound outage after a pull.
const MAX_OUTAGE: Duration = Duration::from_millis(500);

/// Starts wireguard-go with a private /run, where its control socket is. $KEY is the private key, "$@" are further
/// arguments of `wg set`.
const SCRIPT: &str = r#"
mount -t tmpfs tunnel /run && mkdir /run/wireguard || exit 1
(
	until [ -S /run/wireguard/wg0.sock ]; do sleep 0.05; done
	echo "$KEY" | wg set wg0 private-key /dev/stdin "$@" && echo configured
) &
exec wireguard-go -f wg0
"#;

/// One end of the tunnel.
struct End<'lab> {
    namespace: &'lab Namespace,
    /// Its address in the tunnel.
    address: Ipv4Addr,
    /// Its address outside.
    outside: Ipv4Addr,
    private: String,
    public: String,
}

impl<'lab> End<'lab> {
    fn new(namespace: &'lab Namespace, address: Ipv4Addr, outside: Ipv4Addr) -> Self {
        let shell = |script: &str, key: &str| {
            let key = command::run(Command::new("sh").args(["-c", script]).env("KEY", key)).unwrap();
            key.trim().to_owned()
        };
        let private = shell("wg genkey", "");
        let public = shell("echo \"$KEY\" | wg pubkey", &private);
        Self { namespace, address, outside, private, public }
    }

    /// Starts it, with the other end as peer.
    fn start(&self, lab: &Lab, other: &End<'_>) -> Program {
        let mut command = self.namespace.command("unshare");
        command.env("KEY", &self.private).args(["--mount", "sh", "-c", SCRIPT, "tunnel"]);
        command.args(["listen-port", &PORT.to_string(), "peer", &other.public]);
        command.args(["allowed-ips", &format!("{}/32", other.address)]);
        command.args(["endpoint", &format!("{}:{PORT}", other.outside)]);
        let mut program = Program::start(lab, command).unwrap();
        program.wait_line("configured", 0, TIMEOUT).unwrap();
        self.namespace.ip(&format!("address add {}/24 dev wg0", self.address)).unwrap();
        self.namespace.ip("link set wg0 up").unwrap();
        program
    }
}

#[test]
fn wireguard_tunnel_survives_pulled_cables() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let (host, peer) = (lab.host(), lab.peer(0));
    let here = End::new(host, HERE, DATA);
    let there = End::new(peer.namespace(), THERE, peer.v4());
    let _here = here.start(&lab, &there);
    let _there = there.start(&lab, &here);

    // The first packets wait for the handshake.
    let ping = lab::ping(host, None, THERE.into(), 3, SECOND / 10, TIMEOUT).unwrap();
    assert_eq!((ping.answered, ping.duplicates), (3, 0));
    let out = Stream::new(host, peer.namespace(), THERE).rate(RATE).start().unwrap();
    let inward = Stream::new(peer.namespace(), host, HERE).rate(RATE).start().unwrap();
    let bulk = Bulk::new(host, peer.namespace(), THERE).pace(PACE).start().unwrap();
    let flowing = || {
        out.wait_received(RATE / 4, TIMEOUT).unwrap();
        inward.wait_received(RATE / 4, TIMEOUT).unwrap();
    };
    let dropped =
        || lab.members().iter().map(|member| member.cable().port().unwrap().rx_dropped).sum::<u64>();
    let before = dropped();
    flowing();
    for member in lab.members() {
        member.cable().pull().unwrap();
        flowing();
        member.cable().replug().unwrap();
        production.clear_flap_history(member).unwrap();
        flowing();
    }
    let (out, inward, bulk) = (out.stop().unwrap(), inward.stop().unwrap(), bulk.stop().unwrap());
    let dropped = dropped() - before;
    println!("out of the tunnel: {out}; dropped by the ports: {dropped}");
    println!("into the tunnel: {inward}");
    println!("through the tunnel: {bulk}");
    assert_eq!((out.duplicated(), inward.duplicated()), (0, 0));
    assert!(out.lost() <= dropped, "{out}; dropped by the ports: {dropped}");
    let pulls = lab.members().len() as u64;
    assert!(inward.lost() <= pulls * RATE * MAX_OUTAGE.as_millis() as u64 / 1000, "{inward}");
    assert!(bulk.error.is_none() && bulk.intact && bulk.bytes > 0, "{bulk}");
    production.assert_clean();
}
