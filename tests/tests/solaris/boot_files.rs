//! The `hostname.*` files of the tutorial (1.6.3, 1.7.4, 1.9.3): a start with them gives the state that it shows.

use std::fs;
use std::path::Path;

use lab::network::ROUTER;
use lab::tutorial;
use lab::tutorial::compare::{differences, table};
use lab::tutorial::files::{self, Files};

use super::*;

/// The tutorial's `/etc/default/mpathd` (1.9.4), with another time.
const MPATHD: &str = "#\n# Time taken by mpathd to detect a NIC failure in ms. The minimum time\n# that can be specified is 100 \
                      ms.\n#\nFAILURE_DETECTION_TIME=5000\n";

impl Host<'_> {
    /// Removes the groups, and starts the daemon with these files.
    fn boot(&mut self, directory: &Path, files: Files) {
        for interface in ["e1000g0", "e1000g1", "rge0", "production0"] {
            self.result(&format!("ifconfig {interface} unplumb"));
        }
        self.daemon.terminate().unwrap();
        files::write(directory, files).unwrap();
        let since = self.daemon.log().len();
        self.daemon.start().unwrap();
        self.wait_executed(files.len(), since);
    }

    fn wait_executed(&self, count: usize, since: usize) {
        let line = format!("{count} lines of hostname files executed, 0 of them failed");
        let found = self.daemon.wait_line(&line, since, TIMEOUT);
        assert!(found.is_ok(), "{:#?}", self.daemon.log());
    }

    /// Compares a table of `ipmpstat`. The holder of multicast is a race after a start: there is one.
    fn compare_table(&self, printed: &str, line: &str) {
        let (_, here, _) = self.result(line);
        let found = differences(&table(printed), &table(&here));
        let other: Vec<_> = found.iter().filter(|difference| difference.cell != "FLAGS").collect();
        assert!(other.is_empty(), "{line}: {other:#?}\n{here}");
        assert!(!line.ends_with("-i") || here.matches("mb").count() == 1, "{here}");
    }
}

#[test]
fn daemon_started_with_hostname_files_has_groups_of_tutorial() {
    lab::needs_root!();
    let lab = settled(Lab::builder().build().unwrap());
    let directory = files::directory(&lab).unwrap();
    files::write(&directory, files::LINK_BASED).unwrap();
    let builder = Daemon::builder(&lab).argument("--hostname-dir").argument(directory.to_str().unwrap());
    let mut host = Host::with(&lab, builder.start().unwrap());
    host.wait_executed(4, 0);
    host.wait_all_transmit();
    for interface in ["production0", "e1000g0", "e1000g1", "rge0"] {
        host.compare(tutorial::ALL_LINK_BASED, "ifconfig -a", interface);
    }
    host.compare_table(tutorial::BOOTED_LINK_BASED[0], "ipmpstat -g");
    host.compare_table(tutorial::BOOTED_LINK_BASED[1], "ipmpstat -i");
    // With groups it is no start of the host.
    let since = host.daemon.log().len();
    host.daemon.kill().unwrap();
    host.daemon.start().unwrap();
    host.daemon.wait_line("are not read: there are groups already", since, TIMEOUT).unwrap();

    fs::write(directory.join("default/mpathd"), MPATHD).unwrap();
    host.boot(&directory, files::PROBE_BASED);
    host.wait_all_transmit();
    for interface in ["production0", "e1000g0", "e1000g1", "rge0"] {
        host.compare(tutorial::ALL_PROBE_BASED, "ifconfig -a", interface);
    }
    lab.host().ip(&format!("route add default via {ROUTER} dev production0")).unwrap();
    let all_probed = || host.result("ipmpstat -i").1.matches(" ok        ok").count() == 3;
    assert!(wait_until(TIMEOUT, all_probed), "{}", host.result("ipmpstat -i").1);
    host.compare_table(tutorial::BOOTED_PROBE_BASED, "ipmpstat -i");
    assert!(host.result("ipmpstat -g").1.contains(" 5.00s "), "default/mpathd is used");

    // 1.9.3: files of classic IPMP give a group of the new model, whose addresses have homes.
    for (files, printed, interfaces) in [
        (files::CLASSIC_LINK_BASED, tutorial::CLASSIC_LINK_BOOTED, ["e1000g0", "e1000g1"].as_slice()),
        (files::CLASSIC_PROBE_BASED, tutorial::CLASSIC_PROBE_BOOTED, &["e1000g0", "e1000g0:1", "e1000g1"]),
    ] {
        host.boot(&directory, files);
        host.wait_shown("show e1000g1", "link up, transmits");
        host.wait_inbound("e1000g0");
        host.compare_classic(printed, "ifconfig -a --classic", interfaces);
    }
    let import = host.daemon.ctl(&format!("import --hostname-dir {}", directory.display())).unwrap();
    let expected = "e1000g0 = { test-addresses = [\"192.168.178.201/24\"] }\ne1000g1 = { test-addresses = [\"192.168.178.202/24\"] }\n";
    assert!(import.contains("fdt = \"5000ms\"") && import.ends_with(expected), "{import}");

    // A line that fails is logged by its place; the others are executed, and the group has the addresses of a missing NIC.
    fs::write(directory.join("hostname.a0"), "192.168.178.210 group production0 up\n").unwrap();
    for interface in ["e1000g0", "e1000g1", "production0"] {
        host.type_in(&format!("ifconfig {interface} unplumb"));
    }
    host.daemon.terminate().unwrap();
    let since = host.daemon.log().len();
    host.daemon.start().unwrap();
    host.daemon.wait_line("hostname.a0:1: a0: no such interface", since, TIMEOUT).unwrap();
    host.daemon.wait_line("3 lines of hostname files executed, 1 of them failed", since, TIMEOUT).unwrap();
    host.wait_shown("show production0", "inet 192.168.178.210 ");
}
