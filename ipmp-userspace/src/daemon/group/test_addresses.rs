//! Members' test addresses: those that the operator declares, by address or as `dhcp`.
//!
//! The daemon does not follow single changes of a member's addresses. Each change makes it compare all addresses of the
//! member with what they should be ([`reconcile()`]): a configured address that is missing is added (`put_back`), a declared one that another
//! program added is kept for probes ([`Address::for_tests`]), routes through the member are deleted, and the result is
//! reported to the state machine. An address that is not declared stays as it is, and is logged.
//!
//! | the member has, in a family | reported to the state machine |
//! |---|---|
//! | an address that is ready: the configured one, else the one before, else the first | this address |
//! | none, and one is configured: not ready yet, the interface is down, or `dhcp` | one is awaited |
//! | none | it has none |

mod put_back;
mod reconcile;
mod restore;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

pub use reconcile::{reconcile, reconcile_interface, remove_route};
pub use restore::{restore, restore_saved};
use rtnetlink::packet_route::link::LinkFlags;
pub use rules::rule_removed;

use super::{Context, MemberDevice, RunningGroup, addresses};
use crate::{
    control::TestAddressSpec,
    core::{Time, probe::TestAddress},
    daemon::state_file::{self, SavedTestAddresses, StateFile},
    datapath,
    link::{self, Address},
    types::{Family, network::is_in},
};

/// Test addresses of the members, by number.
#[derive(Debug, Default)]
pub struct GroupTestAddresses {
    members: BTreeMap<u8, MemberTestAddresses>,
    /// Whether the group interface uses its own IPv6 addresses alone as source addresses.
    own_sources: bool,
}

/// Test addresses of a member, as last seen.
#[derive(Clone, Debug, Default)]
struct MemberTestAddresses {
    /// As last reported to the state machine, by family.
    reported: [TestAddress; 2],
    /// Whether the interface was up.
    up: bool,
    /// Configured addresses that were present since the interface came up. If one is missing, another program removed it.
    seen: BTreeSet<IpAddr>,
    /// What other programs did to them.
    removals: BTreeMap<IpAddr, put_back::Removals>,
    /// What other programs did to the routing rules of addresses.
    rule_removals: BTreeMap<Ipv4Addr, put_back::Removals>,
    /// Duplicates that were logged.
    duplicates: BTreeSet<IpAddr>,
    /// Addresses that are not declared, and were logged.
    undeclared: BTreeSet<IpAddr>,
    /// What it was like when its routes were read and removed.
    without_routes: WithoutRoutes,
}

/// Routes through a member were removed in families in which it has, or awaits, a test address. Further ones are reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct WithoutRoutes {
    /// By family.
    is_tested: [bool; 2],
    /// Its addresses: the kernel adds routes with each.
    addresses: BTreeSet<(IpAddr, u8)>,
}

impl MemberTestAddresses {
    /// What is due and still missing is tried again later, not at once.
    fn postpone(&mut self, time: Time) {
        let removals = self.removals.values_mut().chain(self.rule_removals.values_mut());
        removals.for_each(|removals| removals.postpone(time));
    }

    fn next(&self) -> Option<Time> {
        self.removals.values().chain(self.rule_removals.values()).filter_map(put_back::Removals::due).min()
    }
}

impl GroupTestAddresses {
    /// A member of an earlier daemon: its configured addresses were present.
    pub fn adopt(&mut self, number: u8, saved: &SavedTestAddresses) {
        let named = saved.named.iter().filter_map(|named| named.address());
        let seen = named.map(|address| address.address()).collect();
        self.members.insert(number, MemberTestAddresses { seen, ..MemberTestAddresses::default() });
    }

    /// A member has left.
    pub fn member_left(&mut self, number: u8) {
        self.members.remove(&number);
    }

    /// The operator removes this address: that it is missing then is no change by another program.
    pub fn forget(&mut self, number: u8, ip: IpAddr) {
        if let Some(member) = self.members.get_mut(&number) {
            member.seen.remove(&ip);
            member.removals.remove(&ip);
            member.rule_removals.retain(|other, _| IpAddr::V4(*other) != ip);
        }
    }

    /// Whether the group interface uses its own IPv6 addresses alone as source addresses.
    pub fn has_own_sources(&self) -> bool {
        self.own_sources
    }

    /// When an address that another program removed is added again.
    pub fn next(&self) -> Option<Time> {
        self.members.values().filter_map(MemberTestAddresses::next).min()
    }

    /// The members of which an address is due by this time.
    pub fn due(&self, time: Time) -> Vec<u8> {
        let is_due = |member: &MemberTestAddresses| member.next().is_some_and(|next| next <= time);
        self.members.iter().filter(|(_, member)| is_due(member)).map(|(number, _)| *number).collect()
    }

    /// Why declared addresses, or their routing rules, are missing on a member, a sentence each.
    pub fn conflicts(&self, number: u8, name: &str) -> Vec<String> {
        let Some(member) = self.members.get(&number) else { return Vec::new() };
        let addresses = member.removals.iter().filter_map(|(address, removals)| {
            removals.message(&format!("test address {address} is missing on {name}"))
        });
        let rules = member.rule_removals.iter().filter_map(|(address, removals)| {
            removals.message(&format!("the routing rule of test address {address} on {name} is missing"))
        });
        addresses.chain(rules).collect()
    }

    /// Whether the interface of a member was up is not what these flags say.
    pub fn is_up_changed(&self, number: u8, flags: LinkFlags) -> bool {
        self.members.get(&number).is_some_and(|member| member.up != flags.contains(LinkFlags::Up))
    }

    fn member(&mut self, number: u8) -> &mut MemberTestAddresses {
        self.members.entry(number).or_default()
    }
}

