//! Groups that carry nothing take next to nothing.

lab::lane!(alone);

use std::time::Duration;

use lab::idle_groups::IdleGroups;
use lab::{Lab, MeasurementLock};

/// Percent of a processor that daemon and sentinel may take together.
const LIMIT: f64 = 1.0;
/// What this machine does beside only adds: the best of so many measurements counts.
const ATTEMPTS: usize = 3;

fn idle(groups: usize, time: Duration) {
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().members(1).one_switch().peers(&[]).build().unwrap();
    let idle = IdleGroups::create(&lab, groups).unwrap();
    let mut least = f64::INFINITY;
    for _ in 0..ATTEMPTS {
        let load = idle.measure(time).unwrap();
        let (daemon, sentinel) = load.percent();
        println!(
            "{groups} groups: daemon {daemon:.3} % of a processor, {} kB; sentinel {sentinel:.3} %, {} ticks of {} ns; maps {} kB",
            load.memory.resident / 1024,
            load.ticks,
            load.sentinel.as_nanos() as u64 / load.ticks.max(1),
            load.maps / 1024
        );
        assert!(load.ticks > 0, "the sentinel does not tick: {load:?}");
        least = least.min(daemon + sentinel);
        if least < LIMIT {
            return;
        }
    }
    panic!("{groups} idle groups take {least:.3} % of a processor, which should be less than {LIMIT}");
}

#[test]
fn eight_idle_groups_take_less_than_a_percent_of_a_processor() {
    lab::needs_root!();
    idle(8, Duration::from_secs(4));
}

#[test]
#[ignore = "soak: attaching 128 members takes a minute"]
fn soak_64_idle_groups_take_less_than_a_percent_of_a_processor() {
    lab::needs_root!();
    idle(64, Duration::from_secs(20));
}
