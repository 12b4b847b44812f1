//! From what a line wants, on a host as it is, to requests for the daemon. Nothing is done here.

use std::{fmt::Write as _, net::IpAddr};

use super::{
    classic,
    grammar::{Change, Logical},
    host::Host,
};
use crate::{
    control::{
        DataAddress, LastMember, Request, Setting, TestAddressSpec, name,
        report::{AddressReport, GroupReport, MemberReport},
    },
    link::{Address, Device},
};

/// A change with its addresses resolved.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The line.
    pub change: Change,
    /// The address of the interface.
    pub base: Option<DataAddress>,
    /// The addresses of each `addif`.
    pub added: Vec<DataAddress>,
    /// The addresses of each `removeif`.
    pub removed: Vec<IpAddr>,
}

impl Wish {
    /// The addresses that are no test addresses.
    pub fn data_addresses(&self) -> Vec<DataAddress> {
        let base = self.base.iter().map(|address| (address, &self.change.base));
        let all = base.chain(self.added.iter().zip(&self.change.added));
        all.filter(|(_, line)| !line.is_test()).map(|(address, _)| *address).collect()
    }
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A request to the daemon.
    Request(Request),
    /// Set an interface up or down.
    Link {
        /// Its name.
        interface: String,
        /// Up.
        up: bool,
    },
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each step, and the request that undoes it if a later step fails.
    pub steps: Vec<(Action, Option<Request>)>,
    /// What is printed after all steps.
    pub printed: String,
}

/// Why a line is not possible on this host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    #[error("cannot create IPMP interface {0}: Interface already exists")]
    Exists(String),
    #[error("cannot unplumb {0}: IPMP group is not empty: unplumb {1} first")]
    NotEmpty(String, String),
    #[error("cannot unplumb {0}: Interface does not exist")]
    UnplumbMissing(String),
    #[error(
        "cannot unplumb {0}: it has addresses that ipmp-ifconfig did not set: {1}; remove them first (ip address flush dev {0})"
    )]
    NotOurs(String, String),
    #[error("cannot unplumb one family of {0}: an interface of Linux has both; leave out inet6")]
    OneFamily(String),
    #[error("{0}: no such interface")]
    NoInterface(String),
    #[error("{0}: no such logical interface; ifconfig -a lists those there are")]
    NoLogical(String),
    #[error(
        "{0} is in no group: add `group NAME` to the line, or use ip address for an interface outside groups"
    )]
    NoGroup(String),
    #[error("{word} is not possible on an IPMP interface: {group} is one; use it on its members")]
    OnIpmp { word: &'static str, group: String },
    #[error("{0} cannot get another group name: it is {1} until the group is removed")]
    Rename(String, String),
    #[error("{0} is an IPMP interface and cannot leave its group: unplumb it")]
    IpmpLeaves(String),
    #[error("an address cannot be down on Linux: remove it (removeif), or set its interface down")]
    AddressDown,
    #[error("the addresses of {0} are those of {1}: use {1}:NUMBER")]
    LogicalOfMember(String, String),
    #[error("removeif: cannot remove interface: {0} does not have {1}")]
    NoAddress(String, IpAddr),
    #[error("{0} is a test address of {1} and cannot become a data address: remove it first (removeif)")]
    TestBecomesData(IpAddr, String),
}

impl Plan {
    fn request(&mut self, request: Request, undo: Option<Request>) {
        self.steps.push((Action::Request(request), undo));
    }

    fn link(&mut self, device: Option<&Device>, up: Option<bool>) {
        let is_up = |device: &Device| device.flags.contains(rtnetlink::packet_route::link::LinkFlags::Up);
        if let (Some(device), Some(up)) = (device, up)
            && is_up(device) != up
        {
            self.steps.push((Action::Link { interface: device.name.clone(), up }, None));
        }
    }

    fn created(&mut self, interface: &str, number: impl std::fmt::Display) {
        let _ = writeln!(self.printed, "Created new logical interface {interface}:{number}");
    }
}

