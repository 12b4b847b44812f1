//! All processors have too much to do, and nobody is taken for dead.

lab::lane!(alone);

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use ipmp::types::Family;
use lab::network::ROUTER;
use lab::packet::PacketSocket;
use lab::process::{cpu_time, thread_cpu_time};
use lab::{CpuLoad, Lab, MS, MeasurementLock, Production, SECOND, clock, filter};

/// Percent of one processor that the daemon may take.
const LIMIT: f64 = 3.0;
/// Percent of their time that saturated processors may have nothing to do.
const IDLE: f64 = 10.0;
/// The daemon's processor time is taken over and over. What else this machine does only adds: the least counts.
const WINDOW: Duration = Duration::from_secs(5);
/// Frames that are sent to learn what the lab's own network takes.
const FRAMES: u32 = 200;

/// What the lab takes of a processor to carry an echo request to the router, answer it, and carry the reply back. In a
/// network of namespaces that is done while the sender sends, and counts as its time; on a wire it would be others'.
fn journey(lab: &Lab) -> Duration {
    let (peer, router) = (lab.peer(0), lab.router());
    let socket =
        PacketSocket::open(peer.namespace(), Some(lab::host::INTERFACE), &filter::ethertype(0)).unwrap();
    let mut frame = Vec::new();
    let ether = PacketBuilder::ethernet2(peer.mac(), router.mac());
    let echo = ether.ipv4(peer.v4().octets(), router.v4().octets(), 64).icmpv4_echo_request(1, 1);
    echo.write(&mut frame, &[0; ipmp_common::probe::PAYLOAD]).unwrap();
    let taken = std::thread::spawn(move || {
        clock::use_realtime_priority();
        let mut taken = Duration::ZERO;
        for _ in 0..FRAMES {
            let before = thread_cpu_time();
            socket.send(&frame).unwrap();
            taken += thread_cpu_time() - before;
            std::thread::sleep(5 * MS);
        }
        taken
    });
    taken.join().unwrap() / FRAMES
}

fn saturate(time: Duration) {
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let targets: Vec<String> =
        [ROUTER, lab.peer(0).v4(), lab.peer(1).v4()].iter().map(Ipv4Addr::to_string).collect();
    let settings = format!("fdt=100ms targets={}", targets.join(","));
    let production = Production::create_probed(&lab, &[Family::V4], &settings).unwrap();
    production.wait_answered().unwrap();
    let pid = production.daemon.pid().unwrap();
    let names = ["sent", "answered", "lost", "void", "unsent", "missed", "forged", "duplicate"];
    let since = production.daemon.log().len();
    let before = production.counts(None, names).unwrap();

    let busy = CpuLoad::start(&lab).unwrap();
    let (start, mut least) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < time {
        let (began, taken) = (Instant::now(), cpu_time(pid).unwrap());
        std::thread::sleep(WINDOW);
        let taken = cpu_time(pid).unwrap() - taken;
        least = least.min(taken.as_secs_f64() / began.elapsed().as_secs_f64());
    }
    let idle = busy.idle_percent().unwrap();
    let (took, after) = (start.elapsed(), production.counts(None, names).unwrap());
    let journey = journey(&lab);
    drop(busy);

    let counted: Vec<String> =
        (0..names.len()).map(|at| format!("{} {}", after[at] - before[at], names[at])).collect();
    let per_s = (after[0] - before[0]) as f64 / took.as_secs_f64();
    let own = 100.0 * (least - per_s * journey.as_secs_f64());
    println!("processors idle for {idle:.1} % of {took:?}; probes: {}", counted.join(", "));
    println!(
        "the daemon took {:.2} % of one, of which the lab's network was {journey:?} a probe: {own:.2} % its own",
        100.0 * least
    );
    let log = production.daemon.log();
    let said =
        |text: &str| -> Vec<&String> { log.iter().skip(since).filter(|line| line.contains(text)).collect() };
    let failures = said("failure detected");
    assert!(failures.is_empty(), "{} false failures: {failures:?}", failures.len());
    let dark = said("No target of group");
    assert!(dark.is_empty(), "{dark:?}");
    assert!(idle < IDLE, "processors that are idle for {idle:.1} % are not saturated");
    // Three members every 20 ms, of which a quarter may have come too late to count.
    assert!(per_s > 150.0 * 0.75, "{per_s:.0} probes a second instead of 150");
    assert!(own < LIMIT, "the daemon takes {own:.2} % of a processor, which should be below {LIMIT}");
    production.wait_usable(3).unwrap();
    production.assert_clean();
}

#[test]
fn saturated_processors_fail_nobody() {
    lab::needs_root!();
    saturate(30 * SECOND);
}

#[test]
#[ignore = "soak: five minutes of saturated processors"]
fn soak_processors_saturated_for_five_minutes_fail_nobody() {
    lab::needs_root!();
    saturate(300 * SECOND);
}
