//! `ipmp-ifconfig`, by the name `ifconfig`: the commands of the tutorial (1.6, 1.9.3) as they stand, and its output.

use lab::Snapshot;
use lab::tutorial::compare::{Cells, Difference, block, differences};
use lab::tutorial::{self, permitted};

use super::*;

/// The commands of 1.6.1.
const LINK_BASED: [&str; 6] = [
    "ifconfig e1000g0 plumb",
    "ifconfig e1000g1 plumb",
    "ifconfig rge0 plumb",
    "ifconfig e1000g0 -failover group production0 up",
    "ifconfig e1000g1 -failover group production0 up",
    "ifconfig rge0 -failover group production0 up",
];
/// The commands of 1.6.2.
const PROBE_BASED: [&str; 3] = [
    "ifconfig e1000g0 plumb hivemind-prod-e1000g0 -failover group\nproduction0 up",
    "ifconfig e1000g1 plumb hivemind-prod-e1000g1 -failover group\nproduction0 up",
    "ifconfig rge0 plumb hivemind-prod-rge0 -failover group\nproduction0 up",
];
/// The commands of 1.6.2 that revert to the original state.
const REVERT: [&str; 4] = [
    "ifconfig e1000g0 unplumb",
    "ifconfig e1000g1 unplumb",
    "ifconfig rge0 unplumb",
    "ifconfig production0 unplumb",
];
/// The command of 1.6 and 1.6.2.
const CREATE: &str = "ifconfig production0 ipmp hivemind-prod up";

/// The permitted kinds of differences in a block, by their names.
pub(crate) const PERMITTED: [&str; 4] = [
    "another index",
    "MTU of a group without members",
    "netmask of a /24",
    "addresses that the tutorial does not show",
];

impl Host<'_> {
    /// Runs a command, which prints nothing on standard output, as in the tutorial.
    pub(crate) fn type_in(&self, line: &str) {
        let (status, printed, notes) = self.result(line);
        assert_eq!((status, printed.as_str()), (0, ""), "{line}: {notes}");
    }

    /// Compares the block of an interface, cell by cell.
    pub(crate) fn compare(&self, printed: &str, line: &str, interface: &str) {
        self.compare_except(printed, line, interface, &PERMITTED);
    }

    /// As [`Self::compare`], with these permitted kinds of differences.
    pub(crate) fn compare_except(&self, printed: &str, line: &str, interface: &str, permitted: &[&str]) {
        let (status, here, errors) = self.result(line);
        assert_eq!(status, 0, "{line}: {errors}");
        let tutorial = block(printed, interface);
        assert!(tutorial.len() > 5, "the tutorial has no block of {interface}: {tutorial:?}");
        let found = differences(&tutorial, &block(&here, interface));
        let is_permitted = |difference: &&Difference| {
            permitted::kind(difference)
                .is_some_and(|kind| permitted.contains(&permitted::PERMITTED[kind].what))
        };
        let other: Vec<_> = found.iter().filter(|difference| !is_permitted(difference)).collect();
        assert!(other.is_empty(), "{line}: {interface}: {other:#?}\n{here}");
    }

    pub(crate) fn wait_all_transmit(&self) {
        for member in ["e1000g0", "e1000g1", "rge0"] {
            self.wait_shown(&format!("show {member}"), "link up, transmits");
        }
    }
}

