//! The daemon is killed at any moment; the next one completes what it has begun.

use super::*;

/// Kills the daemon; a cable is pulled or replugged within 50 ms of the next start, by that daemon or before it.
fn cables_move_while_the_daemon_restarts(kills: u64) {
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let mut production = Production::create(&lab).unwrap();
    let running = Stream::outbound(&lab).flows(16).rate(2_000).start().unwrap();
    running.wait_received(200, 5 * SECOND).unwrap();
    for round in 0..kills {
        let (number, pulled) = (1 + round as usize / 2 % 3, round % 2 == 0);
        let (cable, delay) = (lab.cable(number), MS * (round as u32 * 7 % 50));
        production.daemon.kill().unwrap();
        std::thread::scope(|scope| {
            let moved = scope.spawn(move || {
                std::thread::sleep(delay);
                if pulled { cable.pull() } else { cable.replug() }
            });
            production.daemon.start().unwrap();
            moved.join().unwrap().unwrap();
        });
        production.wait_usable(if pulled { 2 } else { 3 }).unwrap();
        let moved = lab.members()[number - 1].name();
        for address in [IpAddr::from(DATA), DATA6.into()] {
            assert!(!pulled || production.inbound(address).unwrap() != moved, "round {round}: {moved}");
            let reached = || lab.peer(0).ping(address, 1, MS, SECOND).unwrap().answered == 1;
            assert!(wait_until(5 * SECOND, reached), "round {round}: {address}\n{}", production.show());
        }
    }
    let report = running.stop().unwrap();
    println!("{kills} times killed, a cable moved at the restart: {report}");
    report.ensure_valid().unwrap();
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    production.assert_clean();
}

#[test]
fn cables_that_move_while_the_daemon_restarts_lose_no_packet() {
    lab::needs_root!();
    cables_move_while_the_daemon_restarts(4);
}

#[test]
#[ignore = "takes a minute"]
fn soak_cables_that_move_while_the_daemon_restarts_60_times_lose_no_packet() {
    lab::needs_root!();
    cables_move_while_the_daemon_restarts(60);
}

/// Runs `ipmpctl` and kills the daemon after a time, whatever it has done until then. Then starts it again.
fn kill_during(daemon: &mut Daemon<'_>, arguments: &str, after: Duration) {
    let mut command = Command::new(binary("ipmpctl").unwrap());
    command.arg("--socket").arg(daemon.socket()).args(arguments.split_whitespace());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = command.spawn().unwrap();
    std::thread::sleep(after);
    daemon.kill().unwrap();
    client.wait().unwrap();
    daemon.start().unwrap();
}

/// The groups that there are, with their members.
fn groups(daemon: &Daemon<'_>) -> Vec<(String, Vec<String>)> {
    let shown: serde_json::Value = serde_json::from_str(&daemon.ctl("show --json").unwrap()).unwrap();
    let name = |of: &serde_json::Value| of["name"].as_str().unwrap().to_owned();
    let groups = shown["groups"].as_array().unwrap().iter();
    groups
        .map(|group| (name(group), group["members"].as_array().unwrap().iter().map(name).collect()))
        .collect()
}

/// Kills the daemon at different times of an attach and of a detach. The next one completes them, and nothing is left.
fn kills_during_attach_and_detach(times: u32) {
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    configure_host(&lab);
    let before = snapshot(&lab);
    let attach = format!("attach e1000g0 e1000g1 --group {GROUP}");
    let mut daemon = Daemon::start_in(&lab).unwrap();
    // How long each takes, with that of its client.
    let timed = |arguments: &str| {
        let start = Instant::now();
        daemon.ctl(arguments).unwrap();
        start.elapsed()
    };
    let attaching = timed(&attach);
    timed("detach e1000g1");
    let detaching = timed("detach e1000g0 --restore");
    println!("attach takes {attaching:?}, detach {detaching:?}");
    for round in 1..=times {
        kill_during(&mut daemon, &attach, attaching * round / times);
        println!("round {round}, killed during attach: {:?}", groups(&daemon));
        for name in ["e1000g0", "e1000g1"] {
            if groups(&daemon).iter().all(|(_, members)| !members.contains(&name.to_owned())) {
                daemon.ctl(&format!("attach {name} --group {GROUP}")).unwrap();
            }
        }
        let reached = |address: IpAddr| lab.peer(0).ping(address, 1, MS, SECOND).unwrap().answered == 1;
        for address in [IpAddr::from(PLAIN), PLAIN6.into()] {
            assert!(wait_until(5 * SECOND, || reached(address)), "round {round}: {address} not reached");
        }
        daemon.ctl("detach e1000g1").unwrap();
        kill_during(&mut daemon, "detach e1000g0 --restore", detaching * round / times);
        println!("round {round}, killed during detach: {:?}", groups(&daemon));
        if let Some((group, members)) = groups(&daemon).first() {
            if members.is_empty() {
                daemon.ctl(&format!("destroy {group}")).unwrap();
            } else {
                daemon.ctl("detach e1000g0 --restore").unwrap();
            }
        }
        assert!(wait_until(5 * SECOND, || reached(PLAIN.into())), "round {round}: afterwards");
        daemon.terminate().unwrap();
        assert_same(&lab, &before, &format!("round {round}"));
        daemon.start().unwrap();
    }
}

#[test]
fn kills_during_attach_and_detach_leave_nothing() {
    lab::needs_root!();
    kills_during_attach_and_detach(3);
}

#[test]
#[ignore = "takes a minute"]
fn soak_20_kills_during_attach_and_detach_leave_nothing() {
    lab::needs_root!();
    kills_during_attach_and_detach(20);
}

#[test]
fn apply_that_a_killed_daemon_began_is_completed_at_its_start() {
    lab::needs_root!();
    let lab = changes::build_lab();
    let mut scene = changes::Scene::build(&lab);
    scene.run("apply BASE");
    let text = fs::read_to_string(lab.directory().join("MORE")).unwrap();
    let (without, _) = text.split_once("e1000g3").unwrap();
    fs::write(lab.directory().join("BASE"), without).unwrap();
    scene.run("apply BASE");
    std::thread::sleep(SECOND);
    scene.daemon.kill().unwrap();
    let path = format!("/run/ipmp/{}/state.json", lab.host().cookie().unwrap());
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let file = serde_json::json!({ "path": "MORE", "text": text });
    state["unfinished"] = serde_json::json!([{ "apply": { "files": [file], "complete": false } }]);
    fs::write(&path, state.to_string()).unwrap();
    scene.daemon.start().unwrap();
    // It probes, and finds the targets that the routes name.
    let is_ok = || {
        let text = scene.daemon.ctl(&format!("show {GROUP} --json")).unwrap();
        let mut shown: serde_json::Value = serde_json::from_str(&text).unwrap();
        let report: GroupReport = serde_json::from_value(shown["groups"][0].take()).unwrap();
        report.members.iter().any(|member| member.name == "e1000g3" && member.state == MemberState::Ok)
    };
    assert!(wait_until(TIMEOUT, is_ok), "{}", scene.daemon.ctl("explain e1000g3").unwrap());
}
