//! systemd-networkd: the state that it keeps of each link.

use super::{Host, Kind, Nic, Owner, cloud_init, netplan, value};

/// Name of the program.
const PROGRAM: &str = "systemd-networkd";

/// The network file of a managed link, by its state file; an empty one where the state file names none. `None`: it is not managed.
///
/// `link_state_to_string` in `src/network/networkd-link.c` of systemd has the states. A link without a decision yet has no
/// network file.
pub fn network_file(state: &str) -> Option<&str> {
    let file = value(state, "NETWORK_FILE");
    match value(state, "ADMIN_STATE")? {
        "configuring" | "configured" | "failed" => Some(file.unwrap_or_default()),
        "pending" | "initialized" => file,
        // unmanaged, linger
        _ => None,
    }
}

pub(super) fn owner(host: &Host, nic: &Nic<'_>) -> Option<Owner> {
    let state_file = format!("/run/systemd/netif/links/{}", nic.ifindex);
    let state = host.read(&state_file)?;
    let file = network_file(&state)?;
    if !host.runs(PROGRAM) {
        return None;
    }
    let source = if file.is_empty() { state_file.as_str() } else { file };
    let program = if file.contains("netplan") {
        netplan::describe(host, nic, PROGRAM)
    } else if cloud_init::has_written(host, file) {
        format!("cloud-init through {PROGRAM}")
    } else {
        PROGRAM.to_owned()
    };
    let name = nic.name;
    // A reload would remove what networkd has configured (`link_reconfigure_impl`); a restart does not.
    let remedy = format!(
        "write the lines [Match], Name={name}, [Link], Unmanaged=yes into /etc/systemd/network/01-ipmp-{name}.network, then \
         restart it (systemctl restart {PROGRAM}; a reload would remove the addresses)"
    );
    Some(Owner { kind: Kind::Networkd, program, source: source.to_owned(), remedy })
}

pub(super) fn has_left(host: &Host, nic: &Nic<'_>) -> bool {
    let state = host.read(format!("/run/systemd/netif/links/{}", nic.ifindex));
    state.is_some_and(|state| value(&state, "ADMIN_STATE") == Some("unmanaged")) && host.runs(PROGRAM)
}

/// Whether networkd configures a link of the host; `None`: it has not decided about all of them yet.
pub(super) fn has_links(host: &Host) -> Option<bool> {
    let decision = |state: String| match value(&state, "ADMIN_STATE")? {
        "configuring" | "configured" | "failed" => Some(true),
        "unmanaged" | "linger" => Some(false),
        _ => None,
    };
    let files = host.files("/run/systemd/netif/links", "");
    let decisions: Vec<_> = files.iter().map(|file| host.read(file).and_then(decision)).collect();
    let is_complete = !decisions.is_empty() && !decisions.contains(&None);
    if decisions.contains(&Some(true)) { Some(true) } else { is_complete.then_some(false) }
}
