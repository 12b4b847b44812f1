//! Changes with `--confirm`: undone at the deadline without the daemon, or by command; confirmed they stay.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Stdio,
};

use lab::daemon::binary;
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;

use super::*;

const ATTACH: &str = "attach e1000g0 e1000g1 --group production0 --confirm";
/// An address of e1000g1.
const OTHER: &str = "10.9.9.2/24";

struct Operator<'lab> {
    lab: &'lab Lab,
    socket: PathBuf,
    state: PathBuf,
}

impl Operator<'_> {
    /// Runs `ipmpctl` in the namespace of the host, as a daemon that it starts does; returns exit status and output.
    fn ctl(&self, line: &str) -> (i32, String) {
        let mut command = self.lab.host().command(binary("ipmpctl").unwrap().to_str().unwrap());
        command.arg("--socket").arg(&self.socket).args(line.split(' ')).stdin(Stdio::null());
        command.env("IPMP_STATE_DIR", &self.state);
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        println!("{line}: {} {}", output.status, text.trim_end());
        (output.status.code().unwrap(), text)
    }

    fn refused(&self, line: &str, text: &str) {
        let (code, output) = self.ctl(line);
        assert!(code == 1 && output.contains(text), "{line}: {output}");
    }

    fn done(&self, line: &str) -> String {
        let (code, output) = self.ctl(line);
        assert_eq!(code, 0, "{line}: {output}");
        output
    }

    /// The file with the change that waits.
    fn record(&self) -> Option<PathBuf> {
        let mut entries = fs::read_dir(&self.state).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("pending") && name.ends_with(".sock")
        })
    }

    /// How the groups are configured, and the preferred members of their addresses.
    fn configuration(&self) -> Vec<String> {
        let (code, text) = self.ctl("show --json");
        assert_eq!(code, 0, "{text}");
        let report: Value = serde_json::from_str(&text).unwrap();
        let mut lines = Vec::new();
        for group in report["groups"].as_array().unwrap() {
            let configuration = &group["configuration"];
            lines.push(format!("{} {}", group["name"], configuration["origin"]));
            for key in ["settings", "addresses", "routes", "members"] {
                let values = configuration[key].as_array().unwrap();
                lines.extend(values.iter().map(|value| format!("{key} {value}")));
            }
            let preferred = group["addresses"].as_array().unwrap().iter();
            lines.extend(preferred.map(|known| format!("{} {}", known["address"], known["preferred"])));
            let states = group["members"].as_array().unwrap().iter();
            lines.extend(states.map(|member| format!("{} {}", member["name"], member["state"] == "offline")));
        }
        // From the MAC, which is another one if the group is created again.
        lines.retain(|line| !line.contains("\"fe80:"));
        lines.sort();
        lines
    }

    /// Calls the daemon without `ipmpctl`.
    fn call(&self, call: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(format!("{call}\0").as_bytes()).unwrap();
        let mut reply = Vec::new();
        BufReader::new(stream).read_until(0, &mut reply).unwrap();
        String::from_utf8(reply).unwrap()
    }

    /// Ends the daemon that the undo has started.
    fn end_daemon(&self) {
        let is_it = |line: &[u8]| {
            let words: Vec<_> = line.split(|byte| *byte == 0).collect();
            words[0].ends_with(b"ipmpd") && words.contains(&self.socket.as_os_str().as_encoded_bytes())
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pid = |path: PathBuf| {
            let line = fs::read(path.join("cmdline")).ok()?;
            is_it(&line).then(|| path.file_name()?.to_str()?.parse().ok()).flatten()
        };
        let pids: Vec<i32> = entries.filter_map(|entry| pid(entry.path())).collect();
        let [pid] = pids[..] else { panic!("daemons on {}: {pids:?}", self.socket.display()) };
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        assert!(wait_until(TIMEOUT, || !self.socket.exists()));
    }
}

