//! What a host must show after a boot, whatever configures its other interfaces.

use super::*;

pub const ADDRESS: &str = "192.168.178.200";
const ROUTER: &str = "192.168.178.1";

/// Runs when the host is online, and records what it finds then.
const WITNESS: &str = "[Unit]\nWants=network-online.target\nAfter=network-online.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
                       ExecStart=/bin/sh -c 'ipmpctl health production0 >/var/tmp/witness; ip -brief address show dev production0 \
                       >>/var/tmp/witness'\n\n[Install]\nWantedBy=multi-user.target\n";

/// Installs the package, and a unit that waits for `network-online.target`.
pub fn install_package() {
    ok(&format!("dpkg --install {}", package().display()));
    write("/etc/systemd/system/witness.service", WITNESS);
    ok("systemctl enable witness.service && systemctl is-active ipmpd");
}

/// The first boot of a system without a machine ID enables the units that Debian's presets enable, systemd-networkd among them. The
/// installer of Debian does not.
pub fn disable_networkd() {
    ok(
        "systemctl disable --now systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service",
    );
}

/// Connects the ports of the cards to a switch in the namespace `peer`, with a router. Until now their driver was not loaded.
pub fn connect_cables() {
    ok("modprobe virtio_net && udevadm settle");
    ok("ip netns add peer && ip netns exec peer ip link add br0 type bridge");
    for interface in fs::read_dir("/sys/class/net").unwrap() {
        let path = interface.unwrap().path();
        let is_port = fs::read_to_string(path.join("address")).is_ok_and(|mac| mac.starts_with("02:a5:"));
        if is_port {
            let name = path.file_name().unwrap().to_str().unwrap();
            ok(&format!(
                "ip link set {name} netns peer && ip netns exec peer ip link set {name} master br0 up"
            ));
        }
    }
    ok(&format!(
        "ip netns exec peer sh -c 'ip address add {ROUTER}/24 dev br0 && ip link set br0 up && ip link set lo up'"
    ));
}

/// The group exists, works, and did so before the host was online; no unit was dropped to break a cycle.
pub fn check_boot() {
    let order = [
        ("ipmpd.service", "network.target"),
        ("ipmpd.service", "ipmp-wait-online.service"),
        ("ipmp-wait-online.service", "network-online.target"),
    ];
    for (first, second) in order {
        let (before, after) = (active_since(first), active_since(second));
        println!("{first} active at {before} us, {second} at {after} us");
        assert!(before > 0 && before <= after, "{first} is active at {before} us, {second} at {after} us");
    }
    let witness = ok("cat /var/tmp/witness");
    assert!(witness.contains(&format!("{ADDRESS}/24")), "{witness}");
    assert!(witness.contains("OK") || witness.contains("WARNING"), "{witness}");
    fs::remove_file("/var/tmp/witness").unwrap();
    let journal = ok("journalctl --boot --no-pager --output=cat");
    let cycles: Vec<_> = journal.lines().filter(|line| line.contains("ordering cycle")).collect();
    assert!(cycles.is_empty(), "{cycles:#?}");
    let verified = run(
        "systemd-analyze verify --man=no ipmpd.service ipmp-wait-online.service network-online.target multi-user.target",
    );
    let complaints = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(!complaints.contains("cycle") && !complaints.contains("ipmp"), "{complaints}");
    ok(
        "systemctl --failed --no-pager; ip -brief address; ip route; ipmpctl show; systemd-analyze critical-chain network-online.target --no-pager",
    );
}

/// The router reaches the group, and the group the router.
pub fn check_traffic() {
    ok(&format!("ip netns exec peer ping -c 3 -W 10 {ADDRESS}"));
    ok(&format!("ping -c 3 -W 10 -I production0 {ROUTER}"));
}

fn active_since(unit: &str) -> u64 {
    let text = ok(&format!("systemctl show --value --property ActiveEnterTimestampMonotonic {unit}"));
    text.trim().parse().unwrap()
}

/// The present name of card N.
pub fn name_of(number: u8) -> String {
    let mac = format!("02:a0:00:00:00:0{number}");
    let list = ok("ip -brief link");
    let line = list.lines().find(|line| line.contains(&mac)).unwrap_or_else(|| panic!("{mac}: {list}"));
    line.split_whitespace().next().unwrap().to_owned()
}
