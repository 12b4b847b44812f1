//! Commands for service managers and monitoring.

lab::lane!(side_by_side, seconds = 15, no_clsact = "the commands read reports only");

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use ipmp::types::{Family, MemberState};
use lab::network::{DATA, ROUTER};
use lab::{Daemon, Lab, Production, TIMEOUT, daemon, wait_until};

/// `ipmpctl metrics --listen`.
struct Exporter {
    socket: PathBuf,
    process: Child,
}

impl Exporter {
    fn start(lab: &Lab, command: impl Fn(&str) -> Command) -> Self {
        let socket = lab.directory().join("metrics.sock");
        let line = format!("metrics --listen unix:{}", socket.display());
        let process = command(&line).spawn().unwrap();
        assert!(wait_until(TIMEOUT, || UnixStream::connect(&socket).is_ok()), "{line}");
        Self { socket, process }
    }

    fn get(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(format!("{request}\r\n\r\n").as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    fn has(&self, line: &str) -> bool {
        self.get("GET /metrics HTTP/1.0").lines().any(|known| known == line)
    }
}

/// `ipmpctl hooks`, with one hook that writes the variables, one that hangs, and one that writes its input.
struct Hooks {
    seen: PathBuf,
    process: Child,
}

impl Hooks {
    fn start(lab: &Lab, command: impl Fn(&str) -> Command) -> Self {
        let directory = lab.directory().join("hooks.d");
        let seen = lab.directory().join("seen");
        let out = seen.display();
        let variables = r#"echo "$IPMP_EVENT $IPMP_SEVERITY $IPMP_GROUP $IPMP_MEMBER $IPMP_MESSAGE""#;
        std::fs::create_dir(&directory).unwrap();
        for (name, line) in [
            ("10-variables", format!("{variables} >> {out}")),
            ("20-hangs", "sleep 5".into()),
            ("30-input", format!("cat >> {out}")),
        ] {
            let path = directory.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
        let line = format!("hooks --directory {} --timeout 100ms", directory.display());
        let hooks = Self { seen, process: command(&line).spawn().unwrap() };
        assert!(wait_until(TIMEOUT, || hooks.seen().contains("watching")), "{line}");
        hooks
    }

    fn seen(&self) -> String {
        std::fs::read_to_string(&self.seen).unwrap_or_default()
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn wait_online_and_health_follow_the_group() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let socket = lab.directory().join("ipmpd.sock");
    let command = |line: &str| {
        let mut command = Command::new(daemon::binary("ipmpctl").unwrap());
        command.arg("--socket").arg(&socket).args(line.split(' ')).stdin(Stdio::null());
        command
    };
    let run = |line: &str| {
        let output = command(line).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        println!("{line}: {} {text}", output.status);
        (output.status.code().unwrap(), text)
    };
    assert_eq!(run("health").0, 3);
    let (code, text) = run("wait-online --timeout 200ms");
    assert_eq!(code, 1);
    assert!(text.starts_with("ipmpctl: not online after 200ms: cannot contact ipmpd at "), "{text}");

    // It waits for the daemon, the group, a member and an address.
    let mut waiting = command("wait-online production0 --timeout 60s").spawn().unwrap();
    let daemon = Daemon::start_in(&lab).unwrap();
    assert_eq!(run("health"), (3, "IPMP UNKNOWN: ipmpd has no group\n".into()));
    assert_eq!(run("wait-online"), (0, String::new()));
    daemon.ctl(&format!("create production0 --address {DATA}/24")).unwrap();
    let (code, text) = run("wait-online --timeout 200ms");
    assert_eq!(
        (code, text.as_str()),
        (1, "ipmpctl: not online after 200ms: no member of production0 functions\n")
    );
    assert_eq!(
        run("health"),
        (2, "IPMP CRITICAL: production0 failed, 0 of 0 members | 'production0'=0;0:;1:;0;0\n".into())
    );
    assert_eq!(waiting.try_wait().unwrap(), None);
    daemon.ctl("attach e1000g0 e1000g1 rge0 --group production0").unwrap();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(run("wait-online production0"), (0, String::new()));
    assert_eq!(run("health production1"), (2, "IPMP CRITICAL: there is no group production1\n".into()));

    let production = Production::with_daemon(&lab, daemon).unwrap();
    production.wait_usable(3).unwrap();
    let ok = "IPMP OK: production0 ok, 3 of 3 members | 'production0'=3;3:;1:;0;3\n";
    assert_eq!(run("health production0"), (0, ok.into()));
    let exporter = Exporter::start(&lab, command);
    let hooks = Hooks::start(&lab, command);
    assert!(exporter.has("ipmp_group_members_functioning{group=\"production0\"} 3.0"));
    lab.cable(3).pull().unwrap();
    production.wait_state("rge0", MemberState::Failed, TIMEOUT).unwrap();
    for line in [
        "ipmp_up 1.0",
        "ipmp_group_state{group=\"production0\",state=\"degraded\"} 1.0",
        "ipmp_member_state{group=\"production0\",member=\"rge0\",state=\"failed\"} 1.0",
        "ipmp_member_link_up{group=\"production0\",member=\"rge0\"} 0.0",
        "ipmp_events_total{group=\"production0\",kind=\"link-down\"} 1",
    ] {
        assert!(wait_until(TIMEOUT, || exporter.has(line)), "{line}");
    }
    let failed =
        "failed warning production0 rge0 IP interface failure detected on rge0 of group production0\n";
    assert!(wait_until(TIMEOUT, || hooks.seen().contains(failed)), "{}", hooks.seen());
    // What hangs is killed, and the next one receives the event whole.
    let is_whole = |line: &str| line.starts_with("{\"version\":1,\"event\":{") && line.ends_with("}}");
    assert!(wait_until(TIMEOUT, || hooks.seen().lines().any(is_whole)), "{}", hooks.seen());
    assert!(exporter.get("GET /other HTTP/1.0").starts_with("HTTP/1.0 404"));
    assert!(exporter.get("POST /metrics HTTP/1.0").starts_with("HTTP/1.0 405"));
    assert!(run("metrics").1.contains("ipmp_group_members_functioning{group=\"production0\"} 2.0\n"));
    assert_eq!(run("metrics --listen 0.0.0.0:9978").0, 2);
    let degraded =
        "production0 degraded, 2 of 3 members (rge0 failed, link down) | 'production0'=2;3:;1:;0;3\n";
    assert_eq!(run("health"), (1, format!("IPMP WARNING: {degraded}")));
    production.assert_clean();
}

#[test]
fn check_compares_files_with_interfaces_and_replies_of_targets() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let file = lab.directory().join("ipmp.toml");
    let check = || {
        let mut command = lab.host().command(daemon::binary("ipmpctl").unwrap().to_str().unwrap());
        command.arg("--socket").arg(lab.directory().join("ipmpd.sock")).arg("check").arg(&file);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        println!("check: {} {}", output.status, text.trim_end());
        (output.status.code().unwrap(), text.replace(&format!("{}:", file.display()), ""))
    };
    let mac = lab.host().ip("-br link show dev e1000g1").unwrap();
    let mac = mac.split_whitespace().find(|word| word.matches(':').count() == 5).unwrap();
    let members = |third: &str| {
        let text = format!(
            "[group.production0]\naddresses = [\"{DATA}/24\"]\nprobe = \"arp\"\ntargets = [\"192.168.178.99\"]\nfdt = \"100ms\"\n\
             [group.production0.members]\ne1000g0 = {{}}\nsecond = {{ match = {{ mac = \"{mac}\" }} }}\n{third} = {{}}\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    // Without a daemon: the interfaces of the namespace.
    members("e1000g1");
    let (code, text) = check();
    assert_eq!(code, 1);
    let same =
        "9:1: error: e1000g1 matches e1000g1, as second at 8:1 does: write one entry for each interface\n";
    assert!(text.starts_with(same), "{text}");
    members("rge7");
    let (code, text) = check();
    assert_eq!(code, 0);
    let missing = "9:1: warning: no interface of this host has the name rge7: rge7 of production0 is absent until one appears\n";
    assert!(text.starts_with(missing), "{text}");
    members("rge0");
    assert_eq!(check(), (0, "1 file, 1 group: 0 errors, 0 warnings\n".into()));

    // With a daemon whose only target stops replying.
    let production = Production::create_probed(&lab, &[Family::V4], "fdt=100ms").unwrap();
    production.daemon.ctl(&format!("set production0 targets={ROUTER}")).unwrap();
    production.wait_answered().unwrap();
    lab.router().set_echo_replies(false).unwrap();
    let unreachable = "1:8: warning: no inet target of production0 replies: a failure behind the switch is not detected; check \
                       targets and gateways\n1 file, 1 group: 0 errors, 1 warning\n";
    assert!(lab::wait_until(TIMEOUT, || check() == (0, unreachable.into())), "{:?}", check());
    production.assert_clean();
}
