//! Creates the parts of a network and connects them.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use super::{Builder, Member, MemberKind, Switch, counterpart};
use crate::Mac;
use crate::cable::{Cable, End, Kind};
use crate::command::ip_batch;
use crate::host::{Host, INTERFACE};
use crate::namespace::Namespace;
use crate::nic::Nic;
use crate::tap::{Tap, Wire};

pub(super) fn build_switch(switch: &Namespace, plan: &Builder) -> Result<()> {
    // A switch sends no IPv6 packets of its own.
    switch.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
    switch.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
    // The unit of ageing_time is a hundredth of a second.
    let ageing =
        plan.ageing.map_or(String::new(), |ageing| format!(" ageing_time {}", ageing.as_millis() / 10));
    let bridge = format!("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0{ageing}");
    ip_batch(Some(switch), &[bridge])?;
    if plan.snooping {
        enable_snooping(switch)?;
    }
    ip_batch(Some(switch), &["link set br0 up".into()])
}

/// Enables IGMP and MLD snooping and the querier: three queries one second apart, and then one every two minutes. The
/// bridge needs an IPv6 address: without one it sends no MLD queries and floods IPv6 multicast.
fn enable_snooping(switch: &Namespace) -> Result<()> {
    switch.sysctl("net.ipv6.conf.br0.accept_ra", "0")?;
    switch.sysctl("net.ipv6.conf.br0.accept_dad", "0")?;
    switch.sysctl("net.ipv6.conf.br0.disable_ipv6", "0")?;
    // A bridge floods until the response interval of its first query has passed: ten seconds by default. So the interval
    // is set first, and the querier is enabled last. Hundredths of a second.
    let times =
        "mcast_query_response_interval 100 mcast_startup_query_interval 100 mcast_startup_query_count 3";
    ip_batch(
        Some(switch),
        &[
            format!("link set br0 type bridge {times}"),
            "link set br0 type bridge mcast_snooping 1 mcast_querier 1".into(),
        ],
    )
}

pub(super) fn join_switches(a: &Namespace, b: &Namespace, number: usize) -> Result<Cable> {
    let lines = [
        format!("link add sw4 type veth peer name sw4 netns {}", b.name()),
        "link set sw4 master br0 up".into(),
    ];
    ip_batch(Some(a), &lines)?;
    b.netlink().add_clsact("sw4")?;
    ip_batch(Some(b), &["link set sw4 master br0 up".into()])?;
    let end = |namespace: &Namespace| End { namespace: namespace.clone(), interface: "sw4".into() };
    Ok(Cable::new(format!("cable {number}"), end(a), end(b), Kind::Veth))
}

pub(super) fn plug_member(
    host: &Namespace,
    switch_namespace: &Namespace,
    name: &str,
    number: usize,
    switch: Switch,
    kind: MemberKind,
) -> Result<Member> {
    let port = format!("sw{}", port_number(number));
    let mut mac = [0x02, 0xa0, 0, 0, 0, number as u8 + 1];
    let wiring = match kind {
        MemberKind::Veth => {
            lay_cable(host, name, mac, switch_namespace, &port, Some(member_index(number)))?;
            Kind::Veth
        }
        MemberKind::Tap => {
            let near = Tap::create(host, name)?;
            let far = Tap::create(switch_namespace, &port)?;
            host.ip(&format!("link set {name} address {} up", crate::show_mac(mac)))?;
            switch_namespace.ip(&format!("link set {port} master br0 up"))?;
            let wire = Wire::join(near, far)?;
            // The operational state of a device stays unknown until its first carrier change, unlike that of a network card.
            wire.pull()?;
            wire.replug()?;
            Kind::Tap(wire)
        }
        MemberKind::Nic(model) => {
            let nic = Nic::find(model, number)?;
            mac = nic.mac();
            nic.install((host, name), (switch_namespace, &port))?;
            Kind::Nic(nic)
        }
    };
    let near = End { namespace: host.clone(), interface: name.to_owned() };
    let far = End { namespace: switch_namespace.clone(), interface: port };
    let cable = Cable::new(format!("cable {}", number + 1), near, far, wiring);
    Ok(Member { name: name.to_owned(), mac, switch, cable })
}

/// sw1 to sw3 as in the figure; sw4 is the port between the switches.
fn port_number(member: usize) -> usize {
    if member < 3 { member + 1 } else { member + 2 }
}

/// The interface index of a member, and of its switch port.
///
/// If the index of a veth differs from that of its peer, the kernel reports every carrier change at once. With equal
/// indexes it behaves as for a network card: it may report a change up to a second late.
pub(super) fn member_index(member: usize) -> u32 {
    101 + member as u32
}

/// Connects a host to a switch by a veth pair. Both ends get the index, if there is one.
pub(super) fn lay_cable(
    near: &Namespace,
    interface: &str,
    mac: Mac,
    switch: &Namespace,
    port: &str,
    index: Option<u32>,
) -> Result<()> {
    let mac = crate::show_mac(mac);
    let index = index.map_or(String::new(), |index| format!("index {index}"));
    let lines = [
        format!(
            "link add {interface} {index} address {mac} type veth peer name {port} {index} netns {}",
            switch.name()
        ),
        format!("link set {interface} up"),
    ];
    ip_batch(Some(near), &lines)?;
    switch.netlink().add_clsact(port)?;
    ip_batch(Some(switch), &[format!("link set {port} master br0 up")])
}

pub(super) fn build_host(
    namespace: Namespace,
    switch: &Namespace,
    name: &str,
    kind: u8,
    v4: Ipv4Addr,
) -> Result<Host> {
    let mac = [0x02, kind, 0, 0, 0, v4.octets()[3]];
    let v6 = counterpart(v4);
    lay_cable(&namespace, INTERFACE, mac, switch, name, None)?;
    ip_batch(
        Some(&namespace),
        &[
            "link set lo up".into(),
            format!("addr add {v4}/24 brd + dev {INTERFACE}"),
            format!("addr add {v6}/64 dev {INTERFACE} nodad"),
        ],
    )?;
    let near = End { namespace: namespace.clone(), interface: INTERFACE.into() };
    let far = End { namespace: switch.clone(), interface: name.to_owned() };
    let cable = Cable::new(format!("cable of {name}"), near, far, Kind::Veth);
    Ok(Host { namespace, mac, v4, v6, cable })
}

/// Mounts the BPF file system at its usual path, unless it is mounted.
pub(super) fn mount_bpf() -> Result<()> {
    const PATH: &str = "/sys/fs/bpf";
    let kind = nix::sys::statfs::statfs(PATH)
        .with_context(|| format!("no {PATH}: the kernel does not support BPF"))?;
    if kind.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC {
        return Ok(());
    }
    nix::mount::mount(Some("bpf"), PATH, Some("bpf"), nix::mount::MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount the BPF file system at {PATH}"))
}
