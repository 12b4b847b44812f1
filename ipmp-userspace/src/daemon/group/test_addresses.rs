//! Members' test addresses: those that the operator names, and those that somebody else puts on a member.
//!
//! What happens to a member's addresses is not followed event by event. Every event makes the daemon look at what the
//! member has now, and bring it in line: a named address that is missing is put there, one that somebody else has put
//! there is kept for probes ([`Address::for_tests`]), routes through the member go, and the state machine is told.
//!
//! | the member has, in a family | the state machine is told |
//! |---|---|
//! | an address that is ready: the named one, else the one before, else the first | it is this one |
//! | none, and one is named: not ready yet, the interface is down, or `dhcp` | one is awaited |
//! | none | it has none |

#[path = "saved_test_addresses.rs"]
mod kept;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use rtnetlink::packet_route::link::LinkFlags;

pub use kept::Kept;

use crate::daemon::{
    event_loop::Engine,
    group::{Group, Member},
    operations::attach::{kernel, no_such_group},
};
use crate::{
    control::{
        TestAddress,
        request::{Refused, reason},
    },
    core::{
        Event, Input,
        probe::{self},
    },
    datapath,
    link::{self, Address, Route, sysctl},
    types::Family,
};

/// What is known of a member's test addresses while the daemon runs.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What the state machine was told last, by family.
    told: [probe::TestAddress; 2],
    /// Whether the interface was up when it was looked at last.
    up: bool,
    /// Named addresses that it has had since it came up: one that is missing now was removed by somebody.
    seen: BTreeSet<IpAddr>,
    /// Addresses that another host was found to have, as far as it has been said.
    duplicates: BTreeSet<IpAddr>,
}

impl Known {
    /// Of a member that an earlier daemon had: what is named was there.
    pub fn adopted(kept: &Kept) -> Self {
        let named = kept.named.iter().filter_map(|named| named.address());
        Self { seen: named.map(|address| address.address()).collect(), ..Self::default() }
    }
}

impl Engine {
    /// Gives a member a test address.
    pub(in crate::daemon) async fn add_test_address(
        &mut self,
        interface: &str,
        address: TestAddress,
    ) -> Result<Vec<String>, Refused> {
        let (group, name, _) = self.member(interface)?;
        if let Some(other) = self.kept(&group, &name).and_then(|kept| kept.named_in(address.family())) {
            let text = if other == address {
                format!("{name} has the test address {address} already")
            } else {
                format!(
                    "{name} has the test address {other} already: remove it first (ipmpctl test-address del {name} {other})"
                )
            };
            return Err(Refused::new(reason::ADDRESS_EXISTS, text));
        }
        self.vet_test_addresses(&[address], Some(&name)).await?;
        self.name_test_addresses(&group, &name, &[address]).await?;
        Ok(Vec::new())
    }

    /// Takes a test address from a member: a named one, or any other that it has.
    pub(in crate::daemon) async fn remove_test_address(
        &mut self,
        interface: &str,
        address: TestAddress,
    ) -> Result<Vec<String>, Refused> {
        let (group, name, _) = self.member(interface)?;
        let ifindex = self.ifindex_of(&group, &name)?;
        let named = self.kept(&group, &name).is_some_and(|kept| kept.named.contains(&address));
        let there = self.links.addresses_of(ifindex).await.map_err(|error| kernel(&error))?;
        let ip = address.address().map(|address| address.address());
        let present = there.iter().find(|address| Some(address.ip) == ip);
        if !named && present.is_none() {
            let text = format!(
                "{name} does not have the test address {address}; `ipmpctl show {name}` lists those it has"
            );
            return Err(Refused::new(reason::NO_SUCH_ADDRESS, text));
        }
        if let Some(present) = present {
            self.links.delete_address(ifindex, &name, present).await.map_err(|error| kernel(&error))?;
        }
        if let Some(kept) = self.kept_mut(&group, &name) {
            kept.named.retain(|other| *other != address);
            kept.put.retain(|other| Some(*other) != ip);
            kept.changed.retain(|other| Some(other.ip) != ip);
        }
        self.save();
        if let (Some(ip), Some(known)) = (ip, self.known_mut(&group, &name)) {
            known.seen.remove(&ip);
        }
        self.examine(ifindex).await;
        Ok(Vec::new())
    }

