//! Hosts on which `ipmpd` cannot run, second daemons, and users without permission for changes.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use lab::daemon::binary;
use lab::network::DATA;
use lab::{Daemon, Lab, SECOND, Snapshot, wait_until};

use crate::{NO_DAEMON, NOT_PERMITTED, Scene, assert_refused, assert_same, daemons, quiet_lab, text};

/// A shell that runs its arguments in a mount namespace without BTF.
const NO_BTF: &[&str] =
    &["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"", "sh"];
/// The same with a read-only BPF file system.
const READ_ONLY: &[&str] = &[
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount --bind /sys/fs/bpf /sys/fs/bpf && mount -o remount,bind,ro /sys/fs/bpf && exec \"$@\"",
    "sh",
];
/// The same without the capability.
const NO_CAP_BPF: &[&str] = &["capsh", "--drop=cap_bpf", "--", "-c", "exec \"$@\"", "sh"];

/// A command under a wrapper.
fn wrapped(wrapper: &[&str], program: &str) -> Command {
    let words = [wrapper, &[program]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// Output of a daemon that must end at once.
fn output_of_failing(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    if !wait_until(10 * SECOND, || child.try_wait().unwrap().is_some()) {
        child.kill().unwrap();
        panic!("ipmpd runs: {}", text(&child.wait_with_output().unwrap().stderr));
    }
    child.wait_with_output().unwrap()
}

/// Started directly and by `ipmpctl`, under a wrapper, `ipmpd` prints this line, ends, and changes nothing.
fn does_not_start(lab: &Lab, wrapper: &[&str], line: &str) {
    let before = Snapshot::settled(lab).unwrap();
    let socket = lab.directory().join("wrapped.sock");
    let arguments = ["--netns".as_ref(), lab.host().name().as_ref(), "--socket".as_ref(), socket.as_os_str()];

    let mut daemon = wrapped(wrapper, binary("ipmpd").unwrap().to_str().unwrap());
    daemon.args(arguments);
    assert_refused("ipmpd", &output_of_failing(daemon), 1, "ipmpd", line);
    assert_same(&Snapshot::take(lab).unwrap(), &before, "ipmpd");
    assert!(!socket.exists());

    let mut ctl = wrapped(wrapper, binary("ipmpctl").unwrap().to_str().unwrap());
    ctl.args(arguments).args(["create", "third0"]);
    let line = format!("cannot start ipmpd: {line}");
    assert_refused("ipmpctl create", &ctl.output().unwrap(), NO_DAEMON, "ipmpctl", &line);
    assert_same(&Snapshot::take(lab).unwrap(), &before, "ipmpctl create");
    assert!(!socket.exists());
    assert_eq!(daemons(lab), "");
}

#[test]
fn daemon_without_cap_bpf_does_not_start() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let line = "missing capability CAP_BPF: run ipmpd as root, or give it CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and \
                CAP_PERFMON";
    does_not_start(&lab, NO_CAP_BPF, line);
    // The groups of an earlier daemon stay unchanged.
    Scene::production(&lab, "e1000g0 e1000g1").daemon.terminate().unwrap();
    does_not_start(&lab, NO_CAP_BPF, line);
}

#[test]
fn daemon_without_btf_does_not_start() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let line = "cannot read /sys/kernel/btf/vmlinux: No such file or directory (os error 2); ipmp needs a kernel with \
                CONFIG_DEBUG_INFO_BTF=y";
    does_not_start(&lab, NO_BTF, line);
    Scene::production(&lab, "e1000g0 e1000g1").daemon.terminate().unwrap();
    does_not_start(&lab, NO_BTF, line);
}

#[test]
fn daemon_with_read_only_bpf_file_system_does_not_start() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let pins = |what: &str| {
        format!(
            "cannot write /sys/fs/bpf/ipmp/v2/{}{what}: Read-only file system (os error 30); ipmpd pins its programs \
             there and needs a writable BPF file system",
            lab.host().cookie().unwrap()
        )
    };
    does_not_start(&lab, READ_ONLY, &pins(""));
    // The groups of an earlier daemon stay unchanged: they can be neither adopted nor changed.
    Scene::production(&lab, "e1000g0 e1000g1").daemon.terminate().unwrap();
    does_not_start(&lab, READ_ONLY, &pins(""));
}

/// A daemon in a private mount namespace, whose BPF file system can be made read-only while it runs.
struct PrivateMountDaemon {
    child: Child,
}

impl PrivateMountDaemon {
    fn start(lab: &Lab, socket: &Path) -> Self {
        let mount = "mount --bind /sys/fs/bpf /sys/fs/bpf && exec \"$@\"";
        let mut command = wrapped(
            &["unshare", "--mount", "sh", "-c", mount, "sh"],
            binary("ipmpd").unwrap().to_str().unwrap(),
        );
        command.args(["--netns", lab.host().name(), "--socket"]).arg(socket);
        command.stdout(Stdio::null()).stderr(File::create(lab.directory().join("private.log")).unwrap());
        let child = command.spawn().unwrap();
        let connects = || std::os::unix::net::UnixStream::connect(socket).is_ok();
        assert!(wait_until(10 * SECOND, connects), "ipmpd does not listen");
        Self { child }
    }