#[test]
fn tutorial_commands_give_tutorial_blocks_and_unplumb_restores_host() {
    lab::needs_root!();
    let lab = quiet_lab();
    let host = Host::new(&lab);
    let before = Snapshot::settled(&lab).unwrap();

    // 1.6 and 1.6.1
    host.type_in(CREATE);
    host.compare(tutorial::GROUP, "ifconfig production0", "production0");
    LINK_BASED.iter().for_each(|line| host.type_in(line));
    host.wait_all_transmit();
    host.compare(tutorial::RGE0, "ifconfig rge0", "rge0");
    for interface in ["production0", "e1000g0", "e1000g1", "rge0"] {
        host.compare(tutorial::ALL_LINK_BASED, "ifconfig -a", interface);
    }
    // The loopback interface of Linux has another name and MTU, and no multicast flag.
    let (_, here, _) = host.result("ifconfig -a");
    let own: Cells = block(&here.replace("lo:", "lo0:"), "lo0");
    let found = differences(&block(tutorial::ALL_LINK_BASED, "lo0"), &own);
    let cells: Vec<&str> = found.iter().map(|difference| difference.cell.as_str()).collect();
    assert_eq!(cells, ["flag MULTICAST", "flags", "mtu"], "{here}");
    assert!(!here.contains("ipmpfar"), "{here}");

    // A cable is pulled: 1.2.2, the same flags without CoS.
    lab.cable(1).pull().unwrap();
    host.wait_shown("show e1000g0", "state failed");
    let (_, here, _) = host.result("ifconfig e1000g0");
    let failed = "flags=19040803<UP,BROADCAST,MULTICAST,DEPRECATED,IPv4,NOFAILOVER,FAILED>";
    assert!(here.contains(failed), "{here}");
    lab.cable(1).replug().unwrap();
    host.wait_all_transmit();

    // 1.6.2
    let refused = host.result("ifconfig production0 unplumb").2;
    assert!(
        refused.starts_with("ifconfig: cannot unplumb production0: IPMP group is not empty"),
        "{refused}"
    );
    REVERT.iter().for_each(|line| host.type_in(line));
    assert_eq!(Snapshot::settled(&lab).unwrap().differences(&before), [""; 0]);
    host.type_in(CREATE);
    PROBE_BASED.iter().for_each(|line| host.type_in(line));
    host.wait_all_transmit();
    for interface in ["production0", "e1000g0", "e1000g1", "rge0"] {
        host.compare(tutorial::ALL_PROBE_BASED, "ifconfig -a", interface);
    }

    // Further words: each changes what it says.
    let addif = host.result("ifconfig production0 addif 192.168.178.210 netmask + broadcast + up");
    assert_eq!(
        (addif.0, addif.1.as_str()),
        (0, "Created new logical interface production0:1\n"),
        "{}",
        addif.2
    );
    let source = "192.168.178.210: netmask 255.255.255.0 from the route to 192.168.178.0/24 on ";
    assert!(addif.2.contains(source), "{}", addif.2);
    let (_, here, _) = host.result("ifconfig production0:1");
    assert!(
        here.starts_with("production0:1: flags=8001000843<") && here.contains("inet 192.168.178.210 "),
        "{here}"
    );
    host.type_in("ifconfig production0 removeif 192.168.178.210");
    assert_eq!(host.result("ifconfig production0:1").0, 1);
    host.type_in("ifconfig rge0 standby");
    let (_, here, _) = host.result("ifconfig rge0");
    assert!(here.contains("flags=69040843<") && here.contains("STANDBY,INACTIVE"), "{here}");
    host.type_in("ifconfig rge0 -standby");
    host.type_in("ifconfig rge0 group \"\"");
    assert!(!host.result("ifconfig rge0").1.contains("groupname"));
    host.type_in("ifconfig rge0 unplumb");
    for line in &REVERT[..2] {
        host.type_in(line);
    }
    host.type_in(REVERT[3]);
    assert_eq!(Snapshot::settled(&lab).unwrap().differences(&before), [""; 0]);
}

