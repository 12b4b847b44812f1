use std::fs;

use super::*;

const NIC: Nic<'static> = Nic { name: "eth0", ifindex: 3, mac: [0x52, 0x54, 0, 0, 0, 1] };

/// A root directory with these files.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// The owner of the NIC on a host with these files.
fn owner(files: &[(&str, &str)]) -> Option<Owner> {
    Host::new(tree(files).path()).owner(&NIC)
}

const NETWORKD: (&str, &str) = ("/proc/101/comm", "systemd-network\n");
const MANAGER: (&str, &str) = ("/proc/102/comm", "NetworkManager\n");
const IFUP: (&str, &str) = ("/usr/sbin/ifup", "");

fn program(files: &[(&str, &str)]) -> String {
    owner(files).map_or_else(|| "none".into(), |owner| format!("{} ({})", owner.program, owner.source))
}

#[test]
fn link_of_networkd_is_owned_while_networkd_runs_and_manages_it() {
    let link = |state: &'static str| ("/run/systemd/netif/links/3", state);
    let managed = "# This is private data. Do not parse.\nADMIN_STATE=configured\nOPER_STATE=routable\n\
                   NETWORK_FILE=/etc/systemd/network/20-wired.network\n";
    assert_eq!(
        owner(&[link(managed), NETWORKD]).unwrap().describe("eth0"),
        "eth0 is configured by systemd-networkd (/etc/systemd/network/20-wired.network): write the lines [Match], Name=eth0, \
         [Link], Unmanaged=yes into /etc/systemd/network/01-ipmp-eth0.network, then restart it (systemctl restart \
         systemd-networkd; a reload would remove the addresses)"
    );
    assert_eq!(program(&[link(managed)]), "none", "a state file of a networkd that was stopped");
    assert_ne!(
        program(&[link(managed), ("/sys/fs/cgroup/system.slice/systemd-networkd.service/cgroup.procs", "")]),
        "none"
    );
    assert_eq!(program(&[("/run/systemd/netif/links/4", managed), NETWORKD]), "none", "another link");
    for state in ["unmanaged", "linger", "pending", "initialized"] {
        let text: &'static str = format!("ADMIN_STATE={state}\nNETWORK_FILE=\n").leak();
        assert_eq!(program(&[link(text), NETWORKD]), "none", "{state}");
    }
    let unmanaged = "ADMIN_STATE=unmanaged\nNETWORK_FILE=/etc/systemd/network/01-ipmp-eth0.network\n";
    assert_eq!(program(&[link(unmanaged), NETWORKD]), "none");
    assert_eq!(
        program(&[link("ADMIN_STATE=failed\n"), NETWORKD]),
        "systemd-networkd (/run/systemd/netif/links/3)"
    );
}

#[test]
fn networkd_without_links_is_known_once_it_has_decided_about_all() {
    let has_links = |states: &[&str]| {
        let files: Vec<(String, String)> = (1..)
            .zip(states)
            .map(|(index, state)| {
                (format!("/run/systemd/netif/links/{index}"), format!("ADMIN_STATE={state}\n"))
            })
            .collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        Host::new(tree(&files).path()).networkd_has_links()
    };
    assert_eq!(has_links(&[]), None);
    assert_eq!(has_links(&["unmanaged", "pending"]), None);
    assert_eq!(has_links(&["unmanaged", "initialized"]), None);
    assert_eq!(has_links(&["unmanaged", "linger"]), Some(false));
    for state in ["configuring", "configured", "failed"] {
        assert_eq!(has_links(&["pending", state, "unmanaged"]), Some(true), "{state}");
    }
}

#[test]
fn writer_of_the_configuration_is_named_with_the_program_that_applies_it() {
    let link = |file: &str| -> (&str, &str) {
        ("/run/systemd/netif/links/3", format!("ADMIN_STATE=configured\nNETWORK_FILE={file}\n").leak())
    };
    let generated = "/run/systemd/network/10-netplan-eth0.network";
    let yaml = "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n";
    assert_eq!(
        program(&[link(generated), NETWORKD]),
        "netplan through systemd-networkd (/run/systemd/network/10-netplan-eth0.network)"
    );
    assert_eq!(
        program(&[link(generated), NETWORKD, ("/etc/netplan/01-netcfg.yaml", yaml)]),
        "netplan (file /etc/netplan/01-netcfg.yaml) through systemd-networkd (/run/systemd/network/10-netplan-eth0.network)"
    );
    assert_eq!(
        program(&[link(generated), NETWORKD, ("/etc/netplan/50-cloud-init.yaml", yaml)]),
        "netplan (file /etc/netplan/50-cloud-init.yaml of cloud-init) through systemd-networkd \
         (/run/systemd/network/10-netplan-eth0.network)"
    );
    let file = "/etc/systemd/network/10-cloud-init-eth0.network";
    assert_eq!(
        program(&[link(file), NETWORKD]),
        "cloud-init through systemd-networkd (/etc/systemd/network/10-cloud-init-eth0.network)"
    );
}

