//! The compiled rule that selects a member against [`Masks::select`], from which it was compiled: random lists, masks and carriers.

use std::cell::RefCell;

use ipmp_common::{
    select::Masks,
    steer::{MemberSet, Preference, SLOTS},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    frames::*,
    harness::{Bench, DATA4, PEER4, Reason, Setup},
    outcome::Outcome,
};

/// Groups of carriers, and searches with each.
const CARRIERS: u32 = 24;
const SEARCHES: usize = 32;

#[derive(Clone, Debug)]
struct Case {
    list: Vec<u8>,
    masks: Masks,
}

fn set() -> impl Strategy<Value = MemberSet> {
    // Half of all bits, and fewer: a mask without the first places of a list is the interesting one.
    (any::<u16>(), any::<u16>(), any::<bool>()).prop_map(|(one, other, sparse)| {
        MemberSet::from_bits((if sparse { one & other } else { one }).into())
    })
}

fn case() -> impl Strategy<Value = Case> {
    let list = Just((0..16u8).collect::<Vec<_>>()).prop_shuffle();
    (list, 1..=16usize, set(), set(), set()).prop_map(|(mut list, length, usable, reserve, live)| {
        list.truncate(length);
        Case { list, masks: Masks { usable, reserve, live } }
    })
}

/// Runs egress with a unicast packet, which takes the fast path, and with a multicast one, which does not.
fn transmit(bench: &Bench) -> [(Outcome, Vec<u8>); 2] {
    let group = Ipv4Addr::new(239, 1, 2, 3);
    [
        ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b"unicast")),
        ethernet(multicast_mac4(group), GROUP_MAC, IPV4, &udp4(DATA4, group, (1, 2), b"multicast")),
    ]
    .map(|frame| (bench.egress(&frame), frame))
}

#[test]
fn ebpf_selects_the_member_that_the_common_rule_selects() {
    Setup::new().members(16).run(|bench| {
        bench.stop_sentinel();
        let live = RefCell::new(bench.live_map());
        let mut runner = TestRunner::new(Config {
            cases: CARRIERS,
            failure_persistence: None,
            max_shrink_iters: 200,
            ..Config::default()
        });
        let carriers_and_cases = (set(), proptest::collection::vec(case(), SEARCHES));
        let result = runner.run(&carriers_and_cases, |(carriers, cases)| {
            bench.set_cables(carriers, 16);
            for Case { list, masks } in cases {
                let preference = Preference::new(&list);
                bench.group.set_slots(&[preference; SLOTS]);
                bench.group.set_cast(preference);
                bench.group.set_usable(masks.usable);
                bench.group.set_reserve(masks.reserve);
                live.borrow_mut().set(bench.group.index(), masks.live, 0).unwrap();
                let expected = masks.select(preference, |member| carriers.has(member));
                for (outcome, frame) in transmit(bench) {
                    match expected {
                        None => outcome.is_dropped(Reason::NoMember),
                        Some(member) => {
                            let sent = with_source(&frame, member_mac(member));
                            if member == preference.first() {
                                outcome.leaves_by(member, &sent);
                            } else {
                                outcome.leaves_instead_by(member, &sent);
                            }
                        }
                    }
                }
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    });
}
