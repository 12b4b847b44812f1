//! The permitted differences from the tutorial, with reasons. `docs/demo.md` has the same list; a test compares them.

use ipmp::core::group::MIN_MTU;

use super::compare::Difference;

/// A kind of permitted difference.
pub struct Permitted {
    /// The difference.
    pub what: &'static str,
    /// The reason.
    pub why: &'static str,
    covers: fn(&Difference) -> bool,
}

/// All permitted differences. The first kind that covers a difference applies.
pub const PERMITTED: [Permitted; 15] = [
    Permitted {
        what: "FLAGS has seven places",
        why: "The tutorial's typesetting removed two dashes of each empty field; ipmpstat has always had seven places.",
        covers: |d| d.cell == "FLAGS" && d.both(|tutorial, here| tutorial == "-----" && here == "-------"),
    },
    Permitted {
        what: "FLAGS has an M",
        why: "The group interface has a link-local IPv6 address, so the member that is used for IPv4 multicast is also used for \
              IPv6 multicast. The tutorial's host had no IPv6.",
        covers: |d| d.cell == "FLAGS" && d.both(|tutorial, here| tutorial == "--mb---" && here == "--mbM--"),
    },
    Permitted {
        what: "FDT is --",
        why: "The tables of members being attached are from 1.6.2, where members are probed. Without probes there is no \
              failure detection time.",
        covers: |d| d.cell == "FDT" && d.both(|tutorial, here| tutorial == "10.00s" && here == "--"),
    },
    Permitted {
        what: "no number before the flags, and no IPv4 among them",
        why: "The number shows flag bits of another kernel. An interface of Linux has both families, one of OpenSolaris has one.",
        covers: |d| d.here.is_none() && ["flags", "flag IPv4"].contains(&d.cell.as_str()),
    },
    Permitted {
        what: "another index",
        why: "The kernel numbers interfaces in the order of their creation.",
        covers: |d| d.cell == "index" && d.both(|tutorial, here| number(tutorial) && number(here)),
    },
    Permitted {
        what: "MTU of a group without members",
        why: "OpenSolaris has 68. With an MTU below 1280, Linux removes all IPv6 addresses permanently.",
        covers: |d| {
            d.cell == "mtu"
                && d.both(|tutorial, here| {
                    tutorial == "68" && here.parse().is_ok_and(|mtu: u32| mtu >= MIN_MTU)
                })
        },
    },
    Permitted {
        what: "netmask of a /24",
        why: "It is that of a /24 here. The tutorial shows the same /24 as ffffffff, as fffffff0 and as ffffff00, with the \
              broadcast address of a /24.",
        covers: |d| {
            let shown = ["ffffffff", "fffffff0"];
            d.cell == "netmask" && d.both(|tutorial, here| shown.contains(&tutorial) && here == "ffffff00")
        },
    },
    Permitted {
        what: "a member has no address",
        why: "OpenSolaris gives every interface an IPv4 address, at least 0.0.0.0. On Linux a member needs none.",
        covers: |d| {
            let zero = ["0.0.0.0", "ff000000", "0.255.255.255"];
            d.here.is_none() && d.tutorial.as_deref().is_some_and(|tutorial| zero.contains(&tutorial))
        },
    },
    Permitted {
        what: "addresses that the tutorial does not show",
        why: "OpenSolaris shows Ethernet addresses only to root, and IPv6 addresses in separate blocks.",
        covers: |d| d.tutorial.is_none() && ["ether", "inet6"].contains(&d.cell.as_str()),
    },
    Permitted {
        what: "no flag CoS",
        why: "Linux has no such flag. Solaris 10 in a virtual machine has it on network cards.",
        covers: |d| match d.cell.as_str() {
            "flag CoS" => d.here.is_none(),
            "flags" => d.both(|tutorial, here| bits(tutorial) == bits(here).map(|here| here | COS)),
            _ => false,
        },
    },
    Permitted {
        what: "192.168.178 for 192.168.56",
        why: "The tutorial's hosts block of classic IPMP has 192.168.178.200 to 202, its output 192.168.56.200 to 202.",
        covers: |d| {
            let same = |tutorial: &str, here: &str| {
                let last = tutorial.strip_prefix("192.168.56.");
                last.is_some() && last == here.strip_prefix("192.168.178.")
            };
            ["inet", "broadcast"].contains(&d.cell.as_str()) && d.both(same)
        },
    },
    Permitted {
        what: "another Ethernet address",
        why: "The lab's interfaces have their own.",
        covers: |d| d.cell == "ether" && d.both(|tutorial, here| mac(tutorial) && mac(here)),
    },
    Permitted {
        what: "broadcast address of 0.0.0.0",
        why: "The tutorial shows it in 1.7.4, and for the same interface not in 1.7.2.",
        covers: |d| {
            d.cell == "broadcast" && d.tutorial.is_none() && d.here.as_deref() == Some("0.255.255.255")
        },
    },
    Permitted {
        what: "SPEED, DUPLEX and ADDRESS of an aggregate",
        why: "They are those of the lab's interfaces, and /proc/net/bonding has them for ports only.",
        covers: |d| ["SPEED", "DUPLEX", "ADDRESS"].contains(&d.cell.as_str()),
    },
    Permitted {
        what: "STATE of an aggregate whose ports have no link",
        why: "dladm shows unknown until a port had a link once; here it is down.",
        covers: |d| d.cell == "STATE" && d.both(|tutorial, here| tutorial == "unknown" && here == "down"),
    },
];

/// The kind of a difference, if it is permitted.
pub fn kind(difference: &Difference) -> Option<usize> {
    PERMITTED.iter().position(|permitted| (permitted.covers)(difference))
}

impl Difference {
    /// Whether both have the cell, with values that match `such`.
    fn both(&self, such: impl Fn(&str, &str) -> bool) -> bool {
        self.tutorial
            .as_deref()
            .zip(self.here.as_deref())
            .is_some_and(|(tutorial, here)| such(tutorial, here))
    }
}

/// The bit of the flag CoS.
const COS: u64 = 0x2_0000_0000;

fn bits(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// Six hexadecimal numbers.
fn mac(text: &str) -> bool {
    text.split(':').filter(|part| u8::from_str_radix(part, 16).is_ok()).count() == 6
}

fn number(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tutorial;
    use crate::tutorial::compare::{block, differences, table};

    /// The kinds of the differences, in order, with `None` for one that is not permitted.
    fn kinds(differences: &[Difference]) -> Vec<Option<usize>> {
        let mut kinds: Vec<_> = differences.iter().map(kind).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    #[test]
    fn ipmpstat_output_passes() {
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
    fn ipmpctl_show_output_passes() {
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
    fn member_has_every_flag_of_tutorial() {
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
    fn every_kind_is_documented() {
        let text = include_str!("../../../docs/demo.md");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = words(text);
        for (number, Permitted { what, why, .. }) in PERMITTED.iter().enumerate() {
            let entry = words(&format!("{}. **{what}.** {why}", number + 1));
            assert!(text.contains(&entry), "docs/demo.md lacks: {entry}");
        }
        assert!(!text.contains(&format!("{}. **", PERMITTED.len() + 1)), "docs/demo.md has one more");
    }
}
