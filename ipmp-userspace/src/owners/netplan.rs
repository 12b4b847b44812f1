//! netplan: YAML files from which it writes the configuration of systemd-networkd or NetworkManager.

use super::{Host, Nic, cloud_init};

/// Where its files are; a file of an earlier directory hides one of the same name in a later one.
const DIRECTORIES: [&str; 3] = ["/run/netplan", "/etc/netplan", "/lib/netplan"];

/// What configures a NIC through another program, with the file that names it.
pub(super) fn describe(host: &Host, nic: &Nic<'_>, through: &str) -> String {
    let mut files = DIRECTORIES.iter().flat_map(|directory| host.files(directory, ".yaml"));
    let file = files.find(|file| host.read_if_permitted(file).is_some_and(|text| mentions(&text, nic)));
    let Some(file) = file else { return format!("netplan through {through}") };
    let file = file.display().to_string();
    let writer = if cloud_init::has_written(host, &file) { " of cloud-init" } else { "" };
    format!("netplan (file {file}{writer}) through {through}")
}

/// Whether a file configures a NIC, by its name or its MAC. Reads block style, which netplan and cloud-init write.
pub fn mentions(text: &str, nic: &Nic<'_>) -> bool {
    let mac = nic.mac.map(|byte| format!("{byte:02x}")).join(":");
    let mut ethernets = None;
    for line in text.lines() {
        let content = line.trim_start();
        let Some((key, value)) = content.split_once(':').filter(|_| !content.starts_with('#')) else {
            continue;
        };
        let depth = line.len() - content.len();
        let plain = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
        if plain(key) == "ethernets" {
            ethernets = Some(depth);
            continue;
        }
        let Some(top) = ethernets else { continue };
        if depth <= top {
            ethernets = None;
            continue;
        }
        let is_named = plain(key) == nic.name && value.trim().is_empty();
        let is_matched = match plain(key).as_str() {
            "set-name" => plain(value) == nic.name,
            "macaddress" => plain(value).eq_ignore_ascii_case(&mac),
            _ => false,
        };
        if is_named || is_matched {
            return true;
        }
    }
    false
}