    /// Refuses test addresses that are on another interface already. On the interface itself they may be.
    pub(in crate::daemon) async fn vet_test_addresses(
        &self,
        addresses: &[TestAddress],
        interface: Option<&str>,
    ) -> Result<(), Refused> {
        let there = self.links.addresses().await.map_err(|error| kernel(&error))?;
        for ip in addresses.iter().filter_map(|address| address.address()).map(|address| address.address()) {
            for (index, _) in there.iter().filter(|(_, other)| other.ip == ip && !other.is_link_local()) {
                let device = self.links.device(*index).await.ok().flatten();
                let on = device.map_or_else(|| format!("interface {index}"), |device| device.name);
                if interface != Some(&on) {
                    let text = format!("{ip} is on {on} already: remove it there first");
                    return Err(Refused::new(reason::ADDRESS_EXISTS, text));
                }
            }
        }
        Ok(())
    }

    /// Names test addresses of a member, and puts them there. On an error it is as it was.
    pub(in crate::daemon) async fn name_test_addresses(
        &mut self,
        group: &str,
        name: &str,
        addresses: &[TestAddress],
    ) -> Result<(), Refused> {
        let ifindex = self.ifindex_of(group, name)?;
        let Some(kept) = self.kept_mut(group, name) else { return Ok(()) };
        let before = kept.clone();
        kept.named.extend(addresses);
        let mut result = self.file.save().map_err(|error| kernel(&error));
        for address in addresses {
            if result.is_ok() {
                result = self.put(group, name, ifindex, *address).await.map_err(|error| kernel(&error));
            }
        }
        if result.is_err() {
            let put = self.kept(group, name).map(|kept| kept.put.clone()).unwrap_or_default();
            let put = put.into_iter().filter(|ip| !before.put.contains(ip)).collect();
            Kept { put, ..Kept::default() }.lift(&self.links, name, ifindex).await;
            if let Some(kept) = self.kept_mut(group, name) {
                *kept = before;
            }
            self.save();
        }
        self.examine(ifindex).await;
        result
    }

    /// Puts a named address on a member that does not have it.
    async fn put(
        &mut self,
        group: &str,
        name: &str,
        ifindex: u32,
        address: TestAddress,
    ) -> Result<(), PutError> {
        let Some(address) = address.address() else { return Ok(()) };
        let there = self.links.addresses_of(ifindex).await?;
        if there.iter().any(|known| known.ip == address.address()) {
            return Ok(());
        }
        if let Some(kept) = self.kept_mut(group, name)
            && !kept.put.contains(&address.address())
        {
            kept.put.push(address.address());
            self.file.save()?;
        }
        // Before the kernel asks whether somebody has it: the answers are this member's.
        if let Some(group) = self.groups.get_mut(group)
            && let Some(number) = group.number_named(name)
        {
            group.own_address_appeared(number, address.address(), address.prefix())?;
        }
        let wanted = Address::new(address.address(), address.prefix()).for_tests();
        Ok(self.links.add_address(ifindex, name, &wanted).await?)
    }

    /// What is kept of a member's test addresses.
    pub(in crate::daemon) fn kept(&self, group: &str, name: &str) -> Option<&Kept> {
        let group = self.file.state.groups.get(group)?;
        group.members.get(name).map(|member| &member.test_addresses)
    }

    fn kept_mut(&mut self, group: &str, name: &str) -> Option<&mut Kept> {
        let group = self.file.state.groups.get_mut(group)?;
        group.members.get_mut(name).map(|member| &mut member.test_addresses)
    }

    fn known_mut(&mut self, group: &str, name: &str) -> Option<&mut Known> {
        let group = self.groups.get_mut(group)?;
        let number = group.number_named(name)?;
        Some(group.tests.entry(number).or_default())
    }

