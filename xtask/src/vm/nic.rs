//! Network cards of the guest, each with a cable to a port of its own, and the line on which the guest pulls them.
//!
//! Both ends of a cable are in the guest: nothing of the host's network has a part in it. The near end is a card of the model asked
//! for, the far end a virtio card, the port that a switch in the guest takes. QEMU's monitor is at the other end of a virtio-serial
//! port of the guest, which says `set_link` to it by QMP. The lab (`nic.rs` and `emulator.rs` there) knows the names used here.

use clap::ValueEnum;
use std::fmt;
use std::path::Path;

/// A network card that QEMU emulates and Debian's kernels drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nic {
    /// Intel 82540EM: filters multicast, VLANs and unicast as the hardware does, and reports its link late.
    E1000,
    /// Intel 82574L.
    E1000e,
    /// Paravirtual: filters too, and reports its link at once.
    Virtio,
}

/// The environment variable that names the cards' models to the guest, in their order.
pub const VARIABLE: &str = "IPMP_LAB_NICS";

/// How many cards a guest may have: each takes two slots of its bus.
pub const MOST: usize = 8;

impl Nic {
    fn device(self) -> &'static str {
        match self {
            Self::E1000 => "e1000",
            Self::E1000e => "e1000e",
            Self::Virtio => "virtio-net-pci",
        }
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::E1000 => "e1000",
            Self::E1000e => "e1000e",
            Self::Virtio => "virtio",
        })
    }
}

/// A card of the guest. Its number is in its Ethernet address and in the name of its cable; its place on the bus is that in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    pub number: u8,
    pub nic: Nic,
}

impl Card {
    /// Cards numbered from 1.
    pub fn numbered(nics: &[Nic]) -> Vec<Self> {
        (1..).zip(nics).map(|(number, &nic)| Self { number, nic }).collect()
    }
}

/// The models as [`VARIABLE`] has them.
pub fn names(cards: &[Card]) -> String {
    cards.iter().map(|card| card.nic.to_string()).collect::<Vec<_>>().join(" ")
}

/// QEMU's arguments: card n is `nicN`, its port `portN`. The monitor listens on a socket in `directory`.
pub fn arguments(cards: &[Card], directory: &Path) -> Vec<String> {
    if cards.is_empty() {
        return Vec::new();
    }
    let monitor = directory.join("monitor");
    let monitor = monitor.display();
    let mut arguments: Vec<String> = [
        "-chardev",
        &format!("socket,id=monitor,path={monitor},server=on,wait=off"),
        "-mon",
        "chardev=monitor,mode=control",
        // QEMU is its own client: what the guest writes to this port is read by the monitor.
        "-chardev",
        &format!("socket,id=line,path={monitor}"),
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=line,name=org.qemu.monitor",
    ]
    .map(str::to_owned)
    .into();
    for Card { number, nic } in cards {
        let (near, far) = (("nic", nic.device(), 0xa0), ("port", Nic::Virtio.device(), 0xa5));
        for ((end, device, kind), (other, ..)) in [(near, far), (far, near)] {
            let name = format!("{end}{number}");
            // A datagram a frame, from one Unix socket to the other.
            let socket = |end: &str| directory.join(format!("{end}{number}")).display().to_string();
            arguments.extend([
                "-netdev".into(),
                format!(
                    "dgram,id={name}-plug,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                    socket(end),
                    socket(other)
                ),
            ]);
            // No ROM: the guest does not boot from these cards.
            let mac = format!("02:{kind:02x}:00:00:00:{number:02x}");
            let device = format!("{device},id={name},netdev={name}-plug,mac={mac},romfile=");
            arguments.extend(["-device".into(), device]);
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_and_its_port_are_at_the_ends_of_one_cable() {
        let words = arguments(&Card::numbered(&[Nic::E1000, Nic::Virtio]), Path::new("/scratch"));
        let at = |wanted: &str| {
            words.iter().position(|word| word == wanted).unwrap_or_else(|| panic!("{wanted}: {words:?}"))
        };
        let plug = |local: &str, remote: &str| {
            format!(
                "dgram,id={local}-plug,local.type=unix,local.path=/scratch/{local},remote.type=unix,remote.path=/scratch/{remote}"
            )
        };
        assert_eq!(words[at(&plug("nic2", "port2")) - 1], "-netdev");
        assert!(at(&plug("port2", "nic2")) > at(&plug("port1", "nic1")));
        at("e1000,id=nic1,netdev=nic1-plug,mac=02:a0:00:00:00:01,romfile=");
        at("virtio-net-pci,id=port1,netdev=port1-plug,mac=02:a5:00:00:00:01,romfile=");
        at("virtio-net-pci,id=nic2,netdev=nic2-plug,mac=02:a0:00:00:00:02,romfile=");
        // The listening end comes first: the other connects at once.
        let listening = at("socket,id=monitor,path=/scratch/monitor,server=on,wait=off");
        assert!(listening < at("socket,id=line,path=/scratch/monitor"));
    }

    #[test]
    fn a_guest_without_cards_has_no_line_to_the_monitor() {
        assert!(arguments(&[], Path::new("/scratch")).is_empty());
    }
}
