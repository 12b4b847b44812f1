//! After the inbound member of a data address has lost its carrier, senders receive another MAC within milliseconds: 0.6 to 1.6 ms
//! in the median of the machines that ran this, where the kernel's message alone may take 900 ms.
//!
//! The members are TAP devices, whose carrier goes down at the moment of the pull. A veth port drops frames for a while
//! before its member loses the carrier, up to many milliseconds on a busy machine; `ipmp-bench inbound` measures both.

lab::lane!(alone);

use std::time::Duration;

use lab::inbound_failover::{InboundOutages, PACKETS_PER_S, measure};
use lab::{Lab, MS, MeasurementLock, MemberKind, Production, percentile};

const PULLS: usize = 50;
const MEDIAN: Duration = Duration::from_millis(3);
const P95: Duration = Duration::from_millis(15);
/// Attempts, if a measurement is not valid because the machine was busy.
const ATTEMPTS: usize = 2;

#[test]
fn inbound_failover_takes_less_than_three_milliseconds() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    for number in 1..=ATTEMPTS {
        let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
        let production = Production::create(&lab).unwrap();
        let InboundOutages { outages, before, report } = measure(&lab, &production, PULLS).unwrap();
        let [p50, p95, most] = [50.0, 95.0, 100.0].map(|percent| percentile(&outages, percent));
        let noise = percentile(&before, 95.0);
        println!(
            "inbound: {PULLS} pulls, {PACKETS_PER_S} packets/s: outage p50 {p50:?}, p95 {p95:?}, max {most:?}; just \
             before the pulls p50 {:?}, p95 {noise:?}; {report}",
            percentile(&before, 50.0)
        );
        let good = p50 < MEDIAN && p95 < P95;
        let undisturbed = noise < MS && report.ensure_valid().is_ok();
        if !good && !undisturbed && number < ATTEMPTS {
            println!("inbound: repeated, because this machine was busy");
            continue;
        }
        report.ensure_valid().unwrap();
        assert_eq!(report.duplicated(), 0, "{report}");
        assert!(p50 < MEDIAN, "the median outage is {p50:?}");
        assert!(p95 < P95, "the 95th percentile of the outages is {p95:?}");
        production.assert_clean();
        return;
    }
}