    fn ifindex_of(&self, group: &str, name: &str) -> Result<u32, Refused> {
        let known = self.groups.get(group).ok_or_else(|| no_such_group(group))?;
        let member = known.members.values().find(|member| member.name == name);
        member
            .map(|member| member.ifindex)
            .ok_or_else(|| crate::daemon::operations::attach::no_such_interface(name))
    }

    /// Takes the test addresses from a member, or puts them back as they were, and forgets nothing but that.
    pub(in crate::daemon) async fn lift_test_addresses(&mut self, group: &str, name: &str) {
        let Some(saved) = self.file.state.groups.get(group).and_then(|group| group.members.get(name)) else {
            return;
        };
        saved.test_addresses.lift(&self.links, name, saved.ifindex).await;
        let lifted = saved.test_addresses != Kept::new(saved.test_addresses.named.clone());
        if lifted && let Some(kept) = self.kept_mut(group, name) {
            *kept = Kept::new(std::mem::take(&mut kept.named));
            self.save();
        }
        // Nobody has removed what is missing now.
        if let Some(known) = self.known_mut(group, name) {
            *known = Known { told: known.told, ..Known::default() };
        }
    }

    /// A route has come or gone: it matters if it leads through a member.
    pub(in crate::daemon) async fn member_route_changed(&mut self, route: &Route) {
        let members = self.groups.values().flat_map(|group| group.members.values());
        let used: Vec<u32> =
            members.map(|member| member.ifindex).filter(|index| route.uses(*index)).collect();
        for ifindex in used {
            self.examine(ifindex).await;
        }
    }

    /// A device is as described: it matters of a member that was up and is down, or the other way round.
    pub(in crate::daemon) async fn device_turned(&mut self, ifindex: u32, flags: LinkFlags) {
        let turned = self.groups.values().any(|group| {
            let known = group.number_of(ifindex).and_then(|number| group.tests.get(&number));
            known.is_some_and(|known| known.up != flags.contains(LinkFlags::Up))
        });
        if turned {
            self.examine(ifindex).await;
        }
    }

    /// An address of a group interface has come or gone: a test address may have its subnet for itself now, or no longer.
    pub(in crate::daemon) async fn group_address_changed(&mut self, ifindex: u32, ip: IpAddr) {
        let Some(group) = self.groups.values().find(|group| group.interface.ifindex == ifindex) else {
            return;
        };
        let matters = |member: &&Member| {
            let kept = self.kept(group.name(), &member.name);
            member.addresses.contains_key(&ip)
                || kept.is_some_and(|kept| {
                    member.addresses.iter().any(|(ip, prefix)| match ip {
                        IpAddr::V4(v4) if kept.is_candidate(*ip) => {
                            group.is_own_subnet(*v4, *prefix) != kept.routed.contains(v4)
                        }
                        _ => false,
                    })
                })
        };
        let members: Vec<u32> = group.members.values().filter(matters).map(|member| member.ifindex).collect();
        for ifindex in members {
            self.examine(ifindex).await;
        }
    }

    /// Looks at what a member has for itself, brings it in line, and tells the state machine.
    pub(in crate::daemon) async fn examine(&mut self, ifindex: u32) {
        let found = self.groups.values().find_map(|group| {
            let number = group.number_of(ifindex).filter(|number| group.core.member(*number).is_some())?;
            Some((group.name().to_owned(), number, group.members.get(&number)?.name.clone()))
        });
        let Some((group, number, name)) = found else { return };
        match self.try_examine(&group, number, &name, ifindex).await {
            // Its removal is told by another event.
            Err(PutError::Link(error)) if error.is_gone() => log::debug!(group = group.as_str(); "{error}"),
            Err(error) => log::error!(group = group.as_str(), member = name.as_str(); "{error}"),
            Ok(()) => {}
        }
    }