/// Plans a change.
pub fn plan(wish: &Wish, host: &Host) -> Result<Plan, Error> {
    let name = &wish.change.interface.name;
    let is_down = |line: &Logical| line.address.is_some() && line.up == Some(false);
    if wish.change.added.iter().chain([&wish.change.base]).any(is_down) {
        return Err(Error::AddressDown);
    }
    if wish.change.unplumb {
        return unplumb(wish, host);
    }
    if wish.change.ipmp {
        return create(wish, host);
    }
    if let Some(group) = host.group(name) {
        return change_group(wish, host, group);
    }
    let device = host.device(name).ok_or_else(|| Error::NoInterface(name.clone()))?;
    if wish.change.interface.logical > 0 {
        let group = host.membership(name).ok_or_else(|| Error::NoGroup(name.clone()))?.0;
        return Err(Error::LogicalOfMember(name.clone(), group.name.clone()));
    }
    match (host.membership(name), wish.change.group.as_deref()) {
        (Some(_), Some("")) => {
            let mut plan = Plan::default();
            plan.request(detach(name), None);
            Ok(plan)
        }
        (Some((group, member)), wanted) if wanted.is_none_or(|wanted| wanted == group.groupname) => {
            change_member(wish, device, group, member)
        }
        // The daemon refuses a member of another group.
        (_, Some(groupname)) if !groupname.is_empty() => join(wish, host, name, groupname),
        _ => change_nic(wish, device),
    }
}

fn detach(interface: &str) -> Request {
    Request::Detach { interface: interface.into(), last: Some(LastMember::KeepGroup) }
}

fn unplumb(wish: &Wish, host: &Host) -> Result<Plan, Error> {
    let interface = &wish.change.interface;
    let name = &interface.name;
    let mut plan = Plan::default();
    if wish.change.v6 {
        return Err(Error::OneFamily(name.clone()));
    }
    if let Some(group) = host.group(name) {
        if interface.logical > 0 {
            let address = logical(group, interface.logical, false).and_then(data);
            let removed = address.ok_or_else(|| Error::NoLogical(format!("{name}:{}", interface.logical)))?;
            plan.request(Request::RemoveAddress { group: name.clone(), addresses: vec![removed] }, None);
        } else if group.members.is_empty() {
            plan.request(Request::Destroy { group: name.clone() }, None);
        } else {
            let members: Vec<&str> = group.members.iter().map(|member| member.name.as_str()).collect();
            return Err(Error::NotEmpty(name.clone(), members.join(", ")));
        }
        return Ok(plan);
    }
    if interface.logical > 0 {
        return Err(Error::NoLogical(format!("{name}:{}", interface.logical)));
    }
    if host.membership(name).is_some() {
        plan.request(detach(name), None);
        return Ok(plan);
    }
    let device = host.device(name).ok_or_else(|| Error::UnplumbMissing(name.clone()))?;
    let others: Vec<String> = host.addresses_of(device.ifindex).map(ToString::to_string).collect();
    if !others.is_empty() {
        return Err(Error::NotOurs(name.clone(), others.join(", ")));
    }
    Ok(plan)
}

/// `ipmp`: a new group.
fn create(wish: &Wish, host: &Host) -> Result<Plan, Error> {
    let name = &wish.change.interface.name;
    if host.group(name).is_some() || host.device(name).is_some() {
        return Err(Error::Exists(name.clone()));
    }
    if wish.change.base.up == Some(false) {
        return Err(Error::AddressDown);
    }
    let mut plan = Plan::default();
    let request = Request::Create {
        group: name.clone(),
        groupname: wish.change.group.clone(),
        addresses: wish.base.into_iter().chain(wish.added.iter().copied()).collect(),
    };
    plan.request(request, None);
    (1..=wish.added.len()).for_each(|number| plan.created(name, number));
    Ok(plan)
}