#[test]
fn classic_commands_give_group_of_new_model() {
    lab::needs_root!();
    let lab = quiet_lab();
    let host = Host::new(&lab);
    let before = Snapshot::settled(&lab).unwrap();
    // 1.7.2 as 1.9.3 has it: the group interface is created, and named after the group.
    host.type_in("ifconfig e1000g0 plumb");
    host.type_in("ifconfig e1000g0 hivemind-prod netmask + broadcast + group production0 up");
    host.type_in("ifconfig e1000g1 group production0 up");
    let shown = host.daemon.ctl("show production0").unwrap();
    assert!(shown.contains("inet 192.168.178.200 netmask ffffff00"), "{shown}");
    let members = host.daemon.ctl("show").unwrap();
    assert!(members.contains("\ne1000g0: ") && members.contains("\ne1000g1: "), "{members}");
    for line in ["ifconfig e1000g0 unplumb", "ifconfig e1000g1 unplumb", "ifconfig production0 unplumb"] {
        host.type_in(line);
    }
    // 1.7.3: test address and data address in one line.
    let created = host.result(
        "ifconfig e1000g0 hivemind-prod-e1000g0 deprecated -failover netmask + broadcast + group production0 up \
         addif hivemind-prod netmask + broadcast + up",
    );
    assert_eq!(
        (created.0, created.1.as_str()),
        (0, "Created new logical interface e1000g0:1\n"),
        "{}",
        created.2
    );
    let (_, here, _) = host.result("ifconfig -a4");
    assert!(
        here.contains("production0: ") && here.contains("inet 192.168.178.200 netmask ffffff00 "),
        "{here}"
    );
    assert!(here.contains("inet 192.168.178.201 netmask ffffff00 "), "{here}");
    host.type_in("ifconfig e1000g0 unplumb");
    host.type_in("ifconfig production0 unplumb");
    assert_eq!(Snapshot::settled(&lab).unwrap().differences(&before), [""; 0]);
}

#[test]
fn refused_lines_print_one_line_and_change_nothing() {
    lab::needs_root!();
    let lab = quiet_lab();
    let host = Host::new(&lab);
    host.type_in(CREATE);
    host.type_in("ifconfig e1000g0 -failover group production0 up");
    lab.host().ip("address add 10.7.0.1/24 dev rge0").unwrap();
    host.wait_shown("show e1000g0", "state ok");
    let before = Snapshot::settled(&lab).unwrap();
    for line in REFUSED {
        let (status, printed, error) = host.result(&format!("ifconfig {line}"));
        assert_eq!((status, printed.as_str()), (1, ""), "{line}");
        assert!(error.starts_with("ifconfig: ") || error.starts_with("usage: "), "{line}: {error}");
        let errors: Vec<&str> = error.lines().filter(|line| !line.contains(": netmask 255")).collect();
        assert_eq!(errors.len(), 1, "{line}: {error}");
    }
    assert_eq!(Snapshot::settled(&lab).unwrap().differences(&before), [""; 0]);
}

/// Malformed lines, and lines that this host refuses.
const REFUSED: [&str; 34] = [
    "",
    "-x",
    "-a plumb",
    "missing0",
    "missing0 plumb",
    "missing0 unplumb",
    "e1000g1:x up",
    "\"\" up",
    "a-very-long-interface plumb",
    "e1000g1 netmask",
    "e1000g1 group",
    "e1000g1 addif",
    "e1000g1 192.168.178.202 netmask 255.0.255.0 group production0",
    "e1000g1 192.168.178.202 netmask + broadcast x group production0",
    "e1000g1 192.168.178.202 netmask + broadcast 192.168.178.127 group production0",
    "e1000g1 192.168.178.300 group production0",
    "e1000g1 192.168.178.202/33 group production0",
    "e1000g1 192.168.178.255 -failover group production0",
    "e1000g1 127.0.0.1 -failover group production0",
    "e1000g1 -fallover group production0",
    "e1000g1 up down group production0",
    "e1000g1 192.168.178.202 192.168.178.203 group production0",
    "e1000g1 192.168.178.202 -failover -deprecated group production0",
    "e1000g1 mtu 1400",
    "e1000g1 unplumb up",
    "e1000g1 192.168.178.202 up",
    "e1000g1 standby",
    "rge0 unplumb",
    "production0 ipmp 192.168.178.210 up",
    "production0 unplumb",
    "production0 standby",
    "production0 group other0",
    "production0 removeif 192.168.178.210",
    // The address is that of rge0: after the group was created, it must be removed again.
    "lo group other0 up",
];
