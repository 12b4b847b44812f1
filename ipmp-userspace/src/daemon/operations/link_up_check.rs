//! Whether a returning member is protected against a switch port that blocks after a link-up.

use std::time::Duration;

use crate::{control::duration::short, core::member::Member, daemon::group::RunningGroup};

/// How long a port with spanning tree blocks at its default: twice the forward delay (IEEE 802.1D, 17.14).
const BLOCKING: Duration = Duration::from_secs(30);

/// Names the members of these that are used before a switch port with spanning tree forwards: neither probes nor an updelay
/// protect them.
pub fn message(group: &RunningGroup, names: &[String]) -> Option<String> {
    let members = group.core.members().iter().filter(|member| names.iter().any(|name| name == member.name()));
    text(group.name(), members.map(|member| (member, group.updelays.of(member.number(), false))))
}

fn text<'a>(group: &str, members: impl Iterator<Item = (&'a Member, Duration)>) -> Option<String> {
    let unprotected: Vec<(&Member, Duration)> =
        members.filter(|(member, updelay)| !member.is_probed() && *updelay < BLOCKING).collect();
    let shortest = unprotected.iter().map(|(_, updelay)| *updelay).min()?;
    let names: Vec<&str> = unprotected.iter().map(|(member, _)| member.name()).collect();
    Some(format!(
        "{}: not probed, and used {} after a link-up: a switch port that blocks longer (spanning tree without edge port: 30 s) \
         loses packets; set updelay=35s on {group}, or probe it (test addresses, or probe=auto)",
        names.join(" "),
        short(shortest)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Settings, group::testing::Wire};

    #[test]
    fn only_members_without_probes_and_long_updelay_are_named() {
        let mut wire = Wire::new(Settings::default());
        (0..3).for_each(|member| wire.join(member));
        wire.test_address(1, crate::types::Family::V4);
        let of = |updelays: [u64; 3]| {
            let members = wire.group.members().iter().zip(updelays.map(Duration::from_secs));
            text("g", members)
        };
        assert_eq!(of([30, 0, 600]), None);
        let expected = "eth0 eth2: not probed, and used 5 s after a link-up";
        assert!(of([5, 5, 20]).is_some_and(|text| text.starts_with(expected)), "{:?}", of([5, 5, 20]));
    }
}