/// A change of an IPMP interface.
fn change_group(wish: &Wish, host: &Host, group: &GroupReport) -> Result<Plan, Error> {
    let Change { interface, base, group: groupname, standby, .. } = &wish.change;
    let on_ipmp = |word| Error::OnIpmp { word, group: group.name.clone() };
    if standby.is_some() {
        return Err(on_ipmp("standby"));
    }
    if wish.change.added.iter().chain([base]).any(|one| one.failover.is_some()) {
        return Err(on_ipmp("failover"));
    }
    match groupname.as_deref() {
        Some("") => return Err(Error::IpmpLeaves(group.name.clone())),
        Some(other) if other != group.groupname => {
            return Err(Error::Rename(group.name.clone(), group.groupname.clone()));
        }
        _ => {}
    }
    let mut plan = Plan::default();
    let number = interface.logical;
    let present = logical(group, number, wish.change.v6);
    let count = of_family(group, wish.change.v6).count();
    match (wish.base, present) {
        (Some(new), Some(old)) if data(old) != Some(new) => {
            add(&mut plan, &group.name, &[new]);
            if let Some(old) = data(old) {
                plan.request(
                    Request::RemoveAddress { group: group.name.clone(), addresses: vec![old] },
                    None,
                );
            }
        }
        (Some(new), None) if usize::from(number) == count => add(&mut plan, &group.name, &[new]),
        (_, None) if number > 0 => {
            return Err(Error::NoLogical(format!("{}:{number}", group.name)));
        }
        _ => {}
    }
    if number > 0 && base.up == Some(false) {
        return Err(Error::AddressDown);
    }
    remove(&mut plan, wish, group, None)?;
    if !wish.added.is_empty() {
        add(&mut plan, &group.name, &wish.added);
        let first = count.saturating_sub(wish.removed.len());
        (first..first + wish.added.len()).for_each(|number| plan.created(&group.name, number));
    }
    if number == 0 {
        plan.link(host.device(&group.name), base.up);
    }
    Ok(plan)
}

/// A change of a member that stays in its group.
fn change_member(
    wish: &Wish,
    device: &Device,
    group: &GroupReport,
    member: &MemberReport,
) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let Change { base, standby, .. } = &wish.change;
    if let Some(standby) = standby.filter(|standby| *standby != member.standby) {
        let set = |on| Request::Set { name: member.name.clone(), settings: vec![Setting::Standby(on)] };
        plan.request(set(standby), Some(set(!standby)));
    }
    if base.failover == Some(true)
        && wish.base.is_none()
        && let Some(test) = member.addresses.iter().find(is_named)
    {
        return Err(Error::TestBecomesData(test.address, member.name.clone()));
    }
    if let Some(address) = wish.base {
        place(&mut plan, address, base, group, member, 0);
    }
    remove(&mut plan, wish, group, Some(member))?;
    let numbers = classic::free_numbers(group, &member.name, wish.change.v6);
    for (number, (address, line)) in numbers.zip(wish.added.iter().zip(&wish.change.added)) {
        place(&mut plan, *address, line, group, member, number);
        plan.created(&member.name, number);
    }
    plan.link(Some(device), base.up);
    Ok(plan)
}