    async fn try_examine(
        &mut self,
        group: &str,
        number: u8,
        name: &str,
        ifindex: u32,
    ) -> Result<(), PutError> {
        let Some(device) = self.links.device(ifindex).await? else { return Ok(()) };
        let up = device.flags.contains(LinkFlags::Up);
        let there = self.keep_named(group, number, name, ifindex, up).await?;
        let there = self.keep_for_tests(group, name, ifindex, there).await?;
        let Some(known) = self.groups.get_mut(group) else { return Ok(()) };
        known.own_addresses_are(number, &there)?;
        self.choose_sources(group)?;
        let candidates: Vec<Address> = there
            .iter()
            .filter(|address| self.kept(group, name).is_some_and(|kept| kept.is_candidate(address.ip)))
            .filter(|address| !self.groups[group].has_address(address.ip))
            .cloned()
            .collect();
        self.route_own_subnets(group, name, ifindex, &candidates).await?;
        self.strip_routes(group, name, ifindex, &candidates).await?;
        self.tell_test_addresses(group, number, &candidates).await;
        Ok(())
    }

    /// Puts named addresses back that went with the interface's being up, forgets those that somebody removed, and returns
    /// all that the member has then.
    async fn keep_named(
        &mut self,
        group: &str,
        number: u8,
        name: &str,
        ifindex: u32,
        up: bool,
    ) -> Result<Vec<Address>, PutError> {
        let there = self.links.addresses_of(ifindex).await?;
        let mut has_put = false;
        let named = self.kept(group, name).map(|kept| kept.named.clone()).unwrap_or_default();
        for address in named {
            let Some(ip) = address.address().map(|address| address.address()) else { continue };
            let present = there.iter().any(|address| address.ip == ip);
            let Some(known) = self.groups.get_mut(group).map(|group| group.tests.entry(number).or_default())
            else {
                return Ok(there);
            };
            if !up {
                known.seen.remove(&ip);
            } else if present {
                known.seen.insert(ip);
            } else if known.seen.remove(&ip) {
                if let Some(kept) = self.kept_mut(group, name) {
                    kept.named.retain(|other| *other != address);
                    kept.put.retain(|other| *other != ip);
                }
                self.save();
            } else {
                known.seen.insert(ip);
                self.put(group, name, ifindex, address).await?;
                has_put = true;
            }
        }
        if let Some(known) = self.groups.get_mut(group).map(|group| group.tests.entry(number).or_default()) {
            known.up = up;
        }
        if has_put { Ok(self.links.addresses_of(ifindex).await?) } else { Ok(there) }
    }

    /// Keeps for probes what somebody else has put on a member, and returns all that it has then.
    async fn keep_for_tests(
        &mut self,
        group: &str,
        name: &str,
        ifindex: u32,
        there: Vec<Address>,
    ) -> Result<Vec<Address>, PutError> {
        let Some(kept) = self.kept(group, name) else { return Ok(there) };
        let has_address = |ip| self.groups.get(group).is_some_and(|group| group.has_address(ip));
        let open: Vec<Address> = there
            .iter()
            .filter(|address| kept.is_candidate(address.ip) && !address.is_for_tests())
            .filter(|address| !address.is_duplicate() && !has_address(address.ip))
            .cloned()
            .collect();
        if open.is_empty() {
            return Ok(there);
        }
        if let Some(kept) = self.kept_mut(group, name) {
            for address in open.iter().filter(|address| !kept.put.contains(&address.ip)).collect::<Vec<_>>() {
                kept.changed.retain(|other| (other.ip, other.prefix) != (address.ip, address.prefix));
                kept.changed.push(address.clone());
            }
            kept.changed.retain(|other| there.iter().any(|address| address.ip == other.ip));
        }
        self.file.save()?;
        let (v4, v6): (Vec<_>, Vec<_>) = open.iter().partition(|address| address.ip.is_ipv4());
        // One network has one scope: all go before any comes back.
        for address in &v4 {
            self.links.delete_address(ifindex, name, address).await?;
        }
        for address in &v4 {
            self.links.add_address(ifindex, name, &address.for_tests()).await?;
        }
        for address in &v6 {
            self.links.change_address(ifindex, name, address, &address.for_tests()).await?;
        }
        for address in open {
            let line = Event::TestAddressReserved { member: name.to_owned(), address: address.ip };
            self.teller.say(Some(group), &line);
        }
        Ok(self.links.addresses_of(ifindex).await?)
    }

