//! The daemon as a service of a Debian system, and its package, in a virtual machine with systemd as its first process.
//!
//! `cargo xtask test --soak` boots it.

lab::lane!(alone, no_clsact = "runs in a virtual machine with a system of its own");

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use lab::{SECOND, daemon, wait_until};

/// An emulated machine takes its time.
const PATIENCE: Duration = Duration::from_secs(180);

fn run(line: &str) -> Output {
    Command::new("sh").args(["-c", line]).output().unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn ok(line: &str) -> String {
    let output = run(line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("# {line}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {}", output.status);
    text
}

/// Installs programs and units where a package does.
fn install() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("packaging");
    // The host's files are below /host.
    let packaging = Path::new("/host").join(packaging.strip_prefix("/").unwrap());
    for (program, directory) in [("ipmpd", "/usr/sbin"), ("ipmpctl", "/usr/bin"), ("ipmpstat", "/usr/bin")] {
        let from = daemon::binary(program).unwrap();
        ok(&format!("install -m 755 {} {directory}", from.display()));
    }
    let packaging = packaging.display();
    ok(&format!("install -m 644 {packaging}/systemd/* /lib/systemd/system"));
    ok(&format!(
        "install -D -m 644 {packaging}/sysusers.d/ipmp.conf -t /usr/lib/sysusers.d && systemd-sysusers"
    ));
    ok("systemctl daemon-reload");
}

/// Two cards, the ends of cables to a bridge in the namespace `peer`.
fn cables() {
    ok("ip netns add peer && ip netns exec peer ip link add br0 type bridge");
    ok(
        "ip netns exec peer sh -c 'ip address add 192.0.2.1/24 dev br0 && ip link set br0 up && ip link set lo up'",
    );
    for (card, port) in [("eth0", "port0"), ("eth1", "port1")] {
        ok(&format!("ip link add {card} type veth peer name {port} netns peer"));
        ok(&format!("ip netns exec peer ip link set {port} master br0 up && ip link set {card} up"));
    }
    ok("ip address add 192.0.2.10/24 dev eth0 && ip route add 198.51.100.0/24 via 192.0.2.1");
}

fn remove_cables() {
    ok("ip link delete eth0 && ip link delete eth1 && ip netns delete peer");
}

fn is_healthy() -> bool {
    run("ipmpctl health").status.success()
}

fn ping_from_peer() {
    ok("ip netns exec peer ping -c 3 -W 10 192.0.2.10");
}

/// The package that `cargo xtask dist` made beside the programs.
fn package() -> PathBuf {
    let programs = daemon::binary("ipmpd").unwrap();
    let dist = programs.parent().unwrap().with_file_name("dist");
    let files = fs::read_dir(&dist)
        .unwrap_or_else(|error| panic!("{}: {error}: run `cargo xtask dist`", dist.display()));
    let mut packages =
        files.map(|file| file.unwrap().path()).filter(|path| path.to_string_lossy().ends_with("_amd64.deb"));
    packages
        .next()
        .unwrap_or_else(|| panic!("{} has no .deb for this machine: run `cargo xtask dist`", dist.display()))
}

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
    assert!(
        Path::new("/run/guest").exists(),
        "this test installs packages: it runs in a virtual machine only"
    );
    cables();
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

    let (later, pid) = (later(&package()), ok("pidof ipmpd"));
    let ping = ["netns", "exec", "peer", "ping", "-q", "-i", "0.02", "-c", "4000", "192.0.2.10"];
    let mut stream = Command::new("ip").args(ping).stdout(Stdio::piped()).spawn().unwrap();
    ok(&format!("dpkg --install {later}"));
    assert!(wait_until(PATIENCE, is_healthy), "{}", String::from_utf8_lossy(&run("ipmpctl health").stdout));
    assert!(stream.try_wait().unwrap().is_none(), "the stream ended before the upgrade");
    assert_ne!(ok("pidof ipmpd"), pid);
    let output = stream.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{report}");
    assert!(report.contains("4000 packets transmitted, 4000 received, 0% packet loss"), "{report}");
    let log = ok("journalctl --unit ipmpd --no-pager");
    assert!(log.contains("Group production0 has been adopted with 2 members"), "{log}");

    // A daemon of another namespace: nothing is removed.
    ok("ip netns add other && (ipmpd --netns other 2>/dev/null & echo $! >/tmp/other.pid)");
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

#[test]
#[ignore = "needs a virtual machine with a system of its own: `cargo xtask test --soak` boots one"]
fn system_debian12_service_is_supervised_and_groups_survive_its_restarts() {
    lab::needs_root!();
    assert!(Path::new("/run/guest").exists(), "this test installs files: it runs in a virtual machine only");
    install();
    cables();
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
    assert_eq!(log.matches("Group production0 has been adopted with 2 members").count(), 3);
    assert!(!log.contains("Permission denied") && !log.contains("not permitted"), "{log}");
    ping_from_peer();

    let security = ok("systemd-analyze security ipmpd.service --no-pager");
    let line = security.lines().find(|line| line.contains("Overall exposure level")).unwrap();
    let level: f64 = line.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(level <= 2.2, "{line}");
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
