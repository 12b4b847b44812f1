//! NetworkManager: the state that it keeps of each device.

use super::{Host, Kind, Nic, Owner, cloud_init, netplan, value};

/// Name of the program.
const PROGRAM: &str = "NetworkManager";
/// Where its connections are.
const CONNECTIONS: [&str; 2] =
    ["/etc/NetworkManager/system-connections", "/run/NetworkManager/system-connections"];

/// What the state file of a device says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device<'a> {
    /// Whether the device is managed.
    pub managed: bool,
    /// The active connection.
    pub connection: Option<&'a str>,
}

/// Reads the state file of a device (`nm_config_device_state_write` in `src/core/nm-config.c` of NetworkManager).
pub fn device(state: &str) -> Device<'_> {
    Device {
        managed: matches!(value(state, "managed"), Some("true" | "1")),
        connection: value(state, "connection-uuid"),
    }
}

pub(super) fn owner(host: &Host, nic: &Nic<'_>) -> Option<Owner> {
    let state_file = format!("/run/NetworkManager/devices/{}", nic.ifindex);
    let state = host.read(&state_file)?;
    let device = device(&state);
    if !device.managed || !host.runs(PROGRAM) {
        return None;
    }
    let mut files = CONNECTIONS.iter().flat_map(|directory| host.files(directory, ".nmconnection"));
    let connection = device.connection.and_then(|uuid| {
        files.find(|file| host.read_if_permitted(file).is_some_and(|text| value(&text, "uuid") == Some(uuid)))
    });
    let source = connection.map_or_else(|| state_file.clone(), |file| file.display().to_string());
    let program = if source.contains("netplan") {
        netplan::describe(host, nic, PROGRAM)
    } else if cloud_init::has_written(host, &source) {
        format!("cloud-init through {PROGRAM}")
    } else {
        PROGRAM.to_owned()
    };
    let name = nic.name;
    // A device that becomes unmanaged while it runs is set down; NetworkManager leaves it as it is when it ends. From its state file it
    // would activate the connection again at its start.
    let remedy = format!(
        "write the lines [keyfile], unmanaged-devices+=interface-name:{name} into \
         /etc/NetworkManager/conf.d/ipmp-{name}.conf, then stop it (systemctl stop {PROGRAM}), remove {state_file} and start it \
         (a reload, or nmcli, would set the link down)"
    );
    Some(Owner { kind: Kind::NetworkManager, program, source, remedy })
}

pub(super) fn has_left(host: &Host, nic: &Nic<'_>) -> bool {
    let state = host.read(format!("/run/NetworkManager/devices/{}", nic.ifindex));
    state.is_none_or(|state| !device(&state).managed) && host.runs(PROGRAM)
}