/// Cause the test addresses of a member cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a change.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// The datapath.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// The state file.
    #[error(transparent)]
    State(#[from] state_file::Error),
}

/// The record of a member's test addresses.
pub fn saved<'a>(file: &'a StateFile, group: &str, member: &str) -> Option<&'a SavedTestAddresses> {
    file.member(group, member).map(|member| &member.test_addresses)
}

fn saved_mut<'a>(file: &'a mut StateFile, group: &str, member: &str) -> Option<&'a mut SavedTestAddresses> {
    file.member_mut(group, member).map(|member| &mut member.test_addresses)
}

/// Configures test addresses of a member and adds them. On an error nothing has changed.
pub async fn configure(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    number: u8,
    configured: &[TestAddressSpec],
) -> Result<(), Error> {
    let Some(member) = group.members.get(&number) else {
        return configure_absent(group, context, number, configured);
    };
    let (name, ifindex) = (member.name.clone(), member.ifindex);
    let Some(saved) = saved_mut(context.file, group.name(), &name) else { return Ok(()) };
    let before = saved.clone();
    saved.named.extend(configured);
    let mut result = context.file.save().map_err(Error::from);
    for address in configured {
        if result.is_ok() {
            result = add(group, context, number, *address).await;
        }
    }
    if result.is_err() {
        if let Some(saved) = saved_mut(context.file, group.name(), &name) {
            let added = saved.added.iter().filter(|ip| !before.added.contains(ip)).copied().collect();
            let added = SavedTestAddresses { added, ..SavedTestAddresses::default() };
            *saved = before;
            restore_saved(&added, context.links, &name, ifindex).await;
        }
        context.file.save_or_log();
    }
    reconcile(group, context, number).await;
    result
}

/// Configures test addresses of an absent member, which are added when it returns.
fn configure_absent(
    group: &RunningGroup,
    context: &mut Context<'_>,
    number: u8,
    configured: &[TestAddressSpec],
) -> Result<(), Error> {
    let saved = context.file.state.groups.get_mut(group.name());
    if let Some(saved) = saved.and_then(|saved| saved.members.get_mut(&number)) {
        saved.test_addresses.named.extend(configured);
    }
    Ok(context.file.save()?)
}

/// Adds a configured address to a member that does not have it.
async fn add(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    number: u8,
    address: TestAddressSpec,
) -> Result<(), Error> {
    let (Some(address), Some(member)) = (address.address(), group.members.get(&number)) else {
        return Ok(());
    };
    let (name, ifindex, ip) = (member.name.clone(), member.ifindex, address.address());
    if context.links.addresses_of(ifindex)?.iter().any(|known| known.ip == ip) {
        return Ok(());
    }
    if let Some(saved) = saved_mut(context.file, group.name(), &name)
        && !saved.added.contains(&ip)
    {
        saved.added.push(ip);
        context.file.save()?;
    }
    // Before duplicate address detection: its replies are this member's.
    addresses::add_own(group, number, ip, address.prefix())?;
    let wanted = Address::new(ip, address.prefix()).for_tests();
    Ok(context.links.add_address(ifindex, &name, &wanted).await?)
}

/// The members whose test addresses may change with data addresses: one may have its subnet for itself now, or no longer.
pub fn members_affected_by(group: &RunningGroup, file: &StateFile, ips: &BTreeSet<IpAddr>) -> Vec<u8> {
    let is_affected = |member: &MemberDevice| {
        let saved = saved(file, group.name(), &member.name);
        member.addresses.keys().any(|ip| ips.contains(ip))
            || saved.is_some_and(|saved| {
                member.addresses.iter().any(|(ip, prefix)| match ip {
                    IpAddr::V4(v4) if saved.is_candidate(*ip) => {
                        is_own_subnet(group, *v4, *prefix) != saved.routed.contains(v4)
                    }
                    _ => false,
                })
            })
    };
    let affected = group.members.iter().filter(|(_, member)| is_affected(member));
    affected.map(|(number, _)| *number).collect()
}

/// Whether the subnet of a member's address contains no data address.
fn is_own_subnet(group: &RunningGroup, ip: Ipv4Addr, prefix: u8) -> bool {
    let contains = |(data, bits): (IpAddr, u8)| bits <= prefix && is_in(ip.into(), (data, bits));
    prefix < 32 && !group.addresses.iter().any(contains)
}

/// The families in which an adopted member with these addresses has, or awaits, a test address.
pub fn probed(saved: &SavedTestAddresses, addresses: &[Address]) -> [bool; 2] {
    let candidates: Vec<Address> =
        addresses.iter().filter(|address| saved.is_candidate(address.ip)).cloned().collect();
    Family::ALL.map(|family| choose(family, saved, TestAddress::None, &candidates) != TestAddress::None)
}

/// The test address of a family.
fn choose(
    family: Family,
    saved: &SavedTestAddresses,
    before: TestAddress,
    candidates: &[Address],
) -> TestAddress {
    let of_family = || candidates.iter().filter(|address| Family::of(address.ip) == family);
    let ready = || of_family().filter(|address| address.is_ready());
    let named = ready().find(|address| saved.is_named(address.ip));
    let is_before = |ip: IpAddr| matches!(before, TestAddress::Is { address, .. } if address == ip);
    let chosen = named.or_else(|| ready().find(|address| is_before(address.ip))).or_else(|| ready().next());
    let is_rejected = of_family().any(|address| saved.is_named(address.ip) && address.is_duplicate());
    match chosen {
        Some(address) => TestAddress::Is { address: address.ip, prefix: address.prefix },
        None if saved.named_in(family).is_some() && !is_rejected => TestAddress::Awaited,
        None => TestAddress::None,
    }
}