    fn remount(&self, mode: &str) {
        let target = format!("--target={}", self.child.id());
        let options = format!("remount,bind,{mode}");
        // Its root directory too: this test may run in a chroot.
        let words = [&target, "--mount", "--root", "mount", "-o", &options, "/sys/fs/bpf"];
        let status = Command::new("nsenter").args(words).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for PrivateMountDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn requests_are_refused_while_bpf_file_system_is_read_only() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    lab.host().ip("addr add 192.168.178.201/24 brd + dev rge0").unwrap();
    lab.host().ip("route add default via 192.168.178.1 dev rge0").unwrap();
    let socket = lab.directory().join("private.sock");
    let daemon = PrivateMountDaemon::start(&lab, &socket);
    let ctl = |command: &str| {
        let mut ctl = Command::new(binary("ipmpctl").unwrap());
        ctl.arg("--socket").arg(&socket).args(command.split_whitespace()).output().unwrap()
    };
    for command in
        [format!("create production0 --address {DATA}/24"), "attach e1000g0 --group production0".into()]
    {
        let output = ctl(&command);
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    }
    let transmits = || !text(&ctl("show").stdout).contains("does not transmit");
    assert!(wait_until(10 * SECOND, transmits), "{}", text(&ctl("show").stdout));
    daemon.remount("ro");
    let before = Snapshot::settled(&lab).unwrap();
    for command in [
        "create other0 --address 192.168.178.210/24",
        "attach rge0 --group production0",
        "attach e1000g1 rge0 --group production0",
        "attach rge0 --group other0",
    ] {
        let output = ctl(command);
        let error = text(&output.stderr);
        let pins = format!("ipmpctl: cannot write /sys/fs/bpf/ipmp/v2/{}/", lab.host().cookie().unwrap());
        assert!(error.starts_with(&pins) && error.lines().count() == 1, "{command}: {error}");
        let remedy = "Read-only file system (os error 30); ipmpd pins its programs there and needs a writable \
                      BPF file system\n";
        assert!(error.ends_with(remedy), "{command}: {error}");
        assert_eq!(output.status.code(), Some(1), "{command}");
        let after = Snapshot::settled(&lab).unwrap();
        assert_same(&after, &before, command);
    }
    // The suggested remedy works.
    daemon.remount("rw");
    let output = ctl("attach e1000g1 rge0 --group production0");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn second_daemon_does_not_start() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    let pid = scene.daemon.pid().unwrap();
    let first = scene.daemon.socket();
    let other = lab.directory().join("second.sock");
    let socket_in_use = format!(
        "ipmpd is already running on {}: stop it, or give this one a --socket of its own",
        first.display()
    );
    let namespace_in_use =
        format!("another ipmpd (pid {pid}) already serves this network namespace; stop it first");
    let arguments = |socket: &Path| vec!["--socket".to_owned(), socket.display().to_string()];
    for (arguments, line) in [
        (arguments(&first), &socket_in_use),
        (arguments(&other), &namespace_in_use),
        (vec!["--teardown".into()], &namespace_in_use),
    ] {
        let before = scene.snapshot();
        let mut second = Command::new(binary("ipmpd").unwrap());
        second.args(["--netns", lab.host().name()]).args(&arguments).stdin(Stdio::null());
        assert_refused(&format!("ipmpd {arguments:?}"), &output_of_failing(second), 1, "ipmpd", line);
        scene.assert_same(before, &format!("ipmpd {arguments:?}"));
    }
    assert!(!other.exists() && first.exists());
}

#[test]
fn daemon_with_unknown_network_namespace_does_not_start() {
    lab::needs_root!();
    let output = Command::new(binary("ipmpd").unwrap()).args(["--netns", "no-such-lab"]).output().unwrap();
    let line = "there is no network namespace no-such-lab; `ip netns list` lists those that exist: No such file or \
                directory (os error 2)";
    assert_refused("ipmpd", &output, 1, "ipmpd", line);
}

/// `ipmpctl` as uid 65534. The test opens the program, because that user may have no access to its directory.
fn unprivileged_ctl(daemon: &Daemon, command: &str) -> Output {
    let mut ctl = Command::new("setpriv");
    ctl.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "/proc/self/fd/0", "--socket"]);
    ctl.arg(daemon.socket()).args(command.split_whitespace());
    ctl.stdin(File::open(binary("ipmpctl").unwrap()).unwrap()).output().unwrap()
}

#[test]
fn changes_by_unprivileged_user_are_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    for command in [
        "create other0",
        "attach rge0 --group production0",
        "detach e1000g0",
        "address add 192.168.178.210/24 --group production0",
        "address del 192.168.178.200/24 --group production0",
        "offline e1000g0",
        "online e1000g0",
        "destroy production0",
    ] {
        let before = scene.snapshot();
        let line = "uid 65534 may look at IPMP groups, not change them: be root, or join the group ipmp and log in again";
        let output = unprivileged_ctl(&scene.daemon, command);
        assert_refused(command, &output, NOT_PERMITTED, "ipmpctl", line);
        scene.assert_same(before, command);
    }
    let shown = unprivileged_ctl(&scene.daemon, "show production0");
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(text(&shown.stdout).starts_with("production0: flags="), "{}", text(&shown.stdout));
}

#[test]
fn file_at_socket_path_is_kept_and_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let before = Snapshot::settled(&lab).unwrap();
    let path = lab.directory().join("precious");
    fs::write(&path, "data").unwrap();
    let mut daemon = Command::new(binary("ipmpd").unwrap());
    daemon.args(["--netns", lab.host().name(), "--socket"]).arg(&path).stdin(Stdio::null());
    let line =
        format!("{} is in the way and is no socket: remove it, or give another --socket", path.display());
    assert_refused("ipmpd", &output_of_failing(daemon), 1, "ipmpd", &line);
    assert_eq!(fs::read(&path).unwrap(), b"data");
    assert_same(&Snapshot::take(&lab).unwrap(), &before, "ipmpd");
}
