//! What must be known of a member's test addresses to take them away, or to put them back as they were.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{
    control::TestAddress,
    link::{Address, Links},
    types::Family,
};

/// A member's part of the state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The test addresses that the operator has named, one a family.
    pub named: Vec<TestAddress>,
    /// Those that we have put on the member.
    pub put: Vec<IpAddr>,
    /// Those that somebody else has put there, as they were before we changed them.
    pub changed: Vec<Address>,
    /// Those whose packets are led to their subnet by a route of their own.
    pub routed: Vec<Ipv4Addr>,
}

impl Kept {
    /// With these names, and nothing done yet.
    pub fn new(named: Vec<TestAddress>) -> Self {
        Self { named, ..Self::default() }
    }

    /// What is named in a family.
    pub fn named_in(&self, family: Family) -> Option<TestAddress> {
        self.named.iter().copied().find(|named| named.family() == family)
    }

    /// Whether an address is named.
    pub fn names(&self, ip: IpAddr) -> bool {
        self.named.iter().any(|named| named.address().is_some_and(|address| address.address() == ip))
    }

    /// Whether an address of the member can be its test address: a link-local one only if it is named.
    pub fn is_candidate(&self, ip: IpAddr) -> bool {
        let link_local = match ip {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        self.names(ip) || !(link_local || ip.is_loopback())
    }

    /// Takes what is ours from a member, and puts back what is not as it was. What the kernel refuses is logged.
    pub async fn lift(&self, links: &Links, member: &str, ifindex: u32) {
        for ip in &self.routed {
            if let Err(error) = links.delete_test_route(ifindex, *ip).await {
                log::warn!(member = member; "{error}; do it by hand");
            }
        }
        if self.put.is_empty() && self.changed.is_empty() {
            return;
        }
        if let Err(error) = self.try_lift(links, member, ifindex).await
            && !error.is_gone()
        {
            log::error!(member = member; "{error}; do it by hand");
        }
    }

    async fn try_lift(&self, links: &Links, member: &str, ifindex: u32) -> Result<(), crate::link::Error> {
        let there = links.addresses_of(ifindex).await?;
        let mut back = Vec::new();
        for address in &there {
            if self.put.contains(&address.ip) {
                links.delete_address(ifindex, member, address).await?;
                continue;
            }
            let same = |before: &&Address| (before.ip, before.prefix) == (address.ip, address.prefix);
            let Some(before) = self.changed.iter().find(same) else { continue };
            let before = address.as_before(before);
            if address.ip.is_ipv6() {
                links.change_address(ifindex, member, address, &before).await?;
            } else {
                // One network has one scope: all go before any comes back.
                links.delete_address(ifindex, member, address).await?;
                back.push(before);
            }
        }
        for before in &back {
            links.add_address(ifindex, member, before).await?;
        }
        Ok(())
    }
}