    /// IPv4 test addresses in a subnet to which no data address leads are led there by themselves: without a route to the
    /// sender the kernel answers no ARP request.
    async fn route_own_subnets(
        &mut self,
        group: &str,
        name: &str,
        ifindex: u32,
        candidates: &[Address],
    ) -> Result<(), PutError> {
        let Some(known) = self.groups.get(group) else { return Ok(()) };
        let wanted: Vec<(Ipv4Addr, u8)> = candidates
            .iter()
            .filter_map(|address| match address.ip {
                IpAddr::V4(v4) => Some((v4, address.prefix)),
                IpAddr::V6(_) => None,
            })
            .filter(|(ip, prefix)| known.is_own_subnet(*ip, *prefix))
            .collect();
        let Some(kept) = self.kept_mut(group, name) else { return Ok(()) };
        let gone: Vec<Ipv4Addr> =
            kept.routed.iter().copied().filter(|ip| wanted.iter().all(|(other, _)| other != ip)).collect();
        let news = wanted.iter().any(|(ip, _)| !kept.routed.contains(ip));
        if news {
            kept.routed.extend(wanted.iter().map(|(ip, _)| *ip));
            kept.routed.sort_unstable();
            kept.routed.dedup();
            self.file.save()?;
        }
        for ip in &gone {
            self.links.delete_test_route(ifindex, *ip).await?;
        }
        if !gone.is_empty() {
            if let Some(kept) = self.kept_mut(group, name) {
                kept.routed.retain(|ip| !gone.contains(ip));
            }
            self.file.save()?;
        }
        // Those of a subnet that is left share their table with those of one that is not.
        for (ip, prefix) in wanted {
            self.links.add_test_route(ifindex, ip, prefix).await?;
        }
        Ok(())
    }

    /// Removes the routes through a member in the families in which it has a test address, or awaits one.
    async fn strip_routes(
        &mut self,
        group: &str,
        name: &str,
        ifindex: u32,
        candidates: &[Address],
    ) -> Result<(), PutError> {
        let named = |family| self.kept(group, name).is_some_and(|kept| kept.named_in(family).is_some());
        let tested = Family::ALL
            .map(|family| named(family) || candidates.iter().any(|address| Family::of(address.ip) == family));
        if tested == [false; 2] {
            return Ok(());
        }
        for route in self.links.routes_by(ifindex).await? {
            let family = if route.is_ipv4() { Family::V4 } else { Family::V6 };
            if !tested[family as usize] || route.has_other_hops(ifindex) {
                continue;
            }
            self.links.delete_route(&route.through(ifindex, ifindex)).await?;
            // Those of the kernel come and go with its addresses.
            if !route.is_of_kernel() {
                let line = Event::RouteRemoved {
                    member: name.to_owned(),
                    group: group.to_owned(),
                    route: route.to_string(),
                };
                self.teller.say(Some(group), &line);
            }
        }
        Ok(())
    }

    /// Tells the state machine what is new.
    async fn tell_test_addresses(&mut self, group: &str, number: u8, candidates: &[Address]) {
        let Some(name) = self.groups.get(group).and_then(|group| group.members.get(&number)) else { return };
        let name = name.name.clone();
        let kept = self.kept(group, &name).cloned().unwrap_or_default();
        let (groups, mut hands) = self.with_hands();
        let Some(group) = groups.get_mut(group) else { return };
        let known = group.tests.entry(number).or_default();
        let before = known.told;
        let duplicates: BTreeSet<IpAddr> =
            candidates.iter().filter(|address| address.is_duplicate()).map(|address| address.ip).collect();
        let found: Vec<IpAddr> = duplicates.difference(&known.duplicates).copied().collect();
        known.duplicates = duplicates;
        let now = Family::ALL.map(|family| choose(family, &kept, before[family as usize], candidates));
        known.told = now;
        let member = || name.clone();
        for address in found {
            let line = Event::TestAddressDuplicate { member: member(), address };
            hands.teller.say(Some(group.name()), &line);
        }
        for family in Family::ALL {
            let (before, address) = (before[family as usize], now[family as usize]);
            if before == address {
                continue;
            }
            let ip = |address| match address {
                probe::TestAddress::Is { address, .. } => Some(address),
                _ => None,
            };
            if ip(before) != ip(address) {
                for line in [
                    ip(before).map(|address| Event::TestAddressRemoved { member: member(), address }),
                    ip(address).map(|address| Event::TestAddressReady { member: member(), address }),
                ]
                .into_iter()
                .flatten()
                {
                    hands.teller.say(Some(group.name()), &line);
                }
            }
            group.tell(&mut hands, Input::TestAddress { member: number, family, address }).await;
        }
    }

