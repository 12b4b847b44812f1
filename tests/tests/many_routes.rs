//! A group with very many routes: a failover does not wait for changes of routes, and the daemon's memory and CPU time do not
//! grow with the table.

lab::lane!(alone);

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::host_routes::commands;
use lab::inbound_failover::start_stream;
use lab::network::DATA;
use lab::process::{cpu_time, memory, peak_memory, reset_peak_memory};
use lab::{
    Lab, MS, MeasurementLock, MemberKind, Production, SECOND, TIMEOUT, Worker, command, percentile,
    wait_until,
};

/// Pulls per measurement.
const PULLS: usize = 3;
/// How long a cable stays unplugged, and the longest outage that is measured.
const UNPLUGGED: Duration = Duration::from_millis(250);
/// Routes that are added and removed while cables are pulled.
const CHANGING: usize = 10_000;
/// Maximum growth of the daemon's memory, in bytes.
const GROWTH: u64 = 32 << 20;
/// Maximum CPU time of the daemon in a second without changes.
const QUIET: Duration = Duration::from_millis(50);
/// Maximum time until the last change was processed.
const SETTLED: Duration = Duration::from_secs(60);

/// The inbound outages when the cable of the inbound member is pulled.
fn outages(lab: &Lab, production: &Production<'_>) -> Vec<Duration> {
    let running = start_stream(lab).unwrap();
    let mut pulled = Vec::new();
    for _ in 0..PULLS {
        let member = lab.member(&production.inbound(DATA).unwrap());
        let neighbour = || lab.peer(0).neighbour(DATA.into());
        assert!(wait_until(TIMEOUT, || neighbour().is_ok_and(|mac| mac == Some(member.mac()))));
        pulled.push(member.cable().pull().unwrap());
        std::thread::sleep(UNPLUGGED);
        production.replug(member).unwrap();
    }
    let report = running.stop().unwrap();
    pulled.iter().map(|at| report.outage(at.before, at.after + UNPLUGGED - at.before)).collect()
}

fn group_with_routes(count: usize) {
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let namespace = lab.host().clone();
    let without = percentile(&outages(&lab, &production), 50.0);
    let pid = production.daemon.pid().unwrap();
    let before = memory(pid).unwrap().resident;
    reset_peak_memory(pid).unwrap();

    let start = Instant::now();
    command::ip_batch(Some(&namespace), &commands("add", 0..count)).unwrap();
    println!("{count} routes added in {:?}", start.elapsed());
    let changes = move |stop: &AtomicBool| {
        let (add, remove) =
            (commands("add", count..count + CHANGING), commands("del", count..count + CHANGING));
        let mut changes = 0;
        while !stop.load(Ordering::Relaxed) {
            command::ip_batch(Some(&namespace), &add).unwrap();
            command::ip_batch(Some(&namespace), &remove).unwrap();
            changes += 2 * CHANGING;
        }
        changes
    };
    let changes = Worker::start("changes", changes).unwrap();
    let with = percentile(&outages(&lab, &production), 50.0);
    let changes = changes.stop();
    let growth = peak_memory(pid).unwrap().saturating_sub(before);
    let used_in_a_second = || {
        let before = cpu_time(pid).unwrap();
        std::thread::sleep(SECOND);
        cpu_time(pid).unwrap() - before
    };
    let mut quiet = Duration::MAX;
    let start = Instant::now();
    let is_quiet = wait_until(SETTLED, || {
        quiet = used_in_a_second();
        quiet < QUIET
    });
    println!(
        "inbound outage, p50 of {PULLS} pulls: {without:?} without routes, {with:?} with {count} routes during {changes} \
         changes; memory grew by {} kB; {quiet:?} CPU time in a quiet second, after {:?}",
        growth >> 10,
        start.elapsed()
    );
    assert!(with < 10 * without.max(5 * MS), "{with:?} with routes, {without:?} without");
    assert!(growth < GROWTH, "memory grew by {} kB", growth >> 10);
    assert!(is_quiet, "the daemon uses {quiet:?} CPU time a second");
    production.assert_clean();
}

#[test]
fn group_with_very_many_routes_fails_over_as_fast_as_without() {
    lab::needs_root!();
    group_with_routes(100_000);
}

#[test]
#[ignore = "soak: adding half a million routes takes a while"]
fn soak_group_with_half_a_million_routes_fails_over_as_fast_as_without() {
    lab::needs_root!();
    group_with_routes(500_000);
}
