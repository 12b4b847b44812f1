//! Pins and run files of network namespaces that were deleted.

use super::*;

/// A group in a namespace of its own, whose daemon is killed. Returns the namespace, and what its daemon has left.
fn abandoned_group(lab: &Lab, part: &str) -> (Namespace, Vec<PathBuf>) {
    let namespace = lab.namespace(part).unwrap();
    for link in ["add eth0 type veth peer sw0", "add eth1 type veth peer sw1"] {
        namespace.ip(&format!("link {link}")).unwrap();
    }
    for interface in ["lo", "sw0", "sw1"] {
        namespace.ip(&format!("link set {interface} up")).unwrap();
    }
    let socket = lab.directory().join(format!("{part}.sock"));
    let mut daemon = Command::new(binary("ipmpd").unwrap())
        .args(["--netns", namespace.name(), "--socket"])
        .arg(&socket)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(wait_until(TIMEOUT, || UnixStream::connect(&socket).is_ok()), "no ipmpd in {part}");
    let mut attach = Command::new(binary("ipmpctl").unwrap());
    command::run(attach.arg("--socket").arg(&socket).args(["attach", "eth0", "eth1", "--group", "g0"]))
        .unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let cookie = namespace.cookie().unwrap();
    let left = vec![
        format!("/sys/fs/bpf/ipmp/v{LAYOUT}/{cookie}").into(),
        format!("/run/ipmp/{cookie}").into(),
        format!("/run/ipmp/{cookie}.lock").into(),
    ];
    assert_eq!(existing(&left), left);
    (namespace, left)
}

fn existing(paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().filter(|path| path.exists()).cloned().collect()
}

#[test]
fn leftovers_of_deleted_namespaces_are_removed_and_those_of_existing_ones_stay() {
    lab::needs_root!();
    let lab = Lab::builder().members(2).build().unwrap();
    let (existing_namespace, kept) = abandoned_group(&lab, "kept");
    // A group whose interface and members are removed, in a namespace that still exists.
    let (bare_namespace, bare) = abandoned_group(&lab, "bare");
    for interface in ["eth0", "eth1", "g0"] {
        bare_namespace.ip(&format!("link del {interface}")).unwrap();
    }
    let delete = |namespace: Namespace| {
        let name = namespace.name().to_owned();
        drop(namespace);
        command::run(Command::new("ip").args(["netns", "del", &name])).unwrap();
    };
    let (namespace, left) = abandoned_group(&lab, "removed");
    delete(namespace);
    // Of another layout, without the marks of ours.
    let other = PathBuf::from("/sys/fs/bpf/ipmp/v1").join(left[0].file_name().unwrap());
    fs::create_dir_all(other.join("g0/links")).unwrap();
    let left = [left, vec![other]].concat();

    let text = "deleted network namespaces have been removed";
    let mut daemon = Daemon::start_in(&lab).unwrap();
    daemon.wait_line("serving", 0, TIMEOUT).unwrap();
    // The kernel may take the namespace from its list a moment later.
    let removed = (0..3).any(|_| {
        existing(&left).is_empty() || {
            daemon.terminate().unwrap();
            let since = daemon.log().len();
            daemon.start().unwrap();
            daemon.wait_line("serving", since, TIMEOUT).unwrap();
            false
        }
    });
    // Nothing, if the daemon of another test removed them.
    println!("{:?}", daemon.log_matches(text, 0));
    assert!(removed, "{:?} stay\n{}", existing(&left), daemon.log().join("\n"));
    assert_eq!(existing(&kept), kept);
    assert_eq!(existing(&bare), bare);

    daemon.terminate().unwrap();
    delete(existing_namespace);
    let removed = wait_until(TIMEOUT, || {
        daemon.teardown().unwrap();
        existing(&kept).is_empty()
    });
    println!("teardown removed the rest: {removed}");
    assert!(removed, "{:?} stay", existing(&kept));
    assert_eq!(existing(&bare), bare);
}
