//! Whether a set of interfaces can join a group, as they are configured now.

use std::net::IpAddr;

use crate::{
    control::{
        TestAddressSpec,
        request::{Refused, reason},
    },
    daemon::{
        group::RunningGroup,
        manager::Manager,
        operations::{
            eligibility::{self, Role, Surroundings},
            refusals::{kernel, no_such_interface},
        },
    },
    datapath::{program_name, tcx_programs_of},
    link::{Address, Device, Links},
    owners::{Host, Nic, root_file_system::RootServer},
};

/// What is done with an interface that another program configures.
#[derive(Debug)]
pub(super) enum Check<'a> {
    /// It is refused.
    Refuse,
    /// The refusal is a line of this list.
    List(&'a mut Vec<String>),
}

/// Checks all interfaces, and returns their names: a request may use alternative ones.
pub(super) async fn check_all(
    manager: &Manager,
    group: &str,
    interfaces: &[String],
    test_addresses: &[TestAddressSpec],
    mut check: Check<'_>,
) -> Result<Vec<String>, Refused> {
    let devices = manager.links.devices().map_err(|error| kernel(&error))?;
    let already = |text: String| Err(Refused::new(reason::ALREADY_MEMBER, text));
    let mut members: Vec<(String, [u8; 6])> = manager
        .groups
        .get(group)
        .map(|group| {
            let present = group.core.members().iter().filter(|member| !member.absent());
            present.map(|member| (member.name().to_owned(), member.mac())).collect()
        })
        .unwrap_or_default();
    let host = Host::of_this_namespace();
    let mut names = Vec::new();
    for name in interfaces {
        let device = devices
            .iter()
            .find(|device| device.name == *name || device.altnames.contains(name))
            .ok_or_else(|| no_such_interface(name))?;
        if names.contains(&device.name) {
            return already(format!("{} is named twice: name each interface once", device.name));
        }
        let member_of = manager.groups.values().find(|group| group.number_of(device.ifindex).is_some());
        let member_of = member_of.map(RunningGroup::name);
        if let Some(address) = test_addresses.first()
            && member_of == Some(group)
        {
            return already(format!(
                "{name} is a member of {group} already: ipmpctl test-address add {name} {address} gives it a test address"
            ));
        }
        let surroundings = Surroundings {
            group,
            member_of,
            is_group: manager.groups.values().any(|group| group.interface.ifindex == device.ifindex),
            master: devices.iter().find(|master| device.master == Some(master.ifindex)),
        };
        let role = |ifindex: u32| {
            let mut running = manager.groups.values();
            let found = running.find_map(|known| {
                if known.interface.ifindex == ifindex
                    || known.interface.far_end().is_some_and(|(_, far)| far == ifindex)
                {
                    Some(Role::Group(known.name().to_owned()))
                } else {
                    known.number_of(ifindex).map(|_| Role::Member(known.name().to_owned()))
                }
            });
            let joins =
                || devices.iter().any(|other| other.ifindex == ifindex && names.contains(&other.name));
            found.or_else(|| joins().then(|| Role::Member(group.to_owned())))
        };
        eligibility::check(device, surroundings)?;
        if let Some(id) = device.xdp {
            return Err(Refused::new(
                reason::IN_USE,
                program_refusal(&device.name, "XDP", id, program_name(id)),
            ));
        }
        check_absent(manager, &device.name)?;
        eligibility::check_stacking(device, &devices, role)?;
        eligibility::check_place(device, group, &members)?;
        check_root(manager, host.as_ref(), device).await?;
        let owner = check_owner(host.as_ref(), device, test_addresses);
        match (owner, &mut check) {
            (Err(refused), Check::List(refusals)) => {
                refusals.push(refused.message);
                // The remedy of the owner is that of its lease.
                members.push((device.name.clone(), device.mac));
                names.push(device.name.clone());
                continue;
            }
            (owner, _) => owner?,
        }
        check_lifetimes(&manager.links, device, test_addresses).await?;
        if let Some(id) = tcx_programs_of(device.ifindex).first() {
            return Err(Refused::new(
                reason::IN_USE,
                program_refusal(&device.name, "tc", *id, program_name(*id)),
            ));
        }
        members.push((device.name.clone(), device.mac));
        names.push(device.name.clone());
    }
    Ok(names)
}

/// Refuses an interface with the name of an absent member: the operator decides whether it replaces that one.
fn check_absent(manager: &Manager, name: &str) -> Result<(), Refused> {
    let Some(group) = manager.group_of(name) else { return Ok(()) };
    let absent = manager.file.member(group.name(), name).filter(|member| member.absent.is_some());
    let Some(absent) = absent else { return Ok(()) };
    Err(Refused::new(
        reason::ALREADY_MEMBER,
        format!(
            "{name} is the name of an absent member of {}, which is recognised by {}: if this interface replaces it, detach \
             that one first (ipmpctl detach {name})",
            group.name(),
            absent.recognised_by()
        ),
    ))
}

