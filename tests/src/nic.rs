//! Members that are network cards: those of a virtual machine that `cargo xtask vm --nic MODEL` started, and `cargo
//! xtask test` too.
//!
//! The emulator has a cable between each card and its port, a virtio card in the same machine. What a veth hides is
//! true of them: they filter what they receive by address and by VLAN, and their carrier is what their driver makes of
//! a register, sooner or later. The emulator pulls a cable on request ([`crate::Cable::pull`]).

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::ip_batch;
use crate::namespace::Namespace;
use crate::netlink::Netlink;
use crate::{Mac, clock, emulator, show_mac};

/// Names the models of the machine's cards in their order.
const VARIABLE: &str = "IPMP_LAB_NICS";
/// A lab that has ended gives its cards back when its namespaces are gone, which the kernel does when it has time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A network card of this machine, with its cable and its port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nic {
    /// Its number, from 1.
    number: u8,
}

impl Nic {
    /// The card of a model, by its place among those of that model, from 0.
    pub fn find(model: &str, place: usize) -> Result<Self> {
        let cards = std::env::var(VARIABLE).unwrap_or_default();
        let numbered = (1u8..).zip(cards.split_whitespace());
        let found = numbered.filter(|(_, known)| *known == model).nth(place);
        let (number, _) = found.with_context(|| {
            format!(
                "this machine has no {model} card number {} ({VARIABLE} is \"{cards}\"): use `cargo xtask test --kernel \
                 6.12`, or `cargo xtask vm` with enough `--nic {model}`",
                place + 1
            )
        })?;
        Ok(Self { number })
    }

    /// Its Ethernet address.
    pub fn mac(self) -> Mac {
        [0x02, 0xa0, 0, 0, 0, self.number]
    }

    /// Puts the card into one namespace and its port, as a port of `br0`, into another. Both are plugged in and up.
    pub fn install(self, near: (&Namespace, &str), far: (&Namespace, &str)) -> Result<()> {
        let port_mac = [0x02, 0xa5, 0, 0, 0, self.number];
        for (mac, (namespace, name)) in [(self.mac(), near), (port_mac, far)] {
            let found = wait_for(mac)?;
            ip_batch(
                None,
                &[
                    format!("link set {found} down"),
                    format!("link set {found} netns {} name {name}", namespace.name()),
                ],
            )?;
        }
        self.set_far(true)?;
        self.set_near(true)?;
        far.0.netlink().add_clsact(far.1)?;
        far.0.ip(&format!("link set {} master br0 up", far.1))?;
        near.0.ip(&format!("link set {} up", near.1))?;
        Ok(())
    }

    /// Plugs the cable into the card, or pulls it out.
    pub fn set_near(self, plugged: bool) -> Result<()> {
        emulator::set_link(&format!("nic{}", self.number), plugged)
    }

    /// Plugs the cable into the card's port, or pulls it out.
    pub fn set_far(self, plugged: bool) -> Result<()> {
        emulator::set_link(&format!("port{}", self.number), plugged)
    }
}

/// The name of the interface with this address in the namespace of the caller, where the cards are as long as nobody
/// has them.
fn wait_for(mac: Mac) -> Result<String> {
    let netlink = Netlink::open()?;
    let mut found = None;
    clock::wait_until(PATIENCE, || {
        let links = netlink.links().unwrap_or_default();
        found = links
            .into_iter()
            .map(|(_, name)| name)
            .find(|name| netlink.link(name).is_ok_and(|link| link.mac == mac));
        found.is_some()
    });
    found.with_context(|| {
        format!("no network card {} is here after {PATIENCE:?}: has the kernel its driver?", show_mac(mac))
    })
}
