//! NICs that another program of the host configures: refused by its name, until the remedy of the refusal is done.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use lab::daemon::binary;
use lab::{Daemon, Lab, MS, Program, TIMEOUT, wait_until};

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

/// Stands in for systemctl: the test restarts networkd. With a file `fault` it fails, or removes an address as a reload would.
const SYSTEMCTL: &str = "#!/bin/sh
cd DIRECTORY
echo \"$@\" >> restarts
case \"$(cat fault 2>/dev/null)\" in
fail) echo 'Job failed.' >&2; exit 1 ;;
remove) rm fault; ip address del 192.168.178.50/24 dev e1000g0 ;;
esac
touch restart
while [ -e restart ]; do sleep 0.02; done
";

/// Stands in for resolvectl: a file for each list of a link.
const RESOLVECTL: &str = "#!/bin/sh
cd DIRECTORY
verb=$1 link=$2
shift 2
case $verb in revert) rm -f dns-$link domain-$link; exit ;; esac
if [ $# -gt 0 ]; then echo \"$*\" > $verb-$link; else echo \"Link 2 ($link): $(cat $verb-$link 2>/dev/null)\"; fi
";

#[test]
fn handover_makes_networkd_leave_a_nic_and_undo_returns_it() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let root = Root::new(&lab);
    let directory = lab.directory().to_owned();
    let daemon =
        Daemon::builder(&lab).environment("IPMP_HOST_ROOT", root.0.to_str().unwrap()).start().unwrap();
    let bin = directory.join("bin");
    fs::create_dir(&bin).unwrap();
    for (name, text) in [("systemctl", SYSTEMCTL), ("resolvectl", RESOLVECTL)] {
        let program = bin.join(name);
        fs::write(&program, text.replace("DIRECTORY", directory.to_str().unwrap())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    root.write("run/systemd/resolve/io.systemd.Resolve", "");
    fs::write(directory.join("dns-e1000g0"), "192.168.178.1 192.168.178.2\n").unwrap();
    fs::write(directory.join("domain-e1000g0"), "example.net ~.\n").unwrap();
    let name_servers =
        |link: &str| fs::read_to_string(directory.join(format!("dns-{link}"))).unwrap_or_default();
    root.write(
        "etc/systemd/network/20-wired.network",
        "[Match]\nName=e1000g0\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\nAddress=192.168.178.50/24\n\
         Gateway=192.168.178.1\n",
    );
    let file = root.0.join("etc/systemd/network/01-ipmp-e1000g0.network");
    let ctl = |arguments: &str| {
        let mut command = lab.host().command(binary("ipmpctl").unwrap().to_str().unwrap());
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("IPMP_HOST_ROOT", &root.0).env("IPMP_STATE_DIR", &directory);
        command.env("SSH_CONNECTION", "192.168.178.9 4711 192.168.178.50 22");
        command.arg("--socket").arg(daemon.socket()).args(arguments.split_whitespace());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let restarts = || fs::read_to_string(directory.join("restarts")).unwrap_or_default().lines().count();
    let has = |interface: &str| {
        let address = lab.host().ip(&format!("-4 address show dev {interface}")).unwrap();
        let route = lab.host().ip("route show default").unwrap();
        address.contains("192.168.178.50/24")
            && route.contains(&format!("via 192.168.178.1 dev {interface} "))
    };
    let is_over = AtomicBool::new(false);
    let restart = directory.join("restart");
    thread::scope(|scope| {
        let _end = Defer(|| is_over.store(true, Relaxed));
        let first = root.start_networkd(&lab, "e1000g0", "configured");
        scope.spawn(|| {
            let mut networkd = first;
            while !is_over.load(Relaxed) {
                if restart.exists() {
                    networkd.terminate().unwrap();
                    let state = if file.exists() { "unmanaged" } else { "configured" };
                    networkd = root.start_networkd(&lab, "e1000g0", state);
                    fs::remove_file(&restart).unwrap();
                }
                thread::sleep(20 * MS);
            }
        });
        assert!(wait_until(TIMEOUT, || has("e1000g0")));

        let step = "e1000g0: hand over from systemd-networkd: write /etc/systemd/network/01-ipmp-e1000g0.network, restart \
                    systemd-networkd.service\n";
        assert_eq!(ctl("handover e1000g0 --dry-run"), (true, step.to_owned()));
        let plan = ctl("attach e1000g0 --group production0 --handover --dry-run").1;
        assert!(plan.starts_with(step) && !plan.contains("refused until"), "{plan}");
        let session = "SSH session from 192.168.178.9: 192.168.178.50 is on e1000g0, and packets to 192.168.178.9 leave \
                       through e1000g0 by the route 192.168.178.0/24; afterwards 192.168.178.50 is on production0, and packets leave through production0\n";
        let servers = "production0: move the name servers of e1000g0 (systemd-resolved): 192.168.178.1 192.168.178.2 \
                       example.net ~.\n";
        assert!(plan.ends_with(&format!("{servers}{session}")), "{plan}");
        // Refused by something else: nothing is restarted.
        assert!(!ctl("attach e1000g0 eth9 --group production0 --handover").0);
        assert!(restarts() == 0 && !file.exists());

        fs::write(directory.join("fault"), "remove").unwrap();
        let expected = "ipmpctl: e1000g0 was not handed over, and everything is as before: systemd-networkd has removed \
                        192.168.178.50/24\n";
        assert_eq!(ctl("attach e1000g0 --group production0 --handover"), (false, expected.to_owned()));
        assert!(!file.exists() && restarts() == 2);
        assert!(wait_until(TIMEOUT, || has("e1000g0")), "networkd does not configure it again");
        fs::write(directory.join("fault"), "fail").unwrap();
        let (_, text) = ctl("handover e1000g0");
        assert!(
            text.contains("cannot run systemctl restart systemd-networkd.service: Job failed."),
            "{text}"
        );
        assert!(!file.exists());
        fs::remove_file(directory.join("fault")).unwrap();

        let (done, text) = ctl("attach e1000g0 --group production0 --handover");
        println!("{text}");
        assert!(
            done && text.starts_with("e1000g0: handed over from systemd-networkd by /etc/systemd"),
            "{text}"
        );
        assert!(file.exists() && has("production0"));
        assert!(
            text.contains(
                "moved the name servers of e1000g0 to production0 (systemd-resolved): 192.168.178.1"
            ),
            "{text}"
        );
        assert!(
            name_servers("production0").contains("178.1 192.168.178.2") && name_servers("e1000g0").is_empty()
        );
        let line = "ipmpctl: e1000g0 is a member of production0: detach it first (ipmpctl detach e1000g0), or the program would \
                    configure a member\n";
        assert_eq!(ctl("handover --undo e1000g0"), (false, line.to_owned()));
        assert!(ctl("detach e1000g0 --restore").0 && has("e1000g0"));
        let removed = "e1000g0: removed /etc/systemd/network/01-ipmp-e1000g0.network\n";
        assert_eq!(ctl("handover --undo e1000g0"), (true, removed.to_owned()));
        assert!(!file.exists() && has("e1000g0"));
        assert_eq!(ctl("handover --undo e1000g0").1, "e1000g0: not handed over: nothing to change\n");
        assert!(name_servers("e1000g0").contains("178.1 192.168.178.2"));

        // All of it by one command
        assert!(ctl("attach e1000g0 --group production0 --handover").0 && file.exists());
        let (_, text) = ctl("detach --all --restore --dry-run");
        let step = "e1000g0: remove /etc/systemd/network/01-ipmp-e1000g0.network, restart systemd-networkd.service\n";
        assert!(text.contains(step) && file.exists(), "{text}");
        assert!(
            text.ends_with("; afterwards 192.168.178.50 is on e1000g0, and packets leave through e1000g0\n"),
            "{text}"
        );
        let (done, text) = ctl("detach --all --restore");
        assert!(done && text.ends_with(removed) && !file.exists() && has("e1000g0"), "{text}");
        assert!(name_servers("e1000g0").contains("178.1 192.168.178.2"), "{text}");

        // The undo of a change that is not confirmed
        let (done, text) = ctl("attach e1000g0 --group production0 --handover --confirm 600");
        assert!(done && file.exists() && has("production0") && name_servers("e1000g0").is_empty(), "{text}");
        assert!(text.starts_with(session), "{text}");
        let (done, text) = ctl("undo");
        assert!(done && !file.exists() && has("e1000g0"), "{text}");
        assert!(name_servers("e1000g0").contains("178.1 192.168.178.2"), "{text}");

        // Those of the configuration files. systemd-resolved forgets an interface that is deleted.
        for list in ["dns", "domain"] {
            fs::remove_file(directory.join(format!("{list}-production0"))).unwrap();
        }
        let files = ["192.168.178.3", "192.168.178.4"].map(|server| {
            let path = directory.join(format!("{server}.toml"));
            let text = format!(
                "[group.production0]\naddresses = [\"192.168.178.60/24\"]\n\
                 dns = {{ servers = [\"{server}\"], search = [\"example.net\"] }}\n\
                 [group.production0.members]\ne1000g1 = {{}}\n"
            );
            fs::write(&path, text).unwrap();
            path.display().to_string()
        });
        let note = "production0: set the name servers (systemd-resolved): 192.168.178.3 example.net\n";
        let (_, text) = ctl(&format!("apply --dry-run {}", files[0]));
        assert!(text.ends_with(note) && name_servers("production0").is_empty(), "{text}");
        let (done, text) = ctl(&format!("apply {}", files[0]));
        assert!(done && text.ends_with(note) && name_servers("production0") == "192.168.178.3\n", "{text}");
        assert_eq!(ctl(&format!("apply {}", files[0])), (true, String::new()));
        let (done, text) = ctl(&format!("apply --confirm 600 {}", files[1]));
        assert!(done && name_servers("production0") == "192.168.178.4\n", "{text}");
        let (done, text) = ctl("undo");
        assert!(done && name_servers("production0") == "192.168.178.3\n", "{text}");
        fs::remove_file(directory.join("dns-production0")).unwrap();
        assert_eq!(ctl(&format!("dns --dry-run {}", files[0])), (true, note.to_owned()));
        assert_eq!(ctl(&format!("dns {}", files[0])), (true, note.to_owned()));
        assert_eq!(ctl(&format!("dns {}", files[0])), (true, String::new()));
        fs::remove_file(root.0.join("run/systemd/resolve/io.systemd.Resolve")).unwrap();
        let (done, text) = ctl(&format!("dns {}", files[0]));
        assert!(
            !done && text.starts_with("ipmpctl: name servers are not applied: systemd-resolved does not run"),
            "{text}"
        );
        let (done, text) = ctl(&format!("apply {}", files[0]));
        assert!(done && text.starts_with("name servers of production0 are not applied: "), "{text}");
    });
}

/// Calls a function when it is dropped.
struct Defer<F: FnMut()>(F);

impl<F: FnMut()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
