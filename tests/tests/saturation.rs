//! While all CPUs are saturated, no member is detected as failed.

lab::lane!(alone);

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use ipmp::types::Family;
use lab::network::ROUTER;
use lab::packet::PacketSocket;
use lab::process::{cpu_time, thread_cpu_time};
use lab::{CpuLoad, Lab, MS, MeasurementLock, Production, SECOND, clock, filter};

/// Maximum CPU time of the daemon, in percent of one CPU.
const LIMIT: f64 = 3.0;
/// Maximum idle time of saturated CPUs, in percent.
const IDLE: f64 = 10.0;
/// The daemon's CPU time is measured several times. Other work of this machine only adds to it: the lowest value counts.
const WINDOW: Duration = Duration::from_secs(5);
/// Frames sent to measure the CPU time of the lab's network.
const FRAMES: u32 = 200;

/// CPU time of the lab to deliver an echo request to the router, reply to it, and deliver the reply. In a network of
/// namespaces this happens within the sender's call and counts as its CPU time; with real hosts it would be theirs.
fn network_time(lab: &Lab) -> Duration {
    let (peer, router) = (lab.peer(0), lab.router());
    let socket =
        PacketSocket::open(peer.namespace(), Some(lab::host::INTERFACE), &filter::ethertype(0)).unwrap();
    let mut frame = Vec::new();
    let ether = PacketBuilder::ethernet2(peer.mac(), router.mac());
    let echo = ether.ipv4(peer.v4().octets(), router.v4().octets(), 64).icmpv4_echo_request(1, 1);
    echo.write(&mut frame, &[0; ipmp_common::probe::PAYLOAD]).unwrap();
    let used = std::thread::spawn(move || {
        clock::use_realtime_priority();
        let mut used = Duration::ZERO;
        for _ in 0..FRAMES {
            let before = thread_cpu_time();
            socket.send(&frame).unwrap();
            used += thread_cpu_time() - before;
            std::thread::sleep(5 * MS);
        }
        used
    });
    used.join().unwrap() / FRAMES
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
    let names = ["sent", "answered", "lost", "discarded", "unsent", "missed", "unexpected", "duplicate"];
    let since = production.daemon.log().len();
    let before = production.counts(None, names).unwrap();

    let load = CpuLoad::start(&lab).unwrap();
    let (start, mut least) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < time {
        let (began, used) = (Instant::now(), cpu_time(pid).unwrap());
        std::thread::sleep(WINDOW);
        let used = cpu_time(pid).unwrap() - used;
        least = least.min(used.as_secs_f64() / began.elapsed().as_secs_f64());
    }
    let idle = load.idle_percent().unwrap();
    let (took, after) = (start.elapsed(), production.counts(None, names).unwrap());
    let network_time = network_time(&lab);
    drop(load);

    let counted: Vec<String> =
        (0..names.len()).map(|at| format!("{} {}", after[at] - before[at], names[at])).collect();
    let per_s = (after[0] - before[0]) as f64 / took.as_secs_f64();
    let own = 100.0 * (least - per_s * network_time.as_secs_f64());
    println!("CPUs idle for {idle:.1} % of {took:?}; probes: {}", counted.join(", "));
    println!(
        "the daemon used {:.2} % of a CPU, including {network_time:?} per probe for the lab's network; {own:.2} % without it",
        100.0 * least
    );
    let logged = |text: &str| production.daemon.log_matches(text, since);
    let failures = logged("failure detected");
    assert!(failures.is_empty(), "{} false failures: {failures:?}", failures.len());
    let unreachable = logged("No target of group");
    assert!(unreachable.is_empty(), "{unreachable:?}");
    assert!(idle < IDLE, "CPUs that are idle for {idle:.1} % are not saturated");
    // Three members every 20 ms; a quarter of the probes may be too late to count.
    assert!(per_s > 150.0 * 0.75, "{per_s:.0} probes per second instead of 150");
    assert!(own < LIMIT, "the daemon uses {own:.2} % of a CPU; the limit is {LIMIT} %");
    production.wait_usable(3).unwrap();
    production.assert_clean();
}

#[test]
fn saturated_cpus_cause_no_failure() {
    lab::needs_root!();
    saturate(15 * SECOND);
}

#[test]
#[ignore = "soak: ten minutes of saturated CPUs"]
fn soak_cpus_saturated_for_ten_minutes_cause_no_failure() {
    lab::needs_root!();
    saturate(600 * SECOND);
}
