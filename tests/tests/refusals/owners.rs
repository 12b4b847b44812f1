//! NICs that another program of the host configures: refused by its name, until the remedy of the refusal is done.

use std::fs;
use std::path::{Path, PathBuf};

use lab::{Daemon, Lab, Program, TIMEOUT, wait_until};

use crate::{REFUSED, Scene, quiet_lab};

/// Starts systemd-networkd, with the host's files of the test and no device manager.
const NETWORKD: &str = "
    mount -t sysfs -o ro sysfs /sys
    mount -t tmpfs tmpfs /run/systemd
    mkdir -p /run/systemd/netif $1/run/systemd/netif/links $1/run/systemd/netif/leases
    mount --bind $1/run/systemd/netif /run/systemd/netif
    mount --bind $1/etc/systemd/network /etc/systemd/network
    chown -R systemd-network:systemd-network /run/systemd/netif
    exec /lib/systemd/systemd-networkd";

/// The root directory of the other programs' files.
struct Root(PathBuf);

impl Root {
    fn new(lab: &Lab) -> Self {
        let root = lab.directory().join("root");
        fs::create_dir(&root).unwrap();
        Self(root)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Starts systemd-networkd and waits for its decision on an interface.
    fn start_networkd(&self, lab: &Lab, interface: &str, state: &str) -> Program {
        let mut command = lab.host().command("unshare");
        command.args(["--mount", "sh", "-ec", NETWORKD, "sh"]).arg(&self.0);
        command.env("SYSTEMD_LOG_TARGET", "console").env("SYSTEMD_LOG_COLOR", "0");
        let program = Program::start(lab, command).unwrap();
        self.write("proc/77/comm", "systemd-network\n");
        let index = lab.host().link(interface).unwrap().index;
        let link = self.0.join(format!("run/systemd/netif/links/{index}"));
        let wanted = format!("ADMIN_STATE={state}\n");
        let decided = || fs::read_to_string(&link).is_ok_and(|text| text.contains(&wanted));
        assert!(wait_until(TIMEOUT, decided), "not {state}: {:#?}", program.log());
        program
    }
}

#[test]
fn nic_of_another_program_is_refused_until_that_program_leaves_it() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let root = Root::new(&lab);
    let daemon =
        Daemon::builder(&lab).environment("IPMP_HOST_ROOT", root.0.to_str().unwrap()).start().unwrap();
    let scene = Scene { lab: &lab, daemon, known: Default::default() };
    scene.ctl("create production0");

    // The root file system
    scene.ip("address add 192.168.178.77/24 dev rge0");
    root.write("proc/self/mounts", "192.168.178.9:/srv / nfs4 rw,vers=4.2,addr=192.168.178.9 0 0\n");
    let line = "rge0 leads to the root file system, on an NFS server 192.168.178.9 (/proc/self/mounts), and ipmpd is read from \
                there: attach other NICs, or boot from a local disk";
    scene.refused("attach rge0 --group production0", REFUSED, "in-use", line);
    scene.ip("address del 192.168.178.77/24 dev rge0");
    root.write("proc/self/mounts", "/dev/sda1 / ext4 rw 0 0\n");

    // ifupdown
    root.write("usr/sbin/ifup", "");
    root.write("etc/network/interfaces", "source /etc/network/interfaces.d/*\n");
    root.write("etc/network/interfaces.d/e1000g0", "auto e1000g0\niface e1000g0 inet static\n");
    let line = "e1000g0 is configured by ifupdown (/etc/network/interfaces.d/e1000g0): replace the lines of e1000g0 there by \
                'iface e1000g0 inet manual', and do not run ifdown, which would remove the addresses";
    scene.refused("attach e1000g0 --group production0", REFUSED, "in-use", line);
    scene.refused("attach rge0 e1000g0 --group other0", REFUSED, "in-use", line);
    let before = scene.snapshot();
    let plan = scene.daemon.ctl("attach rge0 e1000g0 --group other0 --dry-run").unwrap();
    let expected = [
        "create group other0",
        "other0: attach rge0",
        "other0: attach e1000g0",
        &format!("refused until this is done: {line}"),
    ];
    assert_eq!(plan.lines().collect::<Vec<_>>(), expected);
    scene.assert_same(before, "attach --dry-run");
    scene.known.take();
    root.write("etc/network/interfaces.d/e1000g0", "iface e1000g0 inet manual\n");
    scene.ctl("attach e1000g0 --group production0");

    // systemd-networkd itself
    root.write(
        "etc/systemd/network/20-wired.network",
        "[Match]\nName=e1000g1\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\nAddress=192.168.178.50/24\n\
         Gateway=192.168.178.1\n",
    );
    let addresses =
        |interface: &str| scene.lab.host().ip(&format!("-4 address show dev {interface}")).unwrap();
    let mut networkd = root.start_networkd(&lab, "e1000g1", "configured");
    assert!(wait_until(TIMEOUT, || addresses("e1000g1").contains("192.168.178.50/24")));
    scene.settle();
    let line = "e1000g1 is configured by systemd-networkd (/etc/systemd/network/20-wired.network): write the lines [Match], \
                Name=e1000g1, [Link], Unmanaged=yes into /etc/systemd/network/01-ipmp-e1000g1.network, then restart it \
                (systemctl restart systemd-networkd; a reload would remove the addresses)";
    scene.refused("attach e1000g1 --group production0", REFUSED, "in-use", line);
    let remedy = Path::new("etc/systemd/network/01-ipmp-e1000g1.network");
    root.write(remedy.to_str().unwrap(), "[Match]\nName=e1000g1\n[Link]\nUnmanaged=yes\n");
    networkd.terminate().unwrap();
    let _networkd = root.start_networkd(&lab, "e1000g1", "unmanaged");
    assert!(addresses("e1000g1").contains("192.168.178.50/24"), "the restart removed the address");
    assert!(scene.lab.host().ip("route show default").unwrap().contains("via 192.168.178.1 dev e1000g1"));
    let plan = scene.daemon.ctl("attach e1000g1 --group production0 --standby --dry-run").unwrap();
    let expected = [
        "production0: attach e1000g1 with standby=on",
        "production0: move 192.168.178.50/24 from e1000g1",
        "production0: move route default via 192.168.178.1 from e1000g1",
    ];
    assert_eq!(plan.lines().collect::<Vec<_>>(), expected);
    scene.ctl("attach e1000g1 --group production0");
    assert!(addresses("production0").contains("192.168.178.50/24"));
    assert!(!addresses("e1000g1").contains("192.168.178.50/24"));
    assert!(scene.lab.host().ip("route show default").unwrap().contains("via 192.168.178.1 dev production0"));
}
