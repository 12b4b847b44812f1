//! Installation, upgrade and removal of the package.

use super::*;

/// The same package with a higher version.
fn later(package: &Path) -> &'static str {
    ok(&format!("dpkg-deb --raw-extract {} /tmp/later", package.display()));
    ok("sed -i 's/^Version: .*/Version: 99.0/' /tmp/later/DEBIAN/control");
    ok("dpkg-deb --build -Znone /tmp/later /tmp/later.deb");
    "/tmp/later.deb"
}

#[test]
#[ignore = "needs a virtual machine with a system of its own: `cargo xtask test --soak` boots one"]
fn system_debian12_package_changes_nothing_upgrades_without_loss_and_restores_when_removed() {
    lab::needs_root!();
    needs_guest();
    boot::disable_networkd();
    cables();
    let is_tentative = || String::from_utf8_lossy(&run("ip address").stdout).contains("tentative");
    assert!(wait_until(PATIENCE, || !is_tentative()));
    let host = || ok("ip -oneline address show dev eth0; ip route; ip -brief link");
    let before = host();
    ok(&format!("dpkg --install {}", package().display()));
    assert_eq!(host(), before);
    ok(
        "systemctl is-active ipmpd && systemctl is-enabled ipmpd.socket ipmpd ipmp-wait-online && getent group ipmp",
    );
    ok("ipmpctl attach eth0 eth1 --group production0 && ipmpctl wait-online production0");
    assert!(run("if_mpadm").status.code() == Some(1) && run("ipmp-ifconfig production0").status.success());
    ping_from_peer();
    ok("systemctl start ipmp-target@192.0.2.1 && ip route show 192.0.2.1 | grep 'dev production0'");
    ok("systemctl stop ipmp-target@192.0.2.1 && test -z \"$(ip route show 192.0.2.1)\"");

    let (later, pid) = (later(&package()), ok("pidof ipmpd"));
    let ping = ["netns", "exec", "peer", "ping", "-q", "-i", "0.02", "192.0.2.10"];
    let stream = Command::new("ip").args(ping).stdout(Stdio::piped()).spawn().unwrap();
    ok(&format!("dpkg --install {later}"));
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
    let refused = run("dpkg --remove ipmp");
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && reason.contains("ipmpd serves the network namespace other"),
        "{reason}"
    );
    ok(
        "systemctl is-active ipmpd && dpkg-query --show --showformat='${db:Status-Status}' ipmp | grep -x installed",
    );
    ok("kill $(cat /tmp/other.pid)");
    assert!(wait_until(PATIENCE, || !run("ipmpctl --netns other show").status.success()));

    ok("dpkg --remove ipmp");
    assert_eq!(host(), before);
    assert!(!run("pidof ipmpd").status.success());
    ok("test -d /var/lib/ipmp && dpkg --purge ipmp && test ! -e /var/lib/ipmp && test ! -e /usr/sbin/ipmpd");
    ok("ip netns delete other");
    remove_cables();
}
