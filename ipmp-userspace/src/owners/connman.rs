//! ConnMan: it configures every NIC that its blacklist does not have.

use super::{Host, Kind, Nic, Owner, value};

/// Name of the program, and of its service.
const PROGRAM: &str = "connmand";
const SERVICE: &str = "connman";
/// Its settings.
const SETTINGS: &str = "/etc/connman/main.conf";

/// Whether its settings exclude an interface: by the beginnings of names.
pub fn excludes(settings: &str, interface: &str) -> bool {
    let list = value(settings, "NetworkInterfaceBlacklist").unwrap_or_default();
    list.split(',').map(str::trim).any(|beginning| !beginning.is_empty() && interface.starts_with(beginning))
}

pub(super) fn owner(host: &Host, nic: &Nic<'_>) -> Option<Owner> {
    if !host.runs(PROGRAM) && !host.runs(SERVICE) {
        return None;
    }
    let settings = host.read(SETTINGS).unwrap_or_default();
    if excludes(&settings, nic.name) {
        return None;
    }
    let name = nic.name;
    Some(Owner {
        kind: Kind::Other,
        program: "ConnMan".into(),
        source: SETTINGS.into(),
        remedy: format!(
            "add {name} to NetworkInterfaceBlacklist in [General] of {SETTINGS}, then restart it (systemctl restart {SERVICE}); \
             from a console, since ConnMan may remove the addresses, which are then to be added again"
        ),
    })
}
