//! Classic IPMP (1.7 of the tutorial): its commands give a group, whose addresses are displayed as they were.

use lab::Snapshot;
use lab::tutorial;

use super::*;

/// The permitted kinds of differences, by their names.
const PERMITTED: [&str; 6] = [
    "another index",
    "netmask of a /24",
    "no flag CoS",
    "192.168.178 for 192.168.56",
    "another Ethernet address",
    "broadcast address of 0.0.0.0",
];
/// The commands of 1.7.2.
const LINK_BASED: [&str; 4] = [
    "ifconfig e1000g0 plumb",
    "ifconfig e1000g1 plumb",
    "ifconfig e1000g0 vhivemind-prod netmask + broadcast + group production0 up",
    "ifconfig e1000g1 group production0 up",
];
/// The commands of 1.7.3, and what they print.
const PROBE_BASED: [(&str, &str); 5] = [
    ("ifconfig e1000g0 plumb", ""),
    ("ifconfig e1000g1 plumb", ""),
    (
        "ifconfig e1000g0 vhidmind-e1000g0 deprecated -failover netmask +\nbroadcast + group production0 up",
        "",
    ),
    (
        "ifconfig e1000g0 addif vhidmind-prod netmask + broadcast + up",
        "Created new logical interface e1000g0:1\n",
    ),
    (
        "ifconfig e1000g1 vhidmind-e1000g1 deprecated -failover netmask +\nbroadcast + group production0 up",
        "",
    ),
];
const REVERT: [&str; 3] =
    ["ifconfig e1000g0 unplumb", "ifconfig e1000g1 unplumb", "ifconfig production0 unplumb"];

impl Host<'_> {
    /// Compares the blocks of these interfaces, cell by cell. No others of members are printed.
    pub(crate) fn compare_classic(&self, printed: &str, line: &str, interfaces: &[&str]) {
        let (_, here, _) = self.result(&line.replace("-a", "-a4"));
        let heads = here.lines().filter(|line| !line.starts_with('\t'));
        let names: Vec<&str> = heads.filter_map(|head| head.split(": flags").next()).collect();
        let members: Vec<&str> =
            names.iter().copied().filter(|name| !["lo", "rge0"].contains(name)).collect();
        assert_eq!(members, interfaces, "{here}");
        for interface in interfaces {
            self.compare_except(printed, &line.replace("-a", "-a4"), interface, &PERMITTED);
        }
    }

    pub(crate) fn wait_inbound(&self, member: &str) {
        self.wait_shown(
            "show production0",
            &format!("inet 192.168.178.200 netmask ffffff00 broadcast 192.168.178.255 inbound {member}"),
        );
    }
}

#[test]
fn classic_display_has_tutorial_blocks_before_failure_after_it_and_after_repair() {
    lab::needs_root!();
    let lab = quiet_lab();
    let host = Host::new(&lab);
    let before = Snapshot::settled(&lab).unwrap();
    let all = "ifconfig -a --classic";

    // 1.7.2
    LINK_BASED.iter().for_each(|line| host.type_in(line));
    host.wait_shown("show e1000g1", "link up, transmits");
    host.wait_inbound("e1000g0");
    host.compare_classic(tutorial::CLASSIC_LINK, all, &["e1000g0", "e1000g1"]);
    lab.cable(1).pull().unwrap();
    host.wait_inbound("e1000g1 (preferred e1000g0)");
    host.wait_shown("show e1000g0", "state failed");
    let moved = ["e1000g0", "e1000g1", "e1000g1:1"];
    host.compare_classic(tutorial::CLASSIC_LINK_CABLE_1_OUT, all, &moved);
    // With failback, a repair restores the listing.
    lab.cable(1).replug().unwrap();
    host.wait_inbound("e1000g0");
    host.compare_classic(tutorial::CLASSIC_LINK, all, &["e1000g0", "e1000g1"]);
    let log = host.daemon.log().join("\n");
    assert!(log.contains("192.168.178.200 of group production0 has moved from e1000g1 to e1000g0"), "{log}");
    // Without, it stays; the setting makes the classic display the usual one.
    host.daemon.ctl("set production0 failback=no classic=yes").unwrap();
    lab.cable(1).pull().unwrap();
    host.wait_inbound("e1000g1 (preferred e1000g0)");
    lab.cable(1).replug().unwrap();
    host.wait_shown("show e1000g0", "INACTIVE");
    let (_, here, _) = host.result("ifconfig -a4");
    assert!(
        here.contains("\ne1000g1:1: ") && here.contains("\te1000g0") == here.contains("\tproduction0: "),
        "{here}"
    );
    assert!(!here.contains("production0: "), "{here}");
    host.daemon.ctl("set production0 failback=yes").unwrap();
    host.wait_inbound("e1000g0");
    host.compare_classic(tutorial::CLASSIC_LINK, "ifconfig -a", &["e1000g0", "e1000g1"]);

    // The preference is that of `ipmpctl address add --inbound`.
    let prefer = |member: &str| {
        host.daemon.ctl(&format!("address add 192.168.178.200/24 --group production0 --inbound {member}"))
    };
    prefer("e1000g1").unwrap();
    host.wait_inbound("e1000g1");
    let refused = prefer("rge0").unwrap_err().to_string();
    assert!(refused.contains("rge0 is not a member of production0"), "{refused}");
    REVERT.iter().for_each(|line| host.type_in(line));
    assert_eq!(Snapshot::settled(&lab).unwrap().differences(&before), [""; 0]);

    // 1.7.3
    for (line, printed) in PROBE_BASED {
        let (status, here, notes) = host.result(line);
        assert_eq!((status, here.as_str()), (0, printed), "{line}: {notes}");
    }
    host.wait_shown("show e1000g1", "link up, transmits");
    host.wait_inbound("e1000g0");
    host.compare_classic(tutorial::CLASSIC_PROBE, all, &["e1000g0", "e1000g0:1", "e1000g1"]);
    lab.cable(1).pull().unwrap();
    host.wait_inbound("e1000g1 (preferred e1000g0)");
    host.wait_shown("show e1000g0", "state failed");
    host.compare_classic(tutorial::CLASSIC_PROBE_CABLE_1_OUT, all, &moved);
    lab.cable(1).replug().unwrap();
    REVERT.iter().for_each(|line| host.type_in(line));
    assert_eq!(Snapshot::settled(&lab).unwrap().differences(&before), [""; 0]);
}
