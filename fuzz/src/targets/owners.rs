//! Files of other programs that configure NICs.

use ipmp::owners::{
    Nic, cloud_init, connman, dhcp_client, ifcfg,
    ifupdown::{self, Line},
    netplan, network_manager, networkd, root_file_system,
};

pub fn run(input: &[u8]) -> bool {
    let text = &String::from_utf8_lossy(input);
    let nic = Nic { name: "eth0", ifindex: 3, mac: [2, 0, 0, 0, 0, 1] };
    let lines = ifupdown::lines(text);
    let configured = lines
        .iter()
        .any(|line| matches!(line, Line::Interface { name, method } if name == nic.name && ifupdown::configures(method)));
    assert!(lines.len() <= text.lines().count());
    let file = networkd::network_file(text);
    assert!(file.is_none_or(|file| text.contains(file)));
    let device = network_manager::device(text);
    assert!(device.connection.is_none_or(|uuid| text.contains(uuid)));
    let device_of_root = root_file_system::root_device(text);
    assert!(device_of_root.is_none_or(|device| text.contains(device)));
    let from_cloud_init = cloud_init::is_author(text) || cloud_init::disables(text);
    configured
        || file.is_some()
        || device.managed
        || from_cloud_init
        || root_file_system::nfs_server(text).is_some()
        || connman::excludes(text, nic.name)
        || ifcfg::configures(text)
        || ifcfg::names(text, &nic)
        || netplan::mentions(text, &nic)
        || dhcp_client::client(input, nic.name).is_some()
}
