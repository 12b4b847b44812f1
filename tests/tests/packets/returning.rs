//! A link that came back is not trusted before `updelay`, unless there is no other.

use std::time::Duration;

use ipmp_common::steer::MemberSet;

use crate::{
    frames::*,
    harness::{DATA4, PEER4, Setup},
};

#[test]
fn a_link_not_yet_trusted_is_better_than_a_certain_loss() {
    lab::needs_root!();
    Setup::new().updelay(Duration::from_secs(3)).run(|bench| {
        let frame = ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b""));
        let by = |member| with_source(&frame, member_mac(member));
        bench.wait_live(MemberSet::from_bits(7));
        bench.egress(&frame).leaves_by(0, &by(0));
        bench.set_cable(0, false);
        bench.egress(&frame).leaves_instead_by(1, &by(1));
        bench.wait_live(MemberSet::from_bits(6));
        bench.set_cable(0, true);
        bench.egress(&frame).leaves_instead_by(1, &by(1));
        bench.set_usable(&[0]);
        bench.egress(&frame).leaves_by(0, &by(0));
        assert_eq!(
            bench.group.live(),
            MemberSet::from_bits(6),
            "too slow a machine: the link is trusted by now"
        );
        bench.set_usable(&[0, 1, 2]);
        bench.wait_live(MemberSet::from_bits(7));
        bench.egress(&frame).leaves_by(0, &by(0));
    });
}
