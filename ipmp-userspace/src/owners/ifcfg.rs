//! `ifcfg` files: of wicked (SUSE), and of the network scripts of RHEL without NetworkManager.

use super::{Host, Kind, Nic, Owner, value};

/// What reads such files, where they are, and what shows that it is in use.
const READERS: [Reader; 2] = [
    Reader { program: "wicked", directory: "/etc/sysconfig/network", service: Some("wickedd"), script: None },
    Reader {
        program: "the network scripts",
        directory: "/etc/sysconfig/network-scripts",
        service: None,
        script: Some("/etc/sysconfig/network-scripts/ifup-eth"),
    },
];

struct Reader {
    program: &'static str,
    directory: &'static str,
    service: Option<&'static str>,
    script: Option<&'static str>,
}

/// Whether a file configures its interface at boot.
pub fn configures(text: &str) -> bool {
    let word =
        |key: &str| value(text, key).unwrap_or_default().trim_matches(['"', '\'']).to_ascii_lowercase();
    let is_manual = matches!(word("STARTMODE").as_str(), "off" | "manual") || word("ONBOOT") == "no";
    let has_address = text.lines().any(|line| line.trim_start().starts_with("IPADDR"));
    !is_manual && (has_address || !matches!(word("BOOTPROTO").as_str(), "none" | ""))
}

/// Whether a file is that of an interface, by what is in it.
pub fn names(text: &str, nic: &Nic<'_>) -> bool {
    let word = |key: &str| value(text, key).map(|word| word.trim_matches(['"', '\'']).to_ascii_lowercase());
    let mac = nic.mac.map(|byte| format!("{byte:02x}")).join(":");
    word("DEVICE").is_some_and(|name| name == nic.name.to_ascii_lowercase()) || word("HWADDR") == Some(mac)
}

pub(super) fn owner(host: &Host, nic: &Nic<'_>) -> Option<Owner> {
    let in_use = |reader: &&Reader| {
        reader.service.is_some_and(|service| host.runs(service))
            || reader.script.is_some_and(|script| host.exists(script))
    };
    READERS.iter().filter(in_use).find_map(|Reader { program, directory, .. }| {
        let own = format!("ifcfg-{}", nic.name);
        let file = host.files(directory, "").into_iter().find(|file| {
            let file_name = file.file_name().unwrap_or_default().to_string_lossy();
            file_name.starts_with("ifcfg-")
                && host.read_if_permitted(file).is_some_and(|text| {
                    (*file_name == *own || names(&text, nic)) && configures(&text)
                })
        })?;
        let name = nic.name;
        Some(Owner {
            kind: Kind::Other,
            program: (*program).into(),
            source: file.display().to_string(),
            remedy: format!(
                "set BOOTPROTO=none and remove the lines IPADDR… and GATEWAY… there, and do not run ifdown, which would remove \
                 the addresses; after a boot, ipmpd sets {name} up"
            ),
        })
    })
}
