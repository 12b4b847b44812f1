//! SIGKILL at a random moment of every change, under traffic: the change is made or it is not, and nothing is lost.

use lab::Random;

use super::{
    changes::{CASES, Rehearsed, Scene, build_lab, rehearse},
    state::State,
    *,
};

/// Packets per second.
const RATE: u64 = 50_000;

fn kill_at_random_moments(kills: usize) {
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = build_lab();
    let mut random = Random::with_printed_seed();
    let untouched = snapshot(&lab);
    let mut scene = Scene::build(&lab);
    scene.run("apply BASE");
    assert!(wait_until(TIMEOUT, || scene.live() == 3));
    let base = scene.settled();
    let rehearsed: Vec<Rehearsed> = CASES.iter().map(|case| rehearse(&scene, case, &base)).collect();
    let pulled: Vec<State> = (1..=2)
        .map(|number| {
            lab.cable(number).pull().unwrap();
            let state = scene.settled();
            lab.cable(number).replug().unwrap();
            scene.wait(&[&base], "replugged");
            state
        })
        .collect();
    scene.daemon.kill().unwrap();
    let start = Instant::now();
    scene.daemon.start().unwrap();
    let adoption = start.elapsed();
    scene.wait(&[&base], "adopted");

    let ports = || (1..=2).map(|number| lab.cable(number).port().unwrap().rx_dropped).sum::<u64>();
    let dropped = ports();
    let running = Stream::outbound(&lab).flows(32).rate(RATE).start().unwrap();
    running.wait_received(RATE / 10, TIMEOUT).unwrap();
    let (mut made, mut not_made, mut twice) = (0, 0, 0);
    for round in 1..=kills {
        let killed_again = random.once_in(4);
        twice += usize::from(killed_again);
        let number = random.below(CASES.len() + 2);
        let Some(case) = CASES.get(number) else {
            let is_failover = number == CASES.len();
            let cable = 1 + random.below(2);
            if is_failover {
                lab.cable(cable).pull().unwrap();
                std::thread::sleep(random.within(30 * MS));
            }
            scene.daemon.kill().unwrap();
            scene.start(&mut random, adoption, killed_again || !is_failover);
            let what = format!("round {round}, {}", if is_failover { "failover" } else { "adoption" });
            if is_failover {
                scene.wait(&[&pulled[cable - 1]], &what);
                lab.cable(cable).replug().unwrap();
            }
            scene.wait(&[&base], &what);
            println!("{what}");
            continue;
        };
        let known = &rehearsed[number];
        case.before.iter().for_each(|line| scene.run(line));
        if !case.before.is_empty() {
            scene.wait(&[&known.before], case.name);
        }
        let mut client = scene.client(case.command);
        let mut client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let moment = random.within(known.time.mul_f64(1.1));
        std::thread::sleep(moment);
        scene.daemon.kill().unwrap();
        client.wait().unwrap();
        scene.start(&mut random, adoption, killed_again);
        let what = format!("round {round}, {} killed after {moment:?}", case.name);
        let is_made = scene.wait(&[&known.before, &known.after], &what) == 1;
        println!("{what}: {}", if is_made { "made" } else { "not made" });
        made += usize::from(is_made);
        not_made += usize::from(!is_made);
        // An undo completes in any case: it is recorded.
        if !is_made || case.command == "undo" {
            scene.run(case.command);
            scene.wait(&[&known.after], &format!("{what}, made again"));
        }
        case.after.iter().for_each(|line| scene.run(line));
        scene.wait(&[&base], &format!("{what}, undone"));
    }
    let report = running.stop().unwrap();
    let dropped = ports() - dropped;
    println!(
        "{kills} kills, {twice} of them followed by one during adoption: {made} changes made, {not_made} not made; {report}; \
         dropped by pulled ports: {dropped}"
    );
    assert_eq!(report.buffer_drops, 0, "{report}");
    assert_eq!(report.duplicated(), 0, "{report}");
    assert!(report.lost() <= dropped, "{report}; dropped by pulled ports: {dropped}");
    scene.daemon.kill().unwrap();
    scene.daemon.teardown().unwrap();
    assert_same(&lab, &untouched, "teardown");
}

#[test]
#[ignore = "takes minutes"]
fn soak_200_kills_at_random_moments_leave_each_change_made_or_not_and_lose_no_packet() {
    lab::needs_root!();
    let kills = std::env::var("IPMP_KILLS").map_or(200, |text| text.parse().unwrap());
    kill_at_random_moments(kills);
}