/// Refuses the interface of the root file system: `ipmpd` could not repair a group while it waits for its own files.
async fn check_root(manager: &Manager, host: Option<&Host>, device: &Device) -> Result<(), Refused> {
    let Some(host) = host else { return Ok(()) };
    let addresses = manager.links.addresses_of(device.ifindex).map_err(|error| kernel(&error))?;
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.ip).collect();
    let Some(root) = host.root_through(&nic(device), &addresses) else { return Ok(()) };
    let (name, RootServer { server, source }) = (&device.name, root);
    Err(Refused::new(
        reason::IN_USE,
        format!(
            "{name} leads to the root file system, on an {server} ({source}), and ipmpd is read from there: attach other NICs, \
             or boot from a local disk"
        ),
    ))
}

fn nic(device: &Device) -> Nic<'_> {
    Nic { name: &device.name, ifindex: device.ifindex, mac: device.mac }
}

/// Refuses an interface that another program configures: it would configure it again, or add the addresses again at the next
/// boot. Where the lease becomes the test address, the program that renews it stays.
fn check_owner(
    host: Option<&Host>,
    device: &Device,
    test_addresses: &[TestAddressSpec],
) -> Result<(), Refused> {
    if test_addresses.contains(&TestAddressSpec::Dhcp) {
        return Ok(());
    }
    let owner = host.and_then(|host| host.owner(&nic(device)));
    owner.map_or(Ok(()), |owner| Err(Refused::new(reason::IN_USE, owner.describe(&device.name))))
}

/// Refuses an interface with an address that ends unless another program renews it: the program would renew it on the
/// interface, from which it has moved.
async fn check_lifetimes(
    links: &Links,
    device: &Device,
    test_addresses: &[TestAddressSpec],
) -> Result<(), Refused> {
    let addresses = links.addresses_of(device.ifindex).map_err(|error| kernel(&error))?;
    let staying = staying(test_addresses, &addresses);
    let ends = |address: &&Address| {
        address.is_global()
            && !staying.contains(&address.ip)
            && address.lifetime.is_some_and(|(valid, _)| valid != u32::MAX)
    };
    let Some(address) = addresses.iter().find(ends) else { return Ok(()) };
    let name = &device.name;
    let text = if address.ip.is_ipv4() {
        format!(
            "{name} has the leased address {address}, which its DHCP client would renew on {name}: configure the address as a \
             static one, or keep the lease as the test address of {name} (--test-address dhcp)"
        )
    } else {
        format!(
            "{name} has the address {address} with a lifetime, from router advertisements or DHCPv6: switch them off \
             (sysctl net.ipv6.conf.{name}.accept_ra=0) and remove the address first (ip address del {address} dev {name})"
        )
    };
    Err(Refused::new(reason::IN_USE, text))
}

/// Why an interface with this tc or XDP program of another program is refused. Names cannot be read without CAP_SYS_ADMIN, which
/// the service does not have.
pub(in crate::daemon::operations) fn program_refusal(
    name: &str,
    hook: &str,
    id: u32,
    program: Option<String>,
) -> String {
    let Some(program) = program else {
        return format!(
            "{name} has the {hook} program {id} of another program (bpftool prog show id {id} names it): stop that program first"
        );
    };
    // The entry points of their programs: `bpf/bpf_host.c` of Cilium, `felix/bpf-gpl` of Calico.
    let (owner, setting) = match program.as_str() {
        program if program.starts_with("cil_") => ("Cilium", "Cilium's setting devices"),
        program if program.starts_with("cali") => ("Calico", "Felix's setting bpfDataIfacePattern"),
        _ => {
            return format!(
                "{name} has the {hook} program {program} of another program: stop that program first"
            );
        }
    };
    format!(
        "{name} has the {hook} program {program} of {owner}: name the group interface instead of {name} in {setting}, and \
         restart its agent first"
    )
}

/// The addresses that an interface keeps as its test addresses: the configured ones, and with `dhcp` the leased one, which
/// has a lifetime.
pub(super) fn staying(test_addresses: &[TestAddressSpec], addresses: &[Address]) -> Vec<IpAddr> {
    let leased = addresses.iter();
    let leased = leased.filter(|address| address.ip.is_ipv4() && address.lifetime.is_some());
    let leased = leased.filter(|_| test_addresses.contains(&TestAddressSpec::Dhcp)).map(|address| address.ip);
    let configured = test_addresses.iter().filter_map(|test| test.address()).map(|test| test.address());
    configured.chain(leased).collect()
}

#[cfg(test)]
mod tests {
    use super::program_refusal;

    #[test]
    fn tc_program_of_cilium_is_refused_by_its_name() {
        let tc_refusal = |name, program: &str| program_refusal(name, "tc", 7, Some(program.to_owned()));
        assert_eq!(
            tc_refusal("eth0", "cil_from_netdev"),
            "eth0 has the tc program cil_from_netdev of Cilium: name the group interface instead of eth0 in Cilium's setting \
             devices, and restart its agent first"
        );
        assert_eq!(
            tc_refusal("eth0", "count"),
            "eth0 has the tc program count of another program: stop that program first"
        );
        assert_eq!(
            program_refusal("eth0", "XDP", 7, Some("cali_xdp_preamb".into())),
            "eth0 has the XDP program cali_xdp_preamb of Calico: name the group interface instead of eth0 in Felix's setting \
             bpfDataIfacePattern, and restart its agent first"
        );
        assert_eq!(
            program_refusal("eth0", "tc", 7, None),
            "eth0 has the tc program 7 of another program (bpftool prog show id 7 names it): stop that program first"
        );
    }
}
