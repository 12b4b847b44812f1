//! systemd-networkd configures a group with the files that are shipped for it, while all cables are pulled.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::network::{DATA, ROUTER};
use lab::ping::ping;
use lab::production::GROUP;
use lab::{Lab, MS, Program, SECOND, TIMEOUT, wait_until};

use crate::{wait_inbound, without_addresses};

/// Starts systemd-networkd with the files of a directory, and no device manager.
const NETWORKD: &str = "
    mount -t sysfs -o ro sysfs /sys
    mount -t tmpfs tmpfs /run/systemd
    mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/networkd.conf.d
    chown -R systemd-network:systemd-network /run/systemd/netif
    mount --bind $1 /etc/systemd/network
    cp $1/*.conf /run/systemd/networkd.conf.d
    exec /lib/systemd/systemd-networkd";

/// Copies the shipped files, with the members of the lab.
fn files(lab: &Lab) -> PathBuf {
    let directory = lab.directory().join("network");
    fs::create_dir(&directory).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("packaging/networkd");
    let members: Vec<&str> = lab.members().iter().map(|member| member.name()).collect();
    for entry in fs::read_dir(shipped).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap().replace("eth0 eth1", &members.join(" "));
        fs::write(directory.join(path.file_name().unwrap()), text).unwrap();
    }
    directory
}

fn start(lab: &Lab, files: &Path) -> Program {
    let mut command = lab.host().command("unshare");
    command.args(["--mount", "sh", "-ec", NETWORKD, "sh"]).arg(files);
    command.env("SYSTEMD_LOG_TARGET", "console").env("SYSTEMD_LOG_COLOR", "0");
    let mut program = Program::start(lab, command).unwrap();
    program.wait_line("Enumeration completed", 0, TIMEOUT).unwrap();
    program
}

#[test]
fn networkd_keeps_addresses_routes_and_rules_while_all_cables_are_pulled() {
    keeps_while_pulled(2 * SECOND);
}

#[test]
#[ignore = "soak: no cable for two minutes"]
fn networkd_keeps_addresses_routes_and_rules_for_a_minute_without_cables_soak() {
    keeps_while_pulled(60 * SECOND);
}

/// Pulls a cable, then all of them for this time, with networkd running and started again meanwhile.
fn keeps_while_pulled(time: Duration) {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = without_addresses(&lab);
    let files = files(&lab);
    let host = lab.host();
    host.ip("rule add from 192.0.2.9 lookup 77 priority 20000").unwrap();
    let configured = || {
        let line = |arguments: &str, wanted: &str| host.ip(arguments).unwrap().contains(wanted);
        line(&format!("-4 address show dev {GROUP}"), &format!("{DATA}/24"))
            && line("-4 route show default", &format!("via {ROUTER} dev {GROUP}"))
            && line("rule show", "from 192.0.2.9 lookup 77")
    };
    let mut networkd = start(&lab, &files);
    assert!(wait_until(TIMEOUT, configured), "{:#?}", networkd.log());
    wait_inbound(&production, DATA.into());

    let count = lab.members().len();
    lab.cable(1).pull().unwrap();
    let lost = wait_until(SECOND, || !configured());
    assert!(!lost, "networkd removed what it had configured: {:#?}", networkd.log());
    lab.cable(1).replug().unwrap();
    for number in 1..=count {
        lab.cable(number).pull().unwrap();
    }
    let has_carrier = || host.link(GROUP).unwrap().carrier;
    assert!(wait_until(TIMEOUT, || !has_carrier()), "{}", production.show());
    // Longer than networkd takes to act on a lost carrier.
    let lost = wait_until(time, || !configured());
    assert!(!lost, "networkd removed what it had configured: {:#?}", networkd.log());
    networkd.terminate().unwrap();
    assert!(configured(), "networkd removed what it had configured at its end: {:#?}", networkd.log());
    let mut networkd = start(&lab, &files);
    let lost = wait_until(time, || !configured());
    assert!(!lost, "networkd removed what it had configured at its start: {:#?}", networkd.log());

    for number in 1..=count {
        lab.cable(number).replug().unwrap();
    }
    wait_inbound(&production, DATA.into());
    assert!(configured());
    let ping = ping(lab.router().namespace(), None, DATA.into(), 3, 100 * MS, TIMEOUT).unwrap();
    assert!(ping.answered > 0, "{ping:?}");
    networkd.terminate().unwrap();
    production.assert_clean();
}