/// Gives a member a test address, or its group a data address with this home.
fn place(
    plan: &mut Plan,
    address: DataAddress,
    line: &Logical,
    group: &GroupReport,
    member: &MemberReport,
    number: u16,
) {
    let home = (member.name.as_str(), number);
    if !line.is_test() {
        let known = group.addresses.iter().find(|known| data(known) == Some(address));
        if known.and_then(classic::home).is_none_or(|before| number == 0 && before != home) {
            add_with_home(plan, &group.name, address, home, known);
        }
        let is_replaced = |old: &&AddressReport| number == 0 && classic::home(old) == Some(home);
        if let Some(old) =
            group.addresses.iter().filter(is_replaced).find_map(data).filter(|old| *old != address)
        {
            plan.request(remove_address(&group.name, old), None);
        }
        return;
    }
    let interface = &member.name;
    let known = member.addresses.iter().filter(is_named);
    let mut known = known.filter(|known| known.address.is_ipv4() == address.address().is_ipv4());
    let wanted =
        Request::AddTestAddress { interface: interface.clone(), address: TestAddressSpec::Is(address) };
    match known.next().and_then(data) {
        Some(same) if same == address => {}
        Some(old) => {
            let old = TestAddressSpec::Is(old);
            let undo = Request::AddTestAddress { interface: interface.clone(), address: old };
            plan.request(
                Request::RemoveTestAddress { interface: interface.clone(), address: old },
                Some(undo),
            );
            plan.request(wanted, None);
        }
        None => plan.request(wanted, None),
    }
}

/// An address that is not link-local: of a member, its test address.
fn is_named(address: &&AddressReport) -> bool {
    match address.address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    }
}

fn add(plan: &mut Plan, group: &str, addresses: &[DataAddress]) {
    let (group, addresses) = (group.to_owned(), addresses.to_vec());
    let undo = Request::RemoveAddress { group: group.clone(), addresses: addresses.clone() };
    plan.request(Request::AddAddress { group, addresses, inbound: None, logical: None }, Some(undo));
}

/// A data address with its home: a member, and the number of its logical interface. `known`: the address, if the group has it.
fn add_with_home(
    plan: &mut Plan,
    group: &str,
    address: DataAddress,
    (member, number): (&str, u16),
    known: Option<&AddressReport>,
) {
    let request = Request::AddAddress {
        group: group.to_owned(),
        addresses: vec![address],
        inbound: Some(member.to_owned()),
        logical: Some(number),
    };
    plan.request(request, known.is_none().then(|| remove_address(group, address)));
}

fn remove_address(group: &str, address: DataAddress) -> Request {
    Request::RemoveAddress { group: group.to_owned(), addresses: vec![address] }
}

/// Each `removeif`: a data address of the group, or a test address of the member.
fn remove(
    plan: &mut Plan,
    wish: &Wish,
    group: &GroupReport,
    member: Option<&MemberReport>,
) -> Result<(), Error> {
    for ip in &wish.removed {
        let find = |all: &[AddressReport]| all.iter().find(|known| known.address == *ip).and_then(data);
        if let Some(address) = find(&group.addresses) {
            let known = group.addresses.iter().find(|known| known.address == *ip);
            let undo = Request::AddAddress {
                group: group.name.clone(),
                addresses: vec![address],
                inbound: known.and_then(|known| known.preferred.clone()),
                logical: known.and_then(|known| known.logical),
            };
            plan.request(remove_address(&group.name, address), Some(undo));
        } else if let Some((member, address)) = member.and_then(|one| Some((one, find(&one.addresses)?))) {
            let (interface, address) = (member.name.clone(), TestAddressSpec::Is(address));
            let undo = Request::AddTestAddress { interface: interface.clone(), address };
            plan.request(Request::RemoveTestAddress { interface, address }, Some(undo));
        } else {
            return Err(Error::NoAddress(wish.change.interface.name.clone(), *ip));
        }
    }
    Ok(())
}