#[test]
fn device_of_network_manager_is_owned_while_it_runs_and_manages_it() {
    let device = |text: &'static str| ("/run/NetworkManager/devices/3", text);
    let managed = "[device]\nmanaged=true\nconnection-uuid=5a4b\nroute-metric-default-effective=100\n";
    let connection = |place: &str| -> (&str, &str) {
        (format!("{place}/wired.nmconnection").leak(), "[connection]\nid=Wired\nuuid=5a4b\ntype=ethernet\n")
    };
    assert_eq!(
        owner(&[device(managed), MANAGER, connection("/etc/NetworkManager/system-connections")])
            .unwrap()
            .describe("eth0"),
        "eth0 is configured by NetworkManager (/etc/NetworkManager/system-connections/wired.nmconnection): write the lines \
         [keyfile], unmanaged-devices+=interface-name:eth0 into /etc/NetworkManager/conf.d/ipmp-eth0.conf, then stop it \
         (systemctl stop NetworkManager), remove /run/NetworkManager/devices/3 and start it (a reload, or nmcli, would set the \
         link down)"
    );
    assert_eq!(program(&[device(managed), MANAGER]), "NetworkManager (/run/NetworkManager/devices/3)");
    assert_eq!(program(&[device(managed)]), "none");
    assert_eq!(program(&[device("[device]\nmanaged=false\n"), MANAGER]), "none");
}

#[test]
fn interface_of_ifupdown_is_owned_unless_its_method_is_manual() {
    let file = |text: &'static str| ("/etc/network/interfaces", text);
    let stanza = "auto lo eth0\niface lo inet loopback\niface eth0 inet static\n    address 192.0.2.1/24\n";
    assert_eq!(
        owner(&[file(stanza), IFUP]).unwrap().describe("eth0"),
        "eth0 is configured by ifupdown (/etc/network/interfaces): replace the lines of eth0 there by 'iface eth0 inet \
         manual', and do not run ifdown, which would remove the addresses"
    );
    assert_eq!(program(&[file(stanza)]), "none", "ifupdown is not installed");
    for (text, state, owned) in [
        ("allow-hotplug eth0\niface eth0 inet dhcp\n", "", true),
        ("auto eth0\niface eth0 inet manual\n", "", false),
        ("auto eth0\niface eth0 inet manual\niface eth0 inet6 auto\n", "", true),
        ("iface eth0 inet static\n", "", false),
        ("iface eth0 inet static\n", "lo=lo\neth0=eth0\n", true),
        ("auto \\\n eth0\niface eth0 inet dhcp\n", "", true),
        ("auto eth1\niface eth1 inet dhcp\niface eth00 inet dhcp\n", "", false),
        ("#auto eth0\n#iface eth0 inet dhcp\n", "eth0=eth0\n", false),
        ("auto eth0\niface eth0\n", "", true),
    ] {
        let found = owner(&[file(text), IFUP, ("/run/network/ifstate", state)]);
        assert_eq!(found.is_some(), owned, "{text:?} {state:?}");
    }
    for (include, name, owned) in [
        ("source /etc/network/interfaces.d/*\n", "eth0.cfg", true),
        ("source interfaces.d/*.cfg\n", "eth0.cfg", true),
        ("source interfaces.d/*.cfg\n", "eth0", false),
        ("source interfaces.d/eth?\n", "eth0", true),
        ("source-directory interfaces.d\n", "eth0", true),
        ("source-directory interfaces.d\n", "eth0.cfg", false),
    ] {
        let path: &str = format!("/etc/network/interfaces.d/{name}").leak();
        let found = owner(&[file(include), (path, "auto eth0\niface eth0 inet dhcp\n"), IFUP]);
        assert_eq!(found.map(|found| found.source), owned.then(|| path.to_owned()), "{include:?} {name}");
    }
    // A file that includes itself ends.
    assert_eq!(program(&[file("source /etc/network/inter*\nsource interfaces\n"), IFUP]), "none");
}

