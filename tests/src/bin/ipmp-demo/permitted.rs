//! Where we may differ from the tutorial, and why. `docs/demo.md` lists the same for readers; a test compares the two.

use ipmp::core::group::MIN_MTU;

use crate::compare::Difference;

/// A kind of difference that is meant.
pub struct Permitted {
    /// What differs.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
    covers: fn(&Difference) -> bool,
}

/// All of them. A difference is of the first kind that covers it.
pub const PERMITTED: [Permitted; 9] = [
    Permitted {
        what: "FLAGS has seven places",
        why: "The tutorial's typesetting swallowed two dashes of each empty field; ipmpstat has always had seven places.",
        covers: |d| d.cell == "FLAGS" && d.both(|there, here| there == "-----" && here == "-------"),
    },
    Permitted {
        what: "FLAGS has an M",
        why: "The group interface has an IPv6 address, its link-local one, so that the member that carries IPv4 multicast \
              carries IPv6 multicast, too. The tutorial's host had no IPv6.",
        covers: |d| d.cell == "FLAGS" && d.both(|there, here| there == "--mb---" && here == "--mbM--"),
    },
    Permitted {
        what: "FDT is --",
        why: "The tables of joining members are from 1.6.2, where members are probed. Without probes no failure detection \
              time applies.",
        covers: |d| d.cell == "FDT" && d.both(|there, here| there == "10.00s" && here == "--"),
    },
    Permitted {
        what: "no number before the flags, and no IPv4 among them",
        why: "The number has the bits of another kernel. An interface of Linux has both families, one of OpenSolaris has one.",
        covers: |d| d.here.is_none() && ["flags", "flag IPv4"].contains(&d.cell.as_str()),
    },
    Permitted {
        what: "another index",
        why: "The kernel numbers interfaces as they come to be.",
        covers: |d| d.cell == "index" && d.both(|there, here| number(there) && number(here)),
    },
    Permitted {
        what: "MTU of a group without members",
        why: "OpenSolaris says 68. Below 1280 Linux would take the IPv6 addresses away for good.",
        covers: |d| {
            d.cell == "mtu"
                && d.both(|there, here| there == "68" && here.parse().is_ok_and(|mtu: u32| mtu >= MIN_MTU))
        },
    },
    Permitted {
        what: "netmask of the data address",
        why: "It was typed here, as /24. The tutorial's command names none, and its output has ffffffff beside the \
              broadcast address of a /24.",
        covers: |d| d.cell == "netmask" && d.both(|there, here| there == "ffffffff" && here == "ffffff00"),
    },
    Permitted {
        what: "a member has no address",
        why: "OpenSolaris gives every interface an IPv4 address, if only 0.0.0.0. A member on Linux needs none.",
        covers: |d| {
            let zero = ["0.0.0.0", "ff000000", "0.255.255.255"];
            d.here.is_none() && d.tutorial.as_deref().is_some_and(|there| zero.contains(&there))
        },
    },
    Permitted {
        what: "addresses that the tutorial does not show",
        why: "OpenSolaris shows Ethernet addresses to root alone, and IPv6 addresses in blocks of their own.",
        covers: |d| d.tutorial.is_none() && ["ether", "inet6"].contains(&d.cell.as_str()),
    },
];

/// Which kind of difference it is, if it is permitted.
pub fn kind(difference: &Difference) -> Option<usize> {
    PERMITTED.iter().position(|permitted| (permitted.covers)(difference))
}

impl Difference {
    /// Whether both have the cell, and their values are such.
    fn both(&self, such: impl Fn(&str, &str) -> bool) -> bool {
        self.tutorial.as_deref().zip(self.here.as_deref()).is_some_and(|(there, here)| such(there, here))
    }
}

fn number(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{block, differences, table};
    use crate::tutorial;

    /// The kinds of the differences, in order, with `None` for one that is not permitted.
    fn kinds(differences: &[Difference]) -> Vec<Option<usize>> {
        let mut kinds: Vec<_> = differences.iter().map(kind).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    #[test]
    fn what_ipmpstat_prints_passes() {
        let here = "INTERFACE   ACTIVE  GROUP       FLAGS     LINK      PROBE     STATE\n\
                    rge0        yes     production0 -------   up        disabled  ok\n\
                    e1000g1     yes     production0 --mbM--   up        disabled  ok\n\
                    e1000g0     no      production0 -------   down      disabled  failed\n";
        let tutorial = table(tutorial::CABLE_1_OUT);
        assert_eq!(kinds(&differences(&tutorial, &table(here))), [Some(0), Some(1)]);
        for (from, to) in [
            ("--mbM--", "-------"),
            ("--mbM--", "--mbMd-"),
            ("down", "up"),
            ("failed", "ok"),
            ("no ", "yes"),
            ("e1000g0     no", "e1000g2     no"),
        ] {
            let other = here.replacen(from, to, 1);
            assert!(kinds(&differences(&tutorial, &table(&other))).contains(&None), "{other}");
        }
    }

    #[test]
    fn what_ipmpctl_show_prints_passes() {
        let here = "production0: flags=<UP,BROADCAST,MULTICAST,FAILED,IPMP> mtu 1500 index 2\n        inet 192.168.178.200 \
                    netmask ffffff00 broadcast 192.168.178.255 inbound none\n        inet6 fe80::1/64 inbound none\n        \
                    groupname production0\n        state failed: no members\n";
        let tutorial = block(tutorial::GROUP, "production0");
        let passes =
            |here: &str| !kinds(&differences(&tutorial, &block(here, "production0"))).contains(&None);
        assert!(passes(here));
        for (from, to) in [
            ("FAILED,", ""),
            ("MULTICAST,", "MULTICAST,RUNNING,"),
            ("mtu 1500", "mtu 68000000000"),
            ("mtu 1500", "mtu 576"),
            ("178.200", "178.201"),
            ("178.255", "178.127"),
            ("groupname production0", "groupname production1"),
        ] {
            assert!(!passes(&here.replace(from, to)), "{from} -> {to}");
        }
    }

    #[test]
    fn a_member_has_every_flag_of_the_tutorial() {
        let here = "rge0: flags=<UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER> mtu 1500 index 103\n        inet6 \
                    fe80::1/64\n        ether 02:a0:00:00:00:03\n        groupname production0\n        state ok\n";
        let tutorial = block(tutorial::RGE0, "rge0");
        let passes = |here: &str| !kinds(&differences(&tutorial, &block(here, "rge0"))).contains(&None);
        assert!(passes(here));
        for (from, to) in [
            (",DEPRECATED", ""),
            (",NOFAILOVER", ""),
            (",NOFAILOVER", ",NOFAILOVER,FAILED"),
            ("1500", "1400"),
            ("        inet6", "        inet 10.0.0.1 netmask ff000000\n        inet6"),
        ] {
            assert!(!passes(&here.replace(from, to)), "{from} -> {to}");
        }
    }

    #[test]
    fn every_kind_is_in_the_documentation() {
        let text = include_str!("../../../../docs/demo.md");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = words(text);
        for (number, Permitted { what, why, .. }) in PERMITTED.iter().enumerate() {
            let entry = words(&format!("{}. **{what}.** {why}", number + 1));
            assert!(text.contains(&entry), "docs/demo.md lacks: {entry}");
        }
        assert!(!text.contains(&format!("{}. **", PERMITTED.len() + 1)), "docs/demo.md has one more");
    }
}
