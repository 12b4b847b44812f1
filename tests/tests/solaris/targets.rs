//! Targets and times of probes (1.9.1, 1.9.2, 1.9.4 of the tutorial).

use std::fs;

use lab::network::ROUTER;
use nix::sys::signal::Signal;

use super::*;

/// `route add -host 192.168.178.22 192.168.178.22 -static`, and its removal.
const HOST_ROUTE: &str = "192.168.178.22/32 via 192.168.178.22 dev production0";

/// Test addresses in a network of their own, which the router has too.
const PRIVATE: [&str; 2] = [
    "ifconfig e1000g0 192.168.1.201/24 -failover group production0 up",
    "ifconfig e1000g1 192.168.1.202/24 -failover group production0 up",
];

impl Host<'_> {
    /// Waits until every row of `ipmpstat -t` has these words after the interface.
    fn wait_targets(&self, rows: usize, expected: &str) {
        let table = || self.result("ipmpstat -nt").1;
        let has_all = || {
            let text = table();
            let words = |row: &str| row.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
            let shown: Vec<String> = text.lines().skip(1).map(words).collect();
            shown.len() == rows && shown.iter().all(|row| row.contains(expected))
        };
        assert!(wait_until(TIMEOUT, has_all), "not {expected:?} in each row:\n{}", table());
    }

    /// Runs a line of `ipmp-target@ADDRESS.service`.
    fn run_unit(&self, key: &str, address: &str) {
        let unit = include_str!("../../../packaging/systemd/ipmp-target@.service");
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix("=/usr/bin/ipmpctl "));
        self.daemon.ctl(&line.unwrap().replace("%i", address)).unwrap();
    }

    fn wait_probed(&self, members: usize) {
        let table = || self.result("ipmpstat -i").1;
        let are_ok =
            || table().lines().filter(|row| row.split_whitespace().nth(5) == Some("ok")).count() == members;
        assert!(wait_until(TIMEOUT, are_ok), "{}", table());
    }
}

#[test]
fn host_routes_private_subnets_and_mpathd_file_select_targets_and_times() {
    lab::needs_root!();
    let lab = settled(Lab::builder().build().unwrap());
    let mpathd = lab.directory().join("mpathd");
    fs::write(&mpathd, "FAILURE_DETECTION_TIME=2000\n").unwrap();
    let builder = Daemon::builder(&lab).argument("--config").argument(mpathd.to_str().unwrap());
    let host = Host::with(&lab, builder.start().unwrap());

    // Linux answers ARP requests for any of its addresses on a NIC that is in no group.
    lab.host().ip("link set rge0 down").unwrap();

    // 1.9.1: the data address can be routed, the test addresses need not.
    let router = lab.router().namespace();
    router.ip("address add 192.168.1.1/24 dev eth0").unwrap();
    router.sysctl("net.ipv4.icmp_echo_ignore_broadcasts", "0").unwrap();
    host.type_in("ifconfig production0 ipmp hivemind-prod up");
    PRIVATE.iter().for_each(|line| host.type_in(line));
    host.wait_targets(2, "multicast 192.168.1.20");
    host.wait_targets(2, "192.168.1.1");
    host.wait_probed(2);
    let ping = lab.router().ping(DATA.into(), 3, std::time::Duration::from_millis(10), TIMEOUT).unwrap();
    assert_eq!(ping.answered, 3);
    for line in ["ifconfig e1000g0 unplumb", "ifconfig e1000g1 unplumb"] {
        host.type_in(line);
    }

    // 1.9.2: a host route is a target, before routers and other hosts; without it, they are targets again.
    host.type_in("ifconfig e1000g0 plumb hivemind-prod-e1000g0 -failover group production0 up");
    host.type_in("ifconfig e1000g1 plumb hivemind-prod-e1000g1 -failover group production0 up");
    lab.host().ip(&format!("route add default via {ROUTER} dev production0")).unwrap();
    host.wait_targets(2, &ROUTER.to_string());
    lab.host().ip(&format!("route add {HOST_ROUTE}")).unwrap();
    host.wait_targets(2, "routes");
    host.wait_targets(2, "192.168.178.22");
    host.wait_probed(2);
    let listed = || host.daemon.ctl("target list --group production0").unwrap();
    // Columns are as wide as their longest entry.
    let is_from = |address: &str, from: &str| {
        let is_listed = |line: &str| line.split_whitespace().take(2).eq([address, from]);
        listed().lines().any(is_listed)
    };
    assert!(is_from("192.168.178.22", "host_route"), "{}", listed());
    lab.host().ip(&format!("route del {HOST_ROUTE}")).unwrap();
    host.wait_targets(2, &ROUTER.to_string());
    assert!(is_from("192.168.178.1", "router"), "{}", listed());

    // Its service: enabled, refreshed, disabled, and disabled again.
    host.run_unit("ExecStart", "192.168.178.1");
    let table = || lab.host().ip("route show 192.168.178.1").unwrap();
    assert_eq!(table().trim(), "192.168.178.1 dev production0 proto static scope link");
    let is_host_route = || is_from("192.168.178.1", "host_route");
    assert!(wait_until(TIMEOUT, is_host_route), "{}", listed());
    host.run_unit("ExecReload", "192.168.178.1");
    assert_eq!(table().lines().count(), 1);
    host.run_unit("ExecStart", "192.168.178.22");
    host.wait_targets(2, "192.168.178.22");
    for address in ["192.168.178.1", "192.168.178.22", "192.168.178.22"] {
        host.run_unit("ExecStop", address);
    }
    assert_eq!(table(), "");
    assert!(wait_until(TIMEOUT, || !listed().contains("host_route")), "{}", listed());
    host.wait_probed(2);

    // 1.9.4: the file is read again at a HUP.
    assert!(host.result("ipmpstat -g").1.contains(" 2.00s "));
    fs::write(&mpathd, "FAILURE_DETECTION_TIME=100\n").unwrap();
    host.daemon.signal(Signal::SIGHUP).unwrap();
    let fdt = || host.result("ipmpstat -g").1;
    assert!(wait_until(TIMEOUT, || fdt().contains(" 0.10s ")), "{}", fdt());
}