#[test]
fn cloud_init_through_ifupdown_needs_its_network_configuration_disabled() {
    let include = ("/etc/network/interfaces", "source /etc/network/interfaces.d/*\n");
    let written = (
        "/etc/network/interfaces.d/50-net",
        "# This file is generated from information provided by the datasource.  Changes\nauto eth0\niface eth0 inet dhcp\n",
    );
    let found = owner(&[include, written, IFUP]).unwrap();
    assert_eq!(found.program, "cloud-init through ifupdown");
    assert!(found.remedy.ends_with(cloud_init::REMEDY), "{}", found.remedy);
    for text in ["network: {config: disabled}\n", "# ours\nnetwork:\n  config: disabled\n"] {
        let found = owner(&[include, written, IFUP, ("/etc/cloud/cloud.cfg.d/99-ipmp.cfg", text)]).unwrap();
        assert!(found.remedy.ends_with("remove the addresses"), "{text:?}: {}", found.remedy);
    }
    assert!(!cloud_init::disables("#network: {config: disabled}\n"));
}

#[test]
fn netplan_file_names_a_nic_by_name_or_mac() {
    for (text, expected) in [
        ("network:\n  ethernets:\n    eth0:\n      dhcp4: true\n", true),
        ("network:\n  ethernets:\n    \"eth0\":\n      dhcp4: true\n", true),
        ("network:\n  ethernets:\n    eth1:\n      dhcp4: true\n", false),
        ("network:\n  wifis:\n    eth0:\n", false),
        ("network:\n  ethernets:\n    lan:\n      match:\n        macaddress: \"52:54:00:00:00:01\"\n", true),
        ("network:\n  ethernets:\n    lan:\n      set-name: eth0\n", true),
        ("network:\n  ethernets:\n    #eth0:\n    eth2: {}\n  bonds:\n    eth0:\n", false),
    ] {
        assert_eq!(netplan::mentions(text, &NIC), expected, "{text:?}");
    }
}

#[test]
fn dhcp_client_is_found_by_its_command_line() {
    for (command, expected) in [
        ("/sbin/dhclient\0-4\0-v\0-pf\0/run/dhclient.eth0.pid\0eth0\0", Some("dhclient")),
        ("/sbin/dhclient\0-pf\0/run/dhclient.eth0.pid\0eth1\0", None),
        ("busybox\0udhcpc\0-i\0eth0\0", Some("udhcpc")),
        ("udhcpc\0-ieth0\0", Some("udhcpc")),
        ("dhcpcd: eth0 [ip4]\0", Some("dhcpcd")),
        ("dhcpcd: eth1 [ip4]\0", None),
        ("grep\0dhclient\0eth0\0", None),
        ("vi\0/etc/dhclient.conf\0eth0\0", None),
        ("", None),
    ] {
        assert_eq!(dhcp_client::client(command.as_bytes(), "eth0"), expected, "{command:?}");
    }
    assert_eq!(
        program(&[("/proc/77/cmdline", "udhcpc\0-i\0eth0\0"), ("/proc/self/cmdline", "udhcpc\0-i\0eth0\0")]),
        "the DHCP client udhcpc (process 77)"
    );
}

#[test]
fn root_file_system_on_nfs_or_iscsi_is_found() {
    let nfs =
        "rootfs / rootfs rw 0 0\n192.0.2.5:/srv / nfs4 rw,vers=4.2,clientaddr=192.0.2.1,addr=192.0.2.5 0 0\n";
    assert_eq!(root_file_system::nfs_server(nfs), Some([192, 0, 2, 5].into()));
    for mounts in [
        "/dev/sda1 / ext4 rw 0 0\n192.0.2.5:/srv /srv nfs rw,addr=192.0.2.5 0 0\n",
        "192.0.2.5:/srv / nfs rw,addr=192.0.2.5 0 0\noverlay / overlay rw 0 0\n",
        "192.0.2.5:/srv / nfs rw 0 0\n",
        "",
    ] {
        assert_eq!(root_file_system::nfs_server(mounts), None, "{mounts:?}");
    }
    let mountinfo = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:5 / /proc rw - proc proc rw\n";
    assert_eq!(root_file_system::root_device(mountinfo), Some("8:1"));
    assert_eq!(root_file_system::root_device("22 1\n"), None);

    // The route to the loopback address needs no network.
    let local: IpAddr = [127, 0, 0, 1].into();
    let through = |files: &[(&str, &str)], addresses: &[IpAddr]| {
        let root = tree(files);
        // A disk of an iSCSI session, below a mapped device.
        let disk = "sys/devices/platform/host2/session4/target2:0:0/2:0:0:0/block/sda";
        fs::create_dir_all(root.path().join(disk)).unwrap();
        fs::create_dir_all(root.path().join("sys/devices/virtual/block/dm-0/slaves")).unwrap();
        fs::create_dir_all(root.path().join("sys/dev/block")).unwrap();
        let link = |to: &str, from: &str| {
            std::os::unix::fs::symlink(root.path().join(to), root.path().join(from)).unwrap()
        };
        link(disk, "sys/devices/virtual/block/dm-0/slaves/sda");
        link("sys/devices/virtual/block/dm-0", "sys/dev/block/253:0");
        Host::new(root.path())
            .root_through(&NIC, addresses)
            .map(|root| format!("{} ({})", root.server, root.source))
    };
    let nfs = ("/proc/self/mounts", "127.0.0.1:/srv / nfs rw,addr=127.0.0.1 0 0\n");
    assert_eq!(through(&[nfs], &[local]).as_deref(), Some("NFS server 127.0.0.1 (/proc/self/mounts)"));
    assert_eq!(through(&[nfs], &[[192, 0, 2, 1].into()]), None);
    let firmware = |mac: &'static str| ("/sys/firmware/ibft/ethernet0/mac", mac);
    assert_eq!(
        through(&[firmware("52:54:00:00:00:01\n")], &[]).as_deref(),
        Some("iSCSI server (/sys/firmware/ibft/ethernet0/mac)")
    );
    assert_eq!(through(&[firmware("52:54:00:00:00:02\n")], &[]), None);
    let mapped = ("/proc/self/mountinfo", "22 1 253:0 / / rw - ext4 /dev/dm-0 rw\n");
    let server = ("/sys/class/iscsi_connection/connection4:0/address", "127.0.0.1\n");
    assert_eq!(
        through(&[mapped, server], &[local]).as_deref(),
        Some("iSCSI server 127.0.0.1 (/sys/class/iscsi_connection/connection4:0/address)")
    );
    assert_eq!(through(&[mapped, server], &[]), None);
}