/// An interface joins a group, which is created if there is none.
fn join(wish: &Wish, host: &Host, interface: &str, groupname: &str) -> Result<Plan, Error> {
    let Change { base, standby, added, removed, .. } = &wish.change;
    if let Some(ip) = wish.removed.first().filter(|_| !removed.is_empty()) {
        return Err(Error::NoAddress(interface.into(), *ip));
    }
    if base.up == Some(false) {
        return Err(Error::AddressDown);
    }
    let all = wish.base.iter().map(|address| (address, base, 0));
    let all = all.chain(
        wish.added.iter().zip(added).zip(1..).map(|((address, line), number)| (address, line, number)),
    );
    let (test, data_addresses): (Vec<_>, Vec<_>) = all.partition(|(_, line, _)| line.is_test());
    let test: Vec<TestAddressSpec> =
        test.into_iter().map(|(address, ..)| TestAddressSpec::Is(*address)).collect();
    let data_addresses: Vec<(&DataAddress, u16)> =
        data_addresses.into_iter().map(|(address, _, number)| (address, number)).collect();
    let known = host.groups.iter().find(|group| group.groupname == groupname);
    let mut plan = Plan::default();
    let group = match known {
        Some(group) => group.name.clone(),
        None => {
            let group = new_name(host, groupname);
            if group != groupname {
                let request = Request::Create {
                    group: group.clone(),
                    groupname: Some(groupname.into()),
                    addresses: Vec::new(),
                };
                plan.request(request, Some(Request::Destroy { group: group.clone() }));
            }
            group
        }
    };
    let interfaces = vec![interface.to_owned()];
    let standby = standby.unwrap_or_default();
    let request = Request::Attach {
        group: group.clone(),
        interfaces,
        standby,
        test_addresses: test,
        dry_run: false,
        accept_firewall: true,
    };
    // A group that was created with the member is removed with it.
    let last = if known.is_some() { LastMember::KeepGroup } else { LastMember::Restore };
    plan.request(request, Some(Request::Detach { interface: interface.into(), last: Some(last) }));
    // After the member has joined: it is their home. An address that the interface has already has moved to the group.
    let own: Vec<&Address> =
        host.device(interface).map(|device| host.addresses_of(device.ifindex).collect()).unwrap_or_default();
    let addresses = known.map(|group| group.addresses.as_slice()).unwrap_or_default();
    for (address, number) in data_addresses {
        let own = own.iter().find(|own| own.ip == address.address());
        let address = own.and_then(|own| DataAddress::new(own.ip, own.prefix).ok()).unwrap_or(*address);
        let known = addresses.iter().find(|known| data(known) == Some(address));
        add_with_home(&mut plan, &group, address, (interface, number), known);
    }
    (1..=wish.added.len()).for_each(|number| plan.created(interface, number));
    Ok(plan)
}

/// The name of the interface of a group that is created implicitly: that of the group, or `ipmpN` (docs/reference.md 1.2) if
/// no interface can have that name.
fn new_name(host: &Host, groupname: &str) -> String {
    let is_free = |name: &str| host.device(name).is_none();
    if name::check_group(groupname).is_ok() && is_free(groupname) {
        return groupname.into();
    }
    let named = |number: u32| format!("ipmp{number}");
    let is_unused =
        |name: &String| is_free(name) && !host.groups.iter().any(|group| group.groupname == *name);
    (0..).map(named).find(is_unused).unwrap_or_default()
}

/// A change of an interface that is in no group.
fn change_nic(wish: &Wish, device: &Device) -> Result<Plan, Error> {
    let Change { base, standby, added, .. } = &wish.change;
    let needs_group =
        base.address.is_some() || base.failover.is_some() || standby.is_some() || !added.is_empty();
    if needs_group {
        return Err(Error::NoGroup(device.name.clone()));
    }
    if let Some(ip) = wish.removed.first() {
        return Err(Error::NoAddress(device.name.clone(), *ip));
    }
    let mut plan = Plan::default();
    plan.link(Some(device), base.up);
    Ok(plan)
}

/// The addresses of a family, whose numbers are those of the logical interfaces.
fn of_family(group: &GroupReport, v6: bool) -> impl Iterator<Item = &AddressReport> {
    group.addresses.iter().filter(move |known| known.address.is_ipv6() == v6)
}

fn logical(group: &GroupReport, number: u16, v6: bool) -> Option<&AddressReport> {
    of_family(group, v6).nth(number.into())
}

fn data(address: &AddressReport) -> Option<DataAddress> {
    DataAddress::new(address.address, address.prefix).ok()
}

#[cfg(test)]
mod tests;
