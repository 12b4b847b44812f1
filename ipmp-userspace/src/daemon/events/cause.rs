//! The words of causes: `docs/monitor.md` lists them.

use crate::core::Cause;

/// The cause as a word for scripts and as a sentence. `None` for [`Cause::Trigger`].
pub fn describe(cause: &Cause) -> Option<(&'static str, String)> {
    Some(match cause {
        Cause::Trigger => return None,
        Cause::LinkLost { member } => ("carrier-lost", format!("{member} has lost its carrier")),
        Cause::LinkRestored { member } => ("carrier-gained", format!("{member} has gained a carrier")),
        Cause::UpdelayPassed { member } => {
            ("updelay-passed", format!("{member} has been up for the updelay"))
        }
        Cause::Flapping { member } => ("flapping", format!("the link of {member} is flapping")),
        Cause::HoldDownExpired { member } => {
            ("hold-down-expired", format!("the flap protection hold-down of {member} has expired"))
        }
        Cause::NoOtherMember { member } => {
            ("no-other-member", format!("no other member functions; the hold-down of {member} is ended"))
        }
        Cause::DuplicateMac { member, other } => {
            ("duplicate-mac", format!("{other} has the same hardware address as {member}"))
        }
        Cause::UniqueMac { member } => {
            ("unique-mac", format!("no other member has the hardware address of {member}"))
        }
        Cause::ProbesLost { member } => ("probes-lost", format!("consecutive probes on {member} were lost")),
        Cause::ProbesAnswered { member } => {
            ("probes-answered", format!("consecutive probes on {member} were answered"))
        }
        Cause::MtuHole { member } => {
            ("mtu-hole", format!("large packets are lost on {member}, and pass on others"))
        }
        Cause::MtuHoleEnded { member } => {
            ("mtu-hole-ended", format!("large packets are no longer lost on {member}"))
        }
        Cause::RouterUnreached { member } => {
            ("router-unreached", format!("{member} does not reach the default router, and others do"))
        }
        Cause::RouterUnreachedEnded { member } => {
            ("router-unreached-ended", format!("{member} is no longer avoided because of the default router"))
        }
        Cause::Degraded { member } => ("degraded", format!("{member} loses far more packets than others")),
        Cause::DegradedEnded { member } => {
            ("degraded-ended", format!("{member} does not lose far more packets than others any more"))
        }
        Cause::ProbeResults => ("probes", "probe results".into()),
        Cause::MemberFailed { member } => ("member-failed", format!("{member} has failed")),
        Cause::MemberOffline { member } => ("member-offline", format!("{member} is offline")),
        Cause::Drained { member } => ("drained", format!("the drain of {member} has ended")),
        Cause::MemberLeft { member } => ("member-left", format!("{member} has left the group")),
        Cause::MemberAbsent { member } => ("member-absent", format!("the device of {member} does not exist")),
        Cause::Balance { member } => {
            ("balance", format!("{member} is active; addresses are distributed evenly"))
        }
        Cause::Preferred { member } => {
            ("preferred", format!("{member} is active, and is the preferred inbound member of the address"))
        }
        Cause::NoTestAddress { member } => {
            ("no-test-address", format!("{member} has had no test address in the 20 s since it joined"))
        }
        Cause::SmallestMtu { member } => {
            ("smallest-mtu", format!("{member} has the smallest MTU of the group"))
        }
        Cause::ProgramMissing { member } => {
            ("program-missing", format!("the ingress program of {member} is missing"))
        }
        Cause::ProgramAttached { member } => {
            ("program-attached", format!("the ingress program of {member} is attached again"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONITOR: &str = include_str!("../../../../docs/monitor.md");

    #[test]
    fn every_cause_is_documented_and_names_its_member() {
        let member = || "eth0".to_owned();
        for cause in [
            Cause::LinkLost { member: member() },
            Cause::LinkRestored { member: member() },
            Cause::UpdelayPassed { member: member() },
            Cause::Flapping { member: member() },
            Cause::HoldDownExpired { member: member() },
            Cause::NoOtherMember { member: member() },
            Cause::DuplicateMac { member: member(), other: "eth1".into() },
            Cause::UniqueMac { member: member() },
            Cause::ProbesLost { member: member() },
            Cause::ProbesAnswered { member: member() },
            Cause::MtuHole { member: member() },
            Cause::MtuHoleEnded { member: member() },
            Cause::RouterUnreached { member: member() },
            Cause::RouterUnreachedEnded { member: member() },
            Cause::Degraded { member: member() },
            Cause::DegradedEnded { member: member() },
            Cause::ProbeResults,
            Cause::MemberFailed { member: member() },
            Cause::MemberOffline { member: member() },
            Cause::Drained { member: member() },
            Cause::MemberLeft { member: member() },
            Cause::MemberAbsent { member: member() },
            Cause::Balance { member: member() },
            Cause::Preferred { member: member() },
            Cause::NoTestAddress { member: member() },
            Cause::SmallestMtu { member: member() },
            Cause::ProgramMissing { member: member() },
            Cause::ProgramAttached { member: member() },
        ] {
            let (word, text) = describe(&cause).expect("a text");
            assert!(MONITOR.contains(&format!("\n| `{word}` | ")), "docs/monitor.md lacks {cause:?}");
            assert!(text.contains("eth0") || cause == Cause::ProbeResults, "{text} does not name the member");
        }
        assert_eq!(describe(&Cause::Trigger), None);
    }
}