#[test]
fn files_of_host_say_nothing_in_another_network_namespace() {
    let (host, blue) = ((4, 1), (4, 2));
    for (own, first, named, expected) in [
        (host, Some(host), vec![blue], true),
        (blue, Some(host), vec![blue], false),
        // Without permission to read that of the first process.
        (host, None, vec![blue], true),
        (blue, None, vec![(4, 3), blue], false),
    ] {
        assert_eq!(is_same(Some(own), first, named.into_iter()), expected, "{own:?} {first:?}");
    }
    assert!(namespace(OWN_NAMESPACE.as_ref()).is_some());
}

#[test]
fn connman_owns_what_its_blacklist_does_not_have() {
    let runs = ("/proc/103/comm", "connmand\n");
    let settings = |text: &'static str| ("/etc/connman/main.conf", text);
    assert_eq!(program(&[runs]), "ConnMan (/etc/connman/main.conf)");
    assert_eq!(
        program(&[runs, settings("[General]\nNetworkInterfaceBlacklist=vmnet,lo\n")]),
        "ConnMan (/etc/connman/main.conf)"
    );
    assert_eq!(program(&[runs, settings("[General]\nNetworkInterfaceBlacklist = vmnet, eth\n")]), "none");
    assert_eq!(program(&[settings("[General]\n")]), "none");
}

#[test]
fn ifcfg_file_is_read_by_wicked_or_the_network_scripts() {
    let wicked = ("/proc/104/comm", "wickedd\n");
    let scripts = ("/etc/sysconfig/network-scripts/ifup-eth", "");
    let suse = |text: &'static str| ("/etc/sysconfig/network/ifcfg-eth0", text);
    let redhat = |name: &str, text: &'static str| -> (&str, &str) {
        (format!("/etc/sysconfig/network-scripts/ifcfg-{name}").leak(), text)
    };
    let dhcp = "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n";
    assert_eq!(program(&[suse(dhcp), wicked]), "wicked (/etc/sysconfig/network/ifcfg-eth0)");
    assert_eq!(program(&[suse(dhcp)]), "none", "NetworkManager or another program reads it");
    assert_eq!(program(&[suse("BOOTPROTO='dhcp'\nSTARTMODE='off'\n"), wicked]), "none");
    assert_eq!(program(&[suse("BOOTPROTO='none'\nSTARTMODE='auto'\n"), wicked]), "none");
    let text = "DEVICE=eth0\nONBOOT=yes\nBOOTPROTO=none\nIPADDR=192.0.2.1\nPREFIX=24\n";
    let file = "the network scripts (/etc/sysconfig/network-scripts/ifcfg-eth0)";
    assert_eq!(program(&[redhat("eth0", text), scripts]), file);
    assert_eq!(program(&[redhat("eth0", text)]), "none");
    let by_mac = "HWADDR=52:54:00:00:00:01\nBOOTPROTO=dhcp\n";
    assert_eq!(
        program(&[redhat("lan", by_mac), scripts]),
        "the network scripts (/etc/sysconfig/network-scripts/ifcfg-lan)"
    );
    assert_eq!(program(&[redhat("eth1", "DEVICE=eth1\nBOOTPROTO=dhcp\n"), scripts]), "none");
}
