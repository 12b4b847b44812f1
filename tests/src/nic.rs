//! Members that are emulated network cards, in a virtual machine started by `cargo xtask vm --nic MODEL` or `cargo xtask
//! test`.
//!
//! QEMU connects each card with a port, a virtio card in the same machine. Unlike veth devices, these cards filter what
//! they receive by address and by VLAN, and their drivers report the carrier with a delay. QEMU pulls a cable on
//! request ([`crate::Cable::pull`]).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command::ip_batch;
use crate::namespace::Namespace;
use crate::netlink::Netlink;
use crate::{Mac, TIMEOUT, qmp, show_mac, wait_until};

/// Lists the models of the machine's cards, in their order.
const VARIABLE: &str = "IPMP_LAB_NICS";

/// A network card of this machine, with its cable and its port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nic {
    /// Its number, from 1.
    number: u8,
}

impl Nic {
    /// The card of a model, by its index among the cards of that model, from 0.
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

    /// Moves the card into one namespace and its port, as a port of `br0`, into another, and sets both up.
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

    /// Plugs the cable into the card, or pulls it.
    pub fn set_near(self, plugged: bool) -> Result<()> {
        qmp::set_link(&format!("nic{}", self.number), plugged)
    }

    /// Plugs the cable into the card's port, or pulls it.
    pub fn set_far(self, plugged: bool) -> Result<()> {
        qmp::set_link(&format!("port{}", self.number), plugged)
    }
}

/// A card without its driver, and so without its interface.
#[derive(Debug)]
pub struct Unbound {
    mac: Mac,
    /// The directory of the driver in sysfs.
    driver: PathBuf,
    /// The card on its bus.
    device: String,
}

impl Unbound {
    /// Removes the driver from a card, as `rmmod` does; `interface` is its present one.
    pub(crate) fn unbind(card: Nic, namespace: &Namespace, interface: &str) -> Result<Self> {
        let text = namespace.ip(&format!("-j -d link show {interface}"))?;
        let shown: Value = serde_json::from_str(&text).context("`ip -j link` does not print JSON")?;
        let field = |name: &str| {
            let value = shown[0][name].as_str().with_context(|| format!("{interface} has no {name}"))?;
            anyhow::Ok(value.to_owned())
        };
        let (bus, device) = (field("parentbus")?, field("parentdev")?);
        let driver = fs::canonicalize(format!("/sys/bus/{bus}/devices/{device}/driver"))
            .with_context(|| format!("{device} has no driver"))?;
        let this = Self { mac: card.mac(), driver, device };
        this.write("unbind")?;
        Ok(this)
    }

    /// Gives the card its driver back. Its new interface is moved into a namespace, with this name, and is down.
    pub fn bind(self, namespace: &Namespace, name: &str) -> Result<()> {
        self.write("bind")?;
        let found = wait_for(self.mac)?;
        ip_batch(None, &[format!("link set {found} netns {} name {name}", namespace.name())])
    }

    fn write(&self, file: &str) -> Result<()> {
        let path = self.driver.join(file);
        fs::write(&path, &self.device).with_context(|| format!("cannot write to {}", path.display()))
    }
}

/// Waits for the interface with this address in the namespace of the caller, where unused cards are. The kernel moves
/// the cards of a previous lab back some time after its namespaces are deleted.
fn wait_for(mac: Mac) -> Result<String> {
    let netlink = Netlink::open()?;
    let mut found = None;
    wait_until(TIMEOUT, || {
        let links = netlink.links().unwrap_or_default();
        found = links
            .into_iter()
            .map(|(_, name)| name)
            .find(|name| netlink.link(name).is_ok_and(|link| link.mac == mac));
        found.is_some()
    });
    found.with_context(|| {
        format!("no network card {} after {TIMEOUT:?}: does the kernel have its driver?", show_mac(mac))
    })
}
