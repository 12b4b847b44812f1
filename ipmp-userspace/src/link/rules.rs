//! Rules, which lead the lookup of a destination to routing tables.

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    rule::{RuleAction, RuleAttribute, RuleMessage},
};

use super::{Error, Links, dump::dump, test_address};

impl Links {
    /// Whether rules may have a connection without source, mark and device look elsewhere than in the tables `local`, `main` and
    /// `default`. The call blocks.
    pub fn has_other_rules(&self) -> Result<bool, Error> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut rule = RuleMessage::default();
            rule.header.family = family;
            let other = |object| match object {
                RouteNetlinkMessage::NewRule(rule) => leads_elsewhere(&rule).then_some(()),
                _ => None,
            };
            let others = dump(&RouteNetlinkMessage::GetRule(rule), other)
                .map_err(|source| Error::Kernel { what: "list rules".into(), source })?;
            if !others.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a rule may have a connection without source, mark and device look elsewhere than in `local`, `main` and `default`.
fn leads_elsewhere(rule: &RuleMessage) -> bool {
    let usual = u32::from(libc::RT_TABLE_DEFAULT)..=u32::from(libc::RT_TABLE_LOCAL);
    let selects = rule.attributes.iter().any(|attribute| match attribute {
        RuleAttribute::Priority(_) | RuleAttribute::Protocol(_) => false,
        RuleAttribute::Table(table) => !usual.contains(table),
        RuleAttribute::SuppressPrefixLen(length) => *length != u32::MAX,
        RuleAttribute::SuppressIfGroup(group) => *group != u32::MAX,
        _ => true,
    });
    let is_of_vrf = rule.attributes.iter().any(|attribute| matches!(attribute, RuleAttribute::L3MDev(true)));
    let is_plain = rule.header.action == RuleAction::ToTable && rule.header.tos == 0 && !selects;
    !(is_plain || is_of_vrf || test_address::of_rule(rule).is_some())
}

#[cfg(test)]
mod tests {
    use crate::link::{LookupWatch, testing::in_namespace};

    /// Runs `ip` in the namespace of this thread.
    fn ip(line: &str) {
        let done = std::process::Command::new("ip").args(line.split(' ')).status().unwrap();
        assert!(done.success(), "{line}");
    }

    #[test]
    fn rules_that_lead_elsewhere_are_noticed() {
        in_namespace(|links| async move {
            let mut watch = LookupWatch::open().unwrap();
            assert!(!links.has_other_rules().unwrap());
            for rule in [
                "rule add fwmark 1 lookup 100",
                "rule add suppress_prefixlength 0 lookup main",
                "-6 rule add to 2001:db8::/32 lookup 100",
                "rule add uidrange 1-2 lookup main",
                "rule add prohibit",
            ] {
                ip(rule);
                watch.changed().await.unwrap();
                assert!(links.has_other_rules().unwrap(), "{rule}");
                ip(&rule.replace("rule add", "rule del"));
                assert!(!links.has_other_rules().unwrap(), "{rule}");
            }
            // Those of test addresses are for their packets alone.
            ip("link set lo up");
            links.add_test_route(1, "10.0.0.1".parse().unwrap(), 24).await.unwrap();
            assert!(!links.has_other_rules().unwrap());
        });
    }
}
