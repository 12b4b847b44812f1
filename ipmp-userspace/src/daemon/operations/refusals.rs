//! Refusals that several operations share.

use std::net::IpAddr;

use crate::{
    control::{
        pending::Store,
        request::{Refused, Request, reason},
    },
    daemon::{events::trigger::Trigger, manager::Manager},
    link::Links,
};

/// Refuses a change while another one waits for its confirmation, except to the process that makes or undoes that one.
pub fn refuse_if_pending(manager: &Manager, trigger: &Trigger, request: &Request) -> Result<(), Refused> {
    if !request.changes() || request.is_dry_run() {
        return Ok(());
    }
    let Some(pending) = manager.pending.as_ref().and_then(Store::read) else { return Ok(()) };
    let caller = match trigger {
        Trigger::Operator(caller) => u32::try_from(caller.pid).ok(),
        _ => None,
    };
    if caller.is_some() && caller == pending.process {
        return Ok(());
    }
    Err(Refused::new(reason::PENDING, pending.refusal()))
}

/// An error of the kernel, the datapath or the state file.
pub fn kernel(error: &dyn std::error::Error) -> Refused {
    Refused::new(reason::KERNEL, error.to_string())
}

/// There is no such interface.
pub fn no_such_interface(name: &str) -> Refused {
    Refused::new(
        reason::NO_SUCH_INTERFACE,
        format!("there is no interface {name} in this network namespace; `ip link` lists those that exist"),
    )
}

/// There is no such group.
pub fn no_such_group(name: &str) -> Refused {
    Refused::new(
        reason::NO_SUCH_GROUP,
        format!("there is no group {name}; `ipmpctl show` lists those that exist"),
    )
}

/// There is no such group or member.
pub fn no_such_name(name: &str) -> Refused {
    let text = format!("{name} is neither a group nor a member of one; `ipmpctl show` lists all");
    Refused::new(reason::NO_SUCH_GROUP, text)
}

/// There is no such group, so that nothing is to be removed from it.
pub fn no_group_note(name: &str) -> String {
    format!("there is no group {name}: nothing to change")
}

/// The interface is in no group, so that nothing is to be removed from it. A group can be in none, so that its name is an error.
pub fn in_no_group_note(manager: &Manager, interface: &str) -> Result<String, Refused> {
    if manager.groups.contains_key(interface) {
        let text = format!(
            "{interface} is a group, not a member of one; `ipmpctl show {interface}` lists its members"
        );
        return Err(Refused::new(reason::NOT_A_MEMBER, text));
    }
    Ok(format!("{interface} is in no group: nothing to change"))
}

/// The interface is not a member.
pub fn not_a_member(interface: &str) -> Refused {
    let text = format!("{interface} is not a member of any group; `ipmpctl show` lists the members");
    Refused::new(reason::NOT_A_MEMBER, text)
}

/// The interface is not a member of this group.
pub fn not_in_group(interface: &str, group: &str) -> Refused {
    let text = format!("{interface} is not a member of {group}; `ipmpctl show {group}` lists its members");
    Refused::new(reason::NOT_A_MEMBER, text)
}

/// The address is on an interface of this host.
pub fn address_exists(address: IpAddr, interface: &str) -> Refused {
    let text = format!("{address} is on {interface} already: remove it there first");
    Refused::new(reason::ADDRESS_EXISTS, text)
}

/// The name of an interface, for a refusal.
pub async fn interface_name(links: &Links, ifindex: u32) -> String {
    let device = links.device(ifindex).await.ok().flatten();
    device.map_or_else(|| format!("interface {ifindex}"), |device| device.name)
}
