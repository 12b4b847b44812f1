//! Bridge ports that are locked to one MAC each, by a static entry (IEEE 802.1X, port security): a port never receives a frame with
//! another one, and the group works.

lab::lane!(side_by_side, seconds = 10);

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use lab::network::{DATA, DATA6};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{
    Lab, MS, Mac, Namespace, Production, SECOND, Switch, TIMEOUT, Worker, command, filter, show_mac,
    wait_until,
};

/// The ports of the switch by their index, with the sources of the frames that they have received from their cables.
type Sources = Arc<Mutex<BTreeMap<u32, BTreeSet<Mac>>>>;

fn record_sources(switch: &Namespace) -> (Sources, Worker<()>) {
    // Not bound to a port, which would end the capture when the cable is pulled.
    let socket = PacketSocket::open(switch, None, &filter::all()).unwrap();
    socket.set_buffer(8 << 20).unwrap();
    let seen = Sources::default();
    let record = Arc::clone(&seen);
    let work = move |stop: &AtomicBool| {
        let missed = socket.receive_until(stop, |frame, bytes| {
            if !frame.outgoing {
                let source = bytes[6..12].try_into().unwrap();
                record.lock().unwrap().entry(frame.index).or_default().insert(source);
            }
        });
        assert_eq!(missed.unwrap(), 0, "frames were missed");
    };
    (seen, Worker::start("sources", work).unwrap())
}

#[test]
fn locked_port_receives_the_mac_of_its_member_only() {
    lab::needs_root!();
    let lab = Lab::builder().one_switch().build().unwrap();
    let (sources, recorder) = record_sources(lab.switch(Switch::A));
    for member in lab.members() {
        let (switch, port) = (lab.switch(Switch::A), &member.cable().far().interface);
        let bridge = |arguments: &str| {
            let words = arguments.split_whitespace();
            command::run(Command::new("bridge").args(["-n", switch.name()]).args(words)).unwrap();
        };
        bridge(&format!("fdb replace {} dev {port} master static", show_mac(member.mac())));
        bridge(&format!("link set dev {port} locked on"));
    }
    let mut production = Production::create(&lab).unwrap();
    let works = |production: &Production<'_>, what: &str| {
        for address in [IpAddr::from(DATA), DATA6.into()] {
            let reached = || lab.peer(0).ping(address, 3, MS, SECOND).unwrap().answered == 3;
            assert!(wait_until(TIMEOUT, reached), "{what}: {address}\n{}", production.show());
        }
        let peer = lab.peer(0).v4();
        let out = lab::ping(lab.host(), Some(DATA.into()), peer.into(), 20, MS, SECOND).unwrap();
        assert_eq!(out.answered, 20, "{what}: {out:?}");
    };
    works(&production, "all cables plugged in");
    for number in 1..=3 {
        lab.cable(number).pull().unwrap();
        production.wait_usable(2).unwrap();
        works(&production, &format!("cable {number} pulled"));
        lab.cable(number).replug().unwrap();
        production.wait_usable(3).unwrap();
    }
    production.daemon.kill().unwrap();
    production.daemon.start().unwrap();
    for member in lab.members() {
        production.daemon.ctl(&format!("offline {}", member.name())).unwrap();
        works(&production, &format!("{} offline", member.name()));
        production.daemon.ctl(&format!("online {}", member.name())).unwrap();
    }
    production.daemon.ctl("detach e1000g1").unwrap();
    works(&production, "detached");
    production.daemon.ctl(&format!("attach e1000g1 --group {GROUP}")).unwrap();
    works(&production, "attached again");
    recorder.stop();
    let sources = sources.lock().unwrap();
    for member in lab.members() {
        let port = lab.switch(Switch::A).link(&member.cable().far().interface).unwrap().index;
        let seen: Vec<Mac> = sources[&port].iter().copied().collect();
        println!("{}: {:?}", member.name(), seen.iter().map(|mac| show_mac(*mac)).collect::<Vec<_>>());
        assert_eq!(seen, [member.mac()], "{}", member.name());
    }
    production.assert_clean();
}
