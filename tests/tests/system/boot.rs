//! What a host must show after a boot, whatever configures its other interfaces.

use lab::tutorial::{self, compare};

use super::*;

pub const ADDRESS: &str = "192.168.178.200";
const ROUTER: &str = "192.168.178.1";

/// The tables of the tutorial, with the names of this host's cards.
const NAMES: [(&str, &str); 3] = [("e1000g0", "eth0"), ("e1000g1", "eth1"), ("rge0", "eth2")];

/// Runs when the host is online, and records what it finds then.
const WITNESS: &str = "[Unit]\nWants=network-online.target\nAfter=network-online.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
                       ExecStart=/bin/sh -c 'ipmpctl health production0 >/var/tmp/witness; ip -brief address show dev production0 \
                       >>/var/tmp/witness'\n\n[Install]\nWantedBy=multi-user.target\n";

/// Installs the package, and a unit that waits for `network-online.target`.
pub fn install_package() {
    ok(&format!("dpkg --install {}", package("_amd64.deb").display()));
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

/// Attaches the cards in a session over one of them, confirms that in a new session, and saves it.
pub fn make_group(options: &str) {
    // Without keys of the host it fails, and on a slow host systemd still starts it again and again.
    ok("systemctl stop ssh");
    ok("ssh-keygen -A && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519");
    ok("cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys");
    ok("systemctl start ssh || { journalctl --boot --no-pager --unit ssh; exit 1; }");
    let in_session = |line: &str| {
        ok(&format!(
            "ip netns exec peer ssh -o StrictHostKeyChecking=no -o BatchMode=yes root@{ADDRESS} {line}"
        ))
    };
    in_session(&format!("ipmpctl attach eth0 eth1 eth2 --group production0 {options} --confirm 300"));
    in_session("ipmpctl confirm");
    let saved = ok("ipmpctl save && cat /etc/ipmp/ipmp.toml");
    // As a gateway or, with a metric, as a route.
    assert!(saved.contains(&format!("\"{ROUTER}\"")), "{saved}");
    check_traffic();
}

/// The group exists, works, and did so before the host was online; no unit was dropped to break a cycle.
pub fn check_boot() {
    // systemd-analyze needs the end of the boot, for which services of cloud-init are late.
    run(&format!("timeout {} systemctl is-system-running --wait", PATIENCE.as_secs()));
    let order = [
        ("ipmpd.service", "network.target"),
        ("ipmpd.service", "ipmp-wait-online.service"),
        ("ipmp-wait-online.service", "network-online.target"),
    ];
    for (first, second) in order {
        check_order(first, second);
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
    let failed = ok("systemctl list-units --failed --no-legend --plain");
    assert!(!failed.contains("online") && !failed.contains("ipmp"), "{failed}");
    ok(
        "ip -brief address; ip route; ipmpctl show; systemd-analyze critical-chain network-online.target --no-pager",
    );
}

/// The router reaches the group, and the group the router.
pub fn check_traffic() {
    ok(&format!("ip netns exec peer ping -c 3 -W 10 {ADDRESS}"));
    ok(&format!("ping -c 3 -W 10 -I production0 {ROUTER}"));
}

/// The group is as it was saved: `ipmpstat` prints the tables of the tutorial.
pub fn check_tables() {
    for (printed, line) in tutorial::BOOTED_LINK_BASED.into_iter().zip(["ipmpstat -g", "ipmpstat -i"]) {
        let printed = NAMES.iter().fold(printed.to_owned(), |text, (there, here)| text.replace(there, here));
        let here = ok(line);
        let found = compare::differences(&compare::table(&printed), &compare::table(&here));
        // Which member receives multicast is a race after a start: there is one.
        let other: Vec<_> = found.iter().filter(|difference| difference.cell != "FLAGS").collect();
        assert!(other.is_empty(), "{line}: {other:#?}\n{here}");
        assert!(!line.ends_with("-i") || here.matches("mb").count() == 1, "{here}");
    }
    ok("ip route | grep '^default via 192.168.178.1 dev production0' && ipmpctl diff --exit-code");
}

/// The first unit was active before the second.
pub fn check_order(first: &str, second: &str) {
    let (before, after) = (active_since(first), active_since(second));
    println!("{first} active at {before} us, {second} at {after} us");
    assert!(before > 0 && before <= after, "{first} is active at {before} us, {second} at {after} us");
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
