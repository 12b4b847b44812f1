//! The service, without its package.

use super::*;

/// The directory `packaging`. The host's files are below /host.
pub fn packaging() -> PathBuf {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("packaging");
    Path::new("/host").join(packaging.strip_prefix("/").unwrap())
}

/// Installs the programs where a package does.
pub fn install_programs() {
    for (program, directory) in [("ipmpd", "/usr/sbin"), ("ipmpctl", "/usr/bin"), ("ipmpstat", "/usr/bin")] {
        let from = daemon::binary(program).unwrap();
        ok(&format!("install -m 755 {} {directory}", from.display()));
    }
}

/// Installs programs and units where a package does.
fn install() {
    install_programs();
    let packaging = packaging();
    let packaging = packaging.display();
    ok(&format!("install -m 644 {packaging}/systemd/* /lib/systemd/system"));
    ok(&format!(
        "install -D -m 644 {packaging}/sysusers.d/ipmp.conf -t /usr/lib/sysusers.d && systemd-sysusers"
    ));
    ok("systemctl daemon-reload");
}

#[test]
#[ignore = "needs a virtual machine with a system of its own: `cargo xtask test --soak` boots one"]
fn system_debian12_service_is_supervised_and_groups_survive_its_restarts() {
    lab::needs_root!();
    needs_guest();
    install();
    cables();
    // Of other tests in this boot.
    let adopted = |log: &str| log.matches("Group production0 has been adopted with 2 members").count();
    let adopted_before = adopted(&ok("journalctl --unit ipmpd --no-pager"));
    let verified =
        run("systemd-analyze verify ipmpd.service ipmp-wait-online.service ipmp-target@10.0.0.1.service");
    let complaints = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(!complaints.contains("cycle") && !complaints.contains("Unknown"), "{complaints}");
    // Where its unit is installed, only systemd starts the daemon.
    let refused = run("ipmpctl attach eth0 eth1 --group production0");
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(line.contains("systemctl start ipmpd.service") && !refused.status.success(), "{line}");
    // A group of a daemon that ran as root, of a version without the service.
    ok("ipmpd --socket /run/other.sock >/dev/null 2>&1 &");
    let attach = "ipmpctl --socket /run/other.sock attach eth0 eth1 --group production0";
    assert!(wait_until(PATIENCE, || run(attach).status.success()), "{:?}", run(attach));
    ok("kill $(pidof ipmpd) && while pidof ipmpd; do sleep 0.1; done");
    ok("systemctl enable --now ipmpd.socket ipmpd.service ipmp-wait-online.service");
    ok("ipmpctl attach eth0 eth1 --group production0");
    assert_eq!(ok("ps -o user= -p $(pidof ipmpd)").trim(), "_ipmpd");
    assert_eq!(ok("stat -c %U /sys/fs/bpf/ipmp/*/*/production0").trim(), "_ipmpd");
    assert_eq!(
        ok("chrt -p $(pidof ipmpd) | head -1").split_whitespace().last(),
        Some("SCHED_FIFO|SCHED_RESET_ON_FORK")
    );
    ok("ipmpctl wait-online production0");
    assert!(wait_until(PATIENCE, is_healthy), "{}", String::from_utf8_lossy(&run("ipmpctl health").stdout));
    ping_from_peer();
    // The program at the root of the cgroups, which the sandbox protects.
    ok("ipmpctl test-address add eth0 192.0.2.20/24 && ipmpctl test-address add eth1 192.0.2.21/24");
    let has_evidence = || {
        let show = run("ipmpctl show production0");
        String::from_utf8_lossy(&show.stdout).contains("timeouts of TCP connections start probes")
    };
    assert!(wait_until(PATIENCE, has_evidence), "{}", ok("ipmpctl show production0"));

    let restarts = || ok("systemctl show --value --property NRestarts ipmpd").trim().parse::<u32>().unwrap();
    for (signal, reason) in [("KILL", "code=killed, status=9/KILL"), ("STOP", "Watchdog timeout")] {
        let before = restarts();
        ok(&format!("kill -{signal} $(pidof ipmpd)"));
        assert!(wait_until(PATIENCE, || restarts() > before), "not restarted after {signal}");
        assert!(
            wait_until(PATIENCE, is_healthy),
            "{}",
            String::from_utf8_lossy(&run("ipmpctl health").stdout)
        );
        let log = ok("journalctl --unit ipmpd --no-pager");
        assert!(log.contains(reason), "{reason}");
    }
    let log = ok("journalctl --unit ipmpd --no-pager");
    assert_eq!(adopted(&log) - adopted_before, 3);
    assert!(!log.contains("Permission denied") && !log.contains("not permitted"), "{log}");
    ping_from_peer();

    let security = ok("systemd-analyze security ipmpd.service --no-pager");
    let line = security.lines().find(|line| line.contains("Overall exposure level")).unwrap();
    let level: f64 = line.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(level < 2.0, "{line}");
    ok("systemctl stop ipmpd");
    std::thread::sleep(SECOND);
    ping_from_peer();
    // A client starts it by its socket.
    ok("ipmpctl show production0");
    ok("systemctl is-active ipmpd.service");
    ok("systemctl stop ipmpd.socket ipmpd.service");
    ok("ipmpd --teardown");
    assert!(ok("ip -brief address show dev eth0").contains("192.0.2.10/24"));
    remove_cables();
}

