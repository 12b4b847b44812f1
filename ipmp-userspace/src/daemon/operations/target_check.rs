//! Whether a host can be a target of a group.

use std::net::IpAddr;

use super::refusals::{interface_name, kernel, no_such_group};
use crate::{
    control::{
        DataAddress,
        address::Error as AddressError,
        request::{Refused, reason},
    },
    core::{member::Member, probe::ProbeSource},
    daemon::manager::Manager,
    types::{
        Family,
        network::{first_of, is_in},
    },
};

/// Refuses targets that are addresses of this host, or not on the link of the group.
pub async fn check(manager: &Manager, group: &str, addresses: &[IpAddr]) -> Result<(), Refused> {
    let known = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let present = manager.links.addresses().map_err(|error| kernel(&error))?;
    let bad = |text: String| Err(Refused::new(reason::BAD_TARGET, text));
    for &address in addresses {
        if let Some((index, _)) = present.iter().find(|(_, own)| own.ip == address) {
            let on = interface_name(&manager.links, *index).await;
            return bad(format!("{address} is this host's own address, on {on}: name another host"));
        }
        let own = present.iter().filter(|(index, _)| known.is_own_device(*index)).map(|(_, own)| own);
        let own = own.filter(|own| own.ip.is_ipv4() == address.is_ipv4());
        let subnets: Vec<(IpAddr, u8)> = own.map(|own| (own.ip, own.prefix)).collect();
        // The operator may add the targets before the addresses.
        if subnets.is_empty() {
            continue;
        }
        let Some((_, prefix)) = subnets.iter().find(|subnet| is_in(address, **subnet)) else {
            let mut subnets: Vec<String> = subnets.iter().map(|subnet| subnet_of(*subnet)).collect();
            subnets.sort_unstable();
            subnets.dedup();
            return bad(format!(
                "{address} is not on the link of {group}, which reaches {}: name a host there, or give {group} or its \
                 members addresses of that subnet first",
                subnets.join(" and ")
            ));
        };
        if let Err(error @ AddressError::OfNetwork { .. }) = DataAddress::new(address, *prefix) {
            return bad(error.to_string());
        }
    }
    Ok(())
}

/// A note on those of these targets that no member can probe.
pub fn note_not_probed(manager: &Manager, group: &str, addresses: &[IpAddr]) -> Option<String> {
    let known = manager.groups.get(group)?;
    let policy = known.core.settings().probe;
    let members = known.core.members();
    let missed = addresses.iter().filter(|&&address| {
        let family = Family::of(address);
        let means = |member: &Member| ProbeSource::of(family, member.test_address(family), policy);
        !members.iter().any(|member| means(member).is_some_and(|means| means.reaches(family, address)))
    });
    let missed: Vec<&IpAddr> = missed.collect();
    if members.is_empty() || missed.is_empty() {
        return None;
    }
    let list: Vec<String> = missed.iter().map(ToString::to_string).collect();
    let by = if missed.iter().all(|address| address.is_ipv4()) { "arp" } else { "auto" };
    Some(format!(
        "no member probes {} yet: give members test addresses in the same subnet (`ipmpctl test-address add`), or probe \
         without any by `ipmpctl set {group} probe={by}`",
        list.join(", ")
    ))
}

/// The subnet of an address.
pub fn subnet_of((address, prefix): (IpAddr, u8)) -> String {
    format!("{}/{prefix}", first_of(address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnet_is_named_by_its_first_address() {
        for (address, prefix, subnet) in [
            ("192.168.178.200", 24, "192.168.178.0/24"),
            ("192.168.178.200", 32, "192.168.178.200/32"),
            ("10.1.2.3", 0, "0.0.0.0/0"),
            ("2001:db8::21", 64, "2001:db8::/64"),
            ("2001:db8::21", 0, "::/0"),
        ] {
            assert_eq!(subnet_of((address.parse().unwrap(), prefix)), subnet);
        }
    }
}
