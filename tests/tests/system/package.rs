//! Installation, upgrade and removal of the packages.

use super::*;

/// The commands of a package manager.
struct Manager {
    install: String,
    /// To a later version.
    upgrade: String,
    remove: &'static str,
    is_installed: &'static str,
}

#[test]
#[ignore = "needs a virtual machine with a system of its own: `cargo xtask test --soak` boots one"]
fn system_debian12_package_changes_nothing_upgrades_without_loss_and_restores_when_removed() {
    lab::needs_root!();
    needs_guest();
    let package = package("_amd64.deb");
    ok(&format!("dpkg-deb --raw-extract {} /tmp/later", package.display()));
    ok("sed -i 's/^Version: .*/Version: 99.0/' /tmp/later/DEBIAN/control");
    ok("dpkg-deb --build -Znone /tmp/later /tmp/later.deb");
    check(&Manager {
        install: format!("dpkg --install {}", package.display()),
        upgrade: "dpkg --install /tmp/later.deb".into(),
        remove: "dpkg --remove ipmp",
        is_installed: "dpkg-query --show --showformat='${db:Status-Status}' ipmp | grep -x installed",
    });
    ok("test -d /var/lib/ipmp && dpkg --purge ipmp && test ! -e /var/lib/ipmp");
}

/// The scripts of the RPM, which differ from Debian's, by rpm itself. Its dependencies have names that a Debian system lacks.
#[test]
#[ignore = "needs a virtual machine with a system of its own: `cargo xtask test --soak` boots one"]
fn system_debian12_rpm_changes_nothing_upgrades_without_loss_and_restores_when_removed() {
    lab::needs_root!();
    needs_guest();
    let package = package(".x86_64.rpm");
    let rpm = |what: &str| format!("rpm --force-debian --nodeps {what} {}", package.display());
    check(&Manager {
        install: rpm("--install"),
        // It runs the scripts of an upgrade.
        upgrade: rpm("--reinstall"),
        remove: "rpm --force-debian --erase ipmp",
        is_installed: "rpm --query ipmp",
    });
    ok("! rpm --query ipmp && rm -r /var/lib/ipmp");
}

fn check(manager: &Manager) {
    boot::disable_networkd();
    cables();
    let is_tentative = || String::from_utf8_lossy(&run("ip address").stdout).contains("tentative");
    assert!(wait_until(PATIENCE, || !is_tentative()));
    let host = || ok("ip -oneline address show dev eth0; ip route; ip -brief link");
    let before = host();
    ok(&manager.install);
    assert_eq!(host(), before);
    ok(
        "systemctl is-active ipmpd && systemctl is-enabled ipmpd.socket ipmpd ipmp-wait-online && getent group ipmp",
    );
    ok("ipmpctl attach eth0 eth1 --group production0 && ipmpctl wait-online production0");
    assert!(run("if_mpadm").status.code() == Some(1) && run("ipmp-ifconfig production0").status.success());
    ping_from_peer();
    ok("systemctl start ipmp-target@192.0.2.1 && ip route show 192.0.2.1 | grep 'dev production0'");
    ok("systemctl stop ipmp-target@192.0.2.1 && test -z \"$(ip route show 192.0.2.1)\"");

    let pid = ok("pidof ipmpd");
    let ping = ["netns", "exec", "peer", "ping", "-q", "-i", "0.02", "192.0.2.10"];
    let stream = Command::new("ip").args(ping).stdout(Stdio::piped()).spawn().unwrap();
    ok(&manager.upgrade);
    assert!(wait_until(PATIENCE, is_healthy), "{}", String::from_utf8_lossy(&run("ipmpctl health").stdout));
    assert_ne!(ok("pidof ipmpd"), pid);
    ok(&format!("kill -INT {}", stream.id()));
    let output = stream.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{report}");
    assert!(report.contains(", 0% packet loss"), "{report}");
    let log = ok("journalctl --unit ipmpd --no-pager");
    assert!(log.contains("Group production0 has been adopted with 2 members"), "{log}");

    // A daemon of another namespace: nothing is removed.
    ok("ip netns add other && (ipmpd --netns other >/dev/null 2>&1 & echo $! >/tmp/other.pid)");
    assert!(wait_until(PATIENCE, || run("ipmpctl --netns other show").status.success()));
    let reason = refused(manager.remove);
    assert!(reason.contains("ipmpd serves the network namespace other"), "{reason}");
    ok(&format!("systemctl is-active ipmpd && {}", manager.is_installed));
    ok("kill $(cat /tmp/other.pid)");
    assert!(wait_until(PATIENCE, || !run("ipmpctl --netns other show").status.success()));

    ok(manager.remove);
    assert_eq!(host(), before);
    assert!(!run("pidof ipmpd").status.success());
    ok(
        "test ! -e /usr/sbin/ipmpd && test ! -e /sys/fs/bpf/ipmp && ! systemctl is-enabled ipmpd ipmpd.socket",
    );
    ok("ip netns delete other");

    // Removed from a host that was booted with the group: a card gets its network.
    ok(&manager.install);
    ok("systemctl is-active ipmpd.socket ipmpd.service");
    ok("ipmpctl attach eth0 eth1 --group production0 && ipmpctl save && cat /etc/ipmp/ipmp.toml");
    ok("systemctl stop ipmpd.socket ipmpd && ipmpd --teardown && ip -4 address flush dev eth0");
    ok("systemctl start ipmpd.socket ipmpd && ipmpctl wait-online production0 && ip -brief address");
    ping_from_peer();
    ok(manager.remove);
    ok("ip -oneline address show dev eth0 | grep ' 192.0.2.10/24 '");
    ok("ip route | grep '^198.51.100.0/24 via 192.0.2.1 dev eth0'");
    ping_from_peer();
    ok("rm -r /etc/ipmp");
    remove_cables();
}