#[test]
#[ignore = "needs a virtual machine with a system of its own: `cargo xtask test --soak` boots one"]
fn system_debian12_service_of_a_namespace_has_groups_and_files_of_its_own() {
    lab::needs_root!();
    needs_guest();
    install();
    cables();
    ok("ip netns add other && ip -n other link set lo up");
    for card in ["eth0", "eth1"] {
        ok(&format!("ip link set {card} netns other && ip -n other link set {card} up"));
    }
    ok("ip -n other address add 192.0.2.10/24 dev eth0");
    ok("systemctl start ipmpd.service ipmpd@other.service");
    ok("ipmpctl --netns other attach eth0 eth1 --group production0");
    ok("ipmpctl --netns other wait-online production0");
    ping_from_peer();
    let pid = || ok("systemctl show --value --property MainPID ipmpd@other").trim().to_owned();
    assert_eq!(ok(&format!("ps -o user= -p {}", pid())).trim(), "_ipmpd");
    assert!(ok("ipmpctl show --json").contains("\"groups\":[]"));
    let before = pid();
    ok("ipmpctl --netns other save && grep -F '[group.production0]' /etc/netns/other/ipmp/ipmp.toml");
    ok(
        "echo 'fdt = \"5s\"' >/tmp/fdt && sed -i '/^.group.production0.$/r /tmp/fdt' /etc/netns/other/ipmp/ipmp.toml",
    );
    ok("systemctl reload ipmpd@other");
    let has_setting =
        || String::from_utf8_lossy(&run("ipmpctl --netns other show --json").stdout).contains("fdt=5s");
    assert!(wait_until(PATIENCE, has_setting), "{}", ok("ipmpctl --netns other show --json"));
    assert_eq!(pid(), before);
    ok("systemctl restart ipmpd@other && ipmpctl --netns other wait-online production0");
    let log = ok("journalctl --unit ipmpd@other --no-pager");
    assert!(log.contains("Group production0 has been adopted with 2 members"), "{log}");
    assert!(!log.contains("Permission denied") && !log.contains("not permitted"), "{log}");
    ping_from_peer();
    ok("systemctl stop ipmpd@other && ipmpd --netns other --teardown");
    assert!(ok("ip -n other -brief address show dev eth0").contains("192.0.2.10/24"));
    ok("systemctl stop ipmpd.socket ipmpd.service && rm -r /etc/netns/other");
    ok("ip netns delete other && ip netns delete peer");
}