#[test]
fn attach_with_confirm_is_undone_at_deadline_unless_confirmed() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    configure_host(&lab);
    lab.host().ip(&format!("address add {OTHER} dev e1000g1")).unwrap();
    let before = snapshot(&lab);
    let mut daemon = Daemon::start_in(&lab).unwrap();
    let state = lab.directory().join("state");
    let operator = Operator { lab: &lab, socket: daemon.socket(), state };
    let has_group = || lab.host().link(GROUP).is_ok();
    let bulk = Bulk::new(lab.peer(0).namespace(), lab.host(), PLAIN).pace(PACE).start().unwrap();
    let flowing =
        |what: &str| bulk.wait_received(1 << 20, 5 * SECOND).unwrap_or_else(|e| panic!("{what}: {e}"));
    flowing("before");

    // A refused change does not wait for a confirmation.
    operator.refused("attach e1000g0 nic9 --group production0 --confirm 60", "nic9");
    operator.refused("confirm", "nothing waits for a confirmation");

    // The switch does not permit the MAC of a member on its port.
    let cable = lab.member("e1000g1").cable();
    let (switch, port) = (&cable.far().namespace, &cable.far().interface);
    let lock = |locked: &str| {
        let words = ["-n", switch.name(), "link", "set", "dev", port, "locked", locked];
        command::run(Command::new("bridge").args(words)).unwrap();
    };
    lock("on");
    // What the port has learnt is permitted.
    switch.ip(&format!("link set dev {port} type bridge_slave fdb_flush")).unwrap();
    operator.refused(&format!("{ATTACH} 60"), "e1000g1 does not reach the gateway 192.168.178.1");
    operator.refused("confirm", "nothing waits for a confirmation");
    assert!(!has_group());
    lock("off");
    flowing("undone because a member does not reach the gateway");

    // Meanwhile nothing else changes, and the daemon is not needed.
    assert!(operator.done(&format!("{ATTACH} 4")).contains("undone in 4 s unless confirmed"));
    flowing("attached");
    for line in
        ["set production0 fdt=2s", "detach e1000g1", "save", "attach rge0 --group production0 --confirm 60"]
    {
        operator.refused(line, "attach e1000g0 e1000g1 --group production0 is undone in ");
    }
    operator.refused("confirm", "confirm from a new connection, or add --force");
    daemon.kill().unwrap();
    assert!(has_group());
    assert!(wait_until(30 * SECOND, || operator.record().is_none()), "not undone");
    assert!(!has_group());
    flowing("undone");
    operator.end_daemon();
    assert_same(&lab, &before, "undone at the deadline");

    // At once, and each address returns to the NIC that it came from.
    daemon.start().unwrap();
    operator.done(&format!("{ATTACH} 60"));
    let plan = operator.done("undo --dry-run");
    assert!(
        plan.starts_with("undo: attach e1000g0") && plan.ends_with("remove group production0\n"),
        "{plan}"
    );
    assert!(operator.done("confirm --force --dry-run").starts_with("confirm: attach e1000g0") && has_group());
    assert!(operator.done("detach e1000g1 --dry-run").ends_with("production0: detach e1000g1\n"));
    assert!(operator.done("undo").starts_with("undone: attach e1000g0 e1000g1 --group production0\n"));
    assert!(!has_group());
    let addresses = lab.host().ip("-4 -br address show dev e1000g1").unwrap();
    assert!(addresses.contains(OTHER), "{addresses}");
    assert!(operator.done("undo").starts_with("nothing to undo"));
    flowing("undone by command");

    // What is confirmed stays after the deadline.
    operator.done(&format!("{ATTACH} 2"));
    operator.done("confirm --force");
    std::thread::sleep(3 * SECOND);
    assert!(has_group());
    // A member of an older group; what waited before a reboot does not wait any more.
    operator.done("attach rge0 --group production0 --confirm 60");
    operator.done("undo");
    assert!(!operator.done("show production0 --json").contains("rge0"));
    operator.done("attach rge0 --group production0 --confirm 60");
    let record = operator.record().unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = fs::read_to_string(&record).unwrap().replace(boot.trim(), "another");
    fs::write(&record, text).unwrap();
    // What a command added is removed; a failure in the last step undoes the others.
    operator.done("address add 192.168.178.211/24 --group production0 --inbound e1000g1");
    operator.done("create other0");
    let had = operator.configuration();
    let ipv6 = |value: &str| lab.host().sysctl("net.ipv6.conf.e1000g0.disable_ipv6", value).unwrap();
    ipv6("1");
    operator.refused("detach --all --restore", "; everything was undone");
    assert_eq!(operator.configuration(), had, "detach --all that failed");
    flowing("not detached");
    ipv6("0");
    operator.done("detach --all --group production0 --restore --confirm 60");
    operator.done("undo");
    assert_eq!(operator.configuration(), had, "detach --all that was undone");
    let output = operator.done("detach --all --restore");
    assert!(
        output.contains("group other0 has no members, and stays: ipmpctl destroy other0 removes it"),
        "{output}"
    );
    for returned in ["e1000g1: 10.9.9.2/24", "e1000g0: 192.168.178.201/24"] {
        assert!(output.contains(&format!("moved from production0 to {returned}")), "{output}");
    }
    assert!(operator.done("detach --all --restore --json").contains("\"changed\":false"));
    operator.done("destroy other0");
    flowing("detached");
    let report = bulk.stop().unwrap();
    println!("{report}");
    assert!(report.error.is_none() && report.intact, "{report}");
    daemon.terminate().unwrap();
    assert_same(&lab, &before, "detach --all --restore");
}

