//! A DHCP client that was started for one NIC.

use std::path::Path;

use super::{Host, Kind, Nic, Owner};

/// Their names.
const CLIENTS: [&str; 6] = ["dhclient", "udhcpc", "udhcpc6", "dhcpcd", "dhcp6c", "dhcp-client"];

/// The name of the DHCP client that a command line starts for an interface. Its words end with a NUL, as in
/// `/proc/PID/cmdline`.
pub fn client(command: &[u8], interface: &str) -> Option<&'static str> {
    let text = String::from_utf8_lossy(command);
    // dhcpcd replaces its command line: "dhcpcd: eth0 [ip4]".
    if let Some(title) = text.strip_prefix("dhcpcd: ") {
        let name = title.split([' ', '\0']).next();
        return (name == Some(interface)).then_some("dhcpcd");
    }
    let mut words = text.split('\0').filter(|word| !word.is_empty());
    let name_of = |word: &str| {
        let name = Path::new(word).file_name()?.to_str()?;
        CLIENTS.into_iter().find(|client| *client == name)
    };
    let first = words.next()?;
    // "busybox udhcpc -i eth0"
    let is_busybox = Path::new(first).file_name().is_some_and(|name| name == "busybox");
    let found = name_of(if is_busybox { words.next()? } else { first })?;
    words.any(|word| word == interface || word.strip_prefix("-i") == Some(interface)).then_some(found)
}

pub(super) fn owner(host: &Host, nic: &Nic<'_>) -> Option<Owner> {
    host.processes().find_map(|process| {
        if !host.is_process_here(&process) {
            return None;
        }
        let command = host.read_bytes(format!("/proc/{process}/cmdline")).ok()?;
        let program = client(&command, nic.name)?;
        Some(Owner {
            kind: Kind::Other,
            program: format!("the DHCP client {program}"),
            source: format!("process {process}"),
            remedy: format!(
                "stop it and configure the address as a static one, or keep the lease as the test address of {} \
                 (--test-address dhcp)",
                nic.name
            ),
        })
    })
}
