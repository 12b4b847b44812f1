//! The script of `packaging/sysv`, as a host without systemd runs it.

use super::service::{install_programs, packaging};
use super::*;

/// What a host without systemd has: no /run of systemd, from which the functions of Debian see that it runs, and no pins of the service,
/// which belong to its user.
const ROOT: &str =
    "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/ipmp && mount -t bpf bpf /sys/fs/bpf";

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_without_systemd_step_1_script_starts_stops_and_reports_daemon() {
    needs_guest();
    install_programs();
    cables();
    ok("mkdir -p /var/lib/ipmp");
    let script = packaging().join("sysv/ipmpd");
    ok(&format!("install -m 755 {} /etc/init.d/ipmpd", script.display()));
    // All commands run in one mount namespace, which the first process keeps.
    let mut keeper = Command::new("unshare")
        .args(["--mount", "sh", "-c", &format!("{ROOT} && : >/run/ready && exec sleep infinity")])
        .spawn()
        .unwrap();
    let root = format!("/proc/{}/root", keeper.id());
    assert!(wait_until(PATIENCE, || Path::new(&root).join("run/ready").exists()));
    let there = |line: &str| {
        run(&format!("nsenter --target {} --mount --root --wd=/ sh -c '{line}' 2>&1", keeper.id()))
    };
    let check = |line: &str, code: i32, printed: &str| {
        let output = there(line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("# {line}\n{text}");
        assert!(
            output.status.code() == Some(code) && text.contains(printed),
            "{line}: {}: {text}",
            output.status
        );
        text
    };
    let daemons = || String::from_utf8_lossy(&run("pidof ipmpd").stdout).trim().to_owned();

    check("/etc/init.d/ipmpd status", 3, "ipmpd does not run");
    check("/etc/init.d/ipmpd try-restart", 0, "");
    assert_eq!(daemons(), "");
    check("/etc/init.d/ipmpd start", 0, "Starting IP multipathing daemon");
    check("/etc/init.d/ipmpd status", 0, "ipmpd runs");
    let first = daemons();
    check("/etc/init.d/ipmpd start", 0, "");
    assert_eq!(daemons(), first, "started twice");
    check("ipmpctl attach eth0 eth1 --group production0 && ipmpctl wait-online production0", 0, "");
    ping_from_peer();
    check("/etc/init.d/ipmpd reload", 0, "");
    check("ipmpctl health production0", 0, "IPMP OK");
    assert_eq!(daemons(), first);

    check("/etc/init.d/ipmpd stop", 0, "Stopping IP multipathing daemon");
    check("/etc/init.d/ipmpd status", 3, "ipmpd does not run");
    ping_from_peer();
    check("/etc/init.d/ipmpd start && ipmpctl wait-online production0", 0, "");
    check("/etc/init.d/ipmpd restart && ipmpctl wait-online production0", 0, "");
    check("cat /var/log/ipmpd.log", 0, "Group production0 has been adopted with 2 members");
    check("/etc/init.d/ipmpd other", 2, "usage: /etc/init.d/ipmpd start|stop|restart");
    check("/etc/init.d/ipmpd stop && ipmpd --teardown", 0, "");
    assert!(ok("ip -brief address show dev eth0").contains("192.0.2.10/24"));
    ping_from_peer();
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    ok("rm /etc/init.d/ipmpd /var/log/ipmpd.log");
    remove_cables();
}