#[test]
fn detach_and_apply_with_confirm_are_undone_with_their_files() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    configure_host(&lab);
    lab.host().ip(&format!("address add {OTHER} dev e1000g1")).unwrap();
    let directory = lab.directory().join("ipmp");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("ipmp.toml");
    let directory = format!("--config-dir {}", directory.display());
    let builder =
        Daemon::builder(&lab).argument("--config-dir").argument(file.parent().unwrap().to_str().unwrap());
    let mut daemon = builder.start().unwrap();
    let state = lab.directory().join("state");
    let operator = Operator { lab: &lab, socket: daemon.socket(), state };
    for line in [
        "attach e1000g0 e1000g1 rge0 --group production0",
        "set production0 fdt=2s",
        "set e1000g1 weight=3",
        "address add 192.168.178.211/24 --group production0 --inbound e1000g1",
        "target add 192.168.178.1 192.168.178.22 --group production0",
        "target disable 192.168.178.22 --group production0",
        "offline rge0",
    ] {
        operator.done(line);
    }
    lab.host().ip("address add 192.168.178.250/24 dev production0").unwrap();
    let before = operator.configuration();
    let undone = |what: &str| {
        operator.done("undo");
        assert_eq!(operator.configuration(), before, "{what}");
    };

    // The daemon refuses other clients and SIGHUP, too, and logs the undo.
    fs::write(&file, "[group.production0]\naddresses = [\"192.168.178.212/24\"]\n").unwrap();
    operator.done("detach e1000g1 --move-back --confirm 60");
    assert!(lab.host().ip("-4 -br address show dev e1000g1").unwrap().contains(OTHER));
    let reply = operator.call(r#"{"method":"net.ipmp.Manager.Online","parameters":{"interface":"rge0"}}"#);
    assert!(
        reply.contains("\"pending\"") && reply.contains("detach e1000g1 --move-back is undone in"),
        "{reply}"
    );
    let since = daemon.log().len();
    daemon.signal(Signal::SIGHUP).unwrap();
    daemon.wait_line("nothing has changed: nothing is changed now: detach e1000g1", since, TIMEOUT).unwrap();
    undone("detach of one of several");
    daemon.wait_line("Undone: detach e1000g1 --move-back: by ipmpctl undo", since, TIMEOUT).unwrap();
    fs::remove_file(&file).unwrap();

    // Files are restored byte for byte, and what the change made of them is kept.
    operator.done(&format!("save {directory}"));
    let saved = fs::read_to_string(&file).unwrap() + "# a comment\n";
    fs::write(&file, &saved).unwrap();
    operator.done(&format!("apply {directory}"));
    let before = operator.configuration();
    let edited =
        saved.replace("192.168.178.211/24", "192.168.178.213/24").replace("fdt = \"2s\"", "fdt = \"3s\"");
    let at = edited.find("[group.production0.members]").unwrap();
    let edited = format!(
        "{}[group.production0.members]\ne1000g0 = {{}}\nrge0 = {{}}\n[group.other0]\n",
        &edited[..at]
    );
    fs::write(&file, &edited).unwrap();
    operator.done(&format!("apply {directory} --confirm 60"));
    let changed = operator.configuration();
    assert!(changed.iter().any(|line| line.contains("other0")) && changed != before, "{changed:?}");
    operator.done("undo");
    assert_eq!(operator.configuration(), before, "apply");
    assert_eq!(fs::read_to_string(&file).unwrap(), saved);
    assert_eq!(fs::read_to_string(file.with_extension("toml.unconfirmed")).unwrap(), edited);

    // The last member, with the addresses of other programs, by a daemon that the undo starts.
    operator.done("online rge0");
    operator.done("detach rge0");
    operator.done("detach e1000g1");
    let before = operator.configuration();
    let addresses = || {
        let text = lab.host().ip("-br address show dev production0").unwrap();
        let mut all: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        all.retain(|word| word.contains('/') && !word.starts_with("fe80"));
        all.sort();
        all
    };
    let had = addresses();
    operator.done("detach e1000g0 --force --confirm 2");
    assert!(lab.host().link(GROUP).is_err());
    daemon.kill().unwrap();
    assert!(wait_until(30 * SECOND, || operator.record().is_none()), "not undone");
    assert_eq!(operator.configuration(), before, "detach --force");
    assert_eq!(addresses(), had);
    operator.end_daemon();
    daemon.start().unwrap();
    daemon.terminate().unwrap();
    daemon.teardown().unwrap();
}
