//! All processors have too much to do, and nobody is taken for dead.

use std::time::Instant;

use lab::process::processor_time;
use lab::{Alone, Busy};

use super::*;

/// Percent of one processor that the daemon may take.
const LIMIT: f64 = 3.0;
/// Percent of their time that saturated processors may have nothing to do.
const IDLE: f64 = 10.0;

fn saturate(time: Duration) {
    let _alone = Alone::wait().unwrap();
    let lab = Lab::tutorial().unwrap();
    let targets: Vec<String> =
        [ROUTER, lab.peer(0).v4(), lab.peer(1).v4()].iter().map(Ipv4Addr::to_string).collect();
    let settings = format!("fdt=100ms targets={}", targets.join(","));
    let production = with_test_addresses(&lab, &settings);
    let pid = production.daemon.pid().unwrap();
    let count = |counter: &str| production.count(None, counter).unwrap();
    let names = ["sent", "answered", "lost", "void", "unsent", "missed", "forged", "duplicate"];
    let since = production.daemon.log().len();
    let before = names.map(count);

    let busy = Busy::start(&lab).unwrap();
    let (began, taken) = (Instant::now(), processor_time(pid).unwrap());
    std::thread::sleep(time);
    let taken = processor_time(pid).unwrap() - taken;
    let percent = 100.0 * taken.as_secs_f64() / began.elapsed().as_secs_f64();
    let idle = busy.idle_percent().unwrap();
    drop(busy);

    let after = names.map(count);
    let counted: Vec<String> =
        (0..names.len()).map(|at| format!("{} {}", after[at] - before[at], names[at])).collect();
    println!(
        "processors idle for {idle:.1} % of {time:?}: the daemon took {percent:.2} % of one; probes: {}",
        counted.join(", ")
    );
    let failures = said(&production, "failure detected", since);
    assert!(failures.is_empty(), "{} false failures: {failures:?}", failures.len());
    let dark = said(&production, "No target of group", since);
    assert!(dark.is_empty(), "{dark:?}");
    assert!(idle < IDLE, "processors that are idle for {idle:.1} % are not saturated");
    // Three members every 20 ms, of which a quarter may have come too late to count.
    let wanted = time.as_millis() as u64 / 20 * 3;
    assert!(after[0] - before[0] > wanted * 3 / 4, "{} probes instead of {wanted}", after[0] - before[0]);
    assert!(percent < LIMIT, "the daemon takes {percent:.2} % of a processor, which should be below {LIMIT}");
    production.wait_carrying(3).unwrap();
    production.assert_clean();
}

#[test]
fn saturated_processors_fail_nobody() {
    saturate(30 * SECOND);
}

#[test]
#[ignore = "soak: five minutes of saturated processors"]
fn soak_processors_saturated_for_five_minutes_fail_nobody() {
    saturate(300 * SECOND);
}