    /// While a member of a group has an IPv6 address for itself, IPv6 packets of the group are sent from the group's own
    /// addresses alone, where the sender has not chosen one.
    fn choose_sources(&mut self, group: &str) -> Result<(), PutError> {
        let Some(group) = self.groups.get_mut(group) else { return Ok(()) };
        let own = |ip: &IpAddr| {
            matches!(ip, IpAddr::V6(v6) if !v6.is_unicast_link_local()) && !group.has_address(*ip)
        };
        let only = group.members.values().any(|member| member.addresses.keys().any(own));
        if group.own_sources != only {
            sysctl::set_own_sources(&group.interface.name, only)?;
            group.own_sources = only;
        }
        Ok(())
    }
}

impl Group {
    /// Whether no data address leads to the subnet of a member's address.
    fn is_own_subnet(&self, ip: Ipv4Addr, prefix: u8) -> bool {
        let leads = |(data, bits): (IpAddr, u8)| bits <= prefix && probe::same_subnet(data, ip.into(), bits);
        prefix < 32 && !self.addresses().any(leads)
    }

    /// What a member has for itself now.
    fn own_addresses_are(&mut self, number: u8, there: &[Address]) -> Result<(), datapath::Error> {
        let Some(member) = self.members.get(&number) else { return Ok(()) };
        let before = member.addresses.clone();
        for (ip, _) in before.iter().filter(|(ip, _)| there.iter().all(|address| address.ip != **ip)) {
            self.own_address_went(number, *ip)?;
        }
        for address in there.iter().filter(|address| before.get(&address.ip) != Some(&address.prefix)) {
            self.own_address_appeared(number, address.ip, address.prefix)?;
        }
        Ok(())
    }
}

/// The families in which a member of an earlier daemon is probed from an address, or is to be: it has these addresses.
pub(in crate::daemon) fn probed(kept: &Kept, addresses: &[Address]) -> [bool; 2] {
    let candidates: Vec<Address> =
        addresses.iter().filter(|address| kept.is_candidate(address.ip)).cloned().collect();
    Family::ALL
        .map(|family| choose(family, kept, probe::TestAddress::None, &candidates) != probe::TestAddress::None)
}

/// What the state machine is to be told of a family.
fn choose(
    family: Family,
    kept: &Kept,
    before: probe::TestAddress,
    candidates: &[Address],
) -> probe::TestAddress {
    let of_family = || candidates.iter().filter(|address| Family::of(address.ip) == family);
    let ready = || of_family().filter(|address| address.is_ready());
    let named = ready().find(|address| kept.names(address.ip));
    let is_before = |ip: IpAddr| matches!(before, probe::TestAddress::Is { address, .. } if address == ip);
    let chosen = named.or_else(|| ready().find(|address| is_before(address.ip))).or_else(|| ready().next());
    let refused = of_family().any(|address| kept.names(address.ip) && address.is_duplicate());
    match chosen {
        Some(address) => probe::TestAddress::Is { address: address.ip, prefix: address.prefix },
        None if kept.named_in(family).is_some() && !refused => probe::TestAddress::Awaited,
        None => probe::TestAddress::None,
    }
}

/// Why a member's test addresses are not as they should be.
#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    #[error(transparent)]
    State(#[from] crate::daemon::state_file::Error),
}
