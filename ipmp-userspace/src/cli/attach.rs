//! `ipmpctl attach`

use super::{
    dns::{self, Before},
    error::Error,
    handover, host,
    verb::Verb,
};
use crate::{
    control::{Client, Request, Response, pending::HostStep},
    handover::{Handover, is_handed_over},
    owners::{Host, Nic},
};

/// How the plan of an attach begins lines on programs that configure the interfaces.
const OWNER: &str = "refused until this is done: ";

/// Attach interfaces to a group; the group is created if it does not exist
///
/// Either all interfaces are attached or none. Their addresses, routes and nexthop objects move to the group. An interface that
/// another program configures is refused, and one with a leased address, unless it keeps the lease as its test address. Firewall rules
/// that name an interface do not apply to the group: without --accept-firewall or --confirm they are refused, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl attach eth0 eth1 --group production0 --dry-run
  ipmpctl attach eth0 eth1 --group production0
  ipmpctl attach eth0 eth1 --group production0 --handover --confirm 120
  ipmpctl attach eth2 --group production0 --standby --test-address 192.168.178.203/24")]
pub struct Attach {
    /// Interfaces to attach
    #[arg(required = true, value_name = "INTERFACE")]
    interfaces: Vec<String>,
    /// Name of the group
    #[arg(long, value_name = "GROUP")]
    group: String,
    /// Attach as standby: used only when an active member fails
    #[arg(long)]
    standby: bool,
    /// Test address for probes: ADDRESS/PREFIX (with a single INTERFACE), or dhcp for the address that a DHCP client assigns;
    /// at most one for IPv4 and one for IPv6 [default: none]
    #[arg(long = "test-address", value_name = "ADDRESS/PREFIX|dhcp")]
    test_addresses: Vec<String>,
    /// Undo it after this time, 1 to 86400 seconds, unless `ipmpctl confirm` is entered before, from a new connection
    #[arg(long, value_name = "SECONDS", conflicts_with = "dry_run", value_parser = clap::value_parser!(u32).range(1..=86400))]
    confirm: Option<u32>,
    /// Before, make the programs that configure the interfaces leave them, as `ipmpctl handover` does
    #[arg(long)]
    handover: bool,
    /// Attach although firewall rules name the interfaces; --confirm does, too
    #[arg(long)]
    accept_firewall: bool,
    /// Print what would change, which programs configure the interfaces and which firewall rules name them; change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Attach {
    /// DHCP clients of the interfaces, a line each: as a service the daemon does not see them.
    fn dhcp_clients(&self, client: &Client) -> Result<Vec<String>, Error> {
        let keeps_lease = self.test_addresses.iter().any(|test| test == "dhcp");
        if keeps_lease || !client.is_in_this_namespace() {
            return Ok(Vec::new());
        }
        let Some(host) = Host::of_this_namespace() else { return Ok(Vec::new()) };
        let clients = self.interfaces.iter().filter_map(|name| {
            // The client is found by the name alone.
            let owner = host.dhcp_client(&Nic { name, ifindex: 0, mac: [0; 6] })?;
            Some(owner.describe(name))
        });
        Ok(clients.collect())
    }
}

/// The plan of an attach with what the daemon does not see.
fn with_owners(response: Response, owners: Vec<String>) -> Response {
    let Response::Done { mut notes, changed } = response else { return response };
    let lines = owners.into_iter().map(|owner| format!("{OWNER}{owner}"));
    let lines: Vec<String> = lines.filter(|line| !notes.contains(line)).collect();
    notes.extend(lines);
    Response::Done { notes, changed }
}

impl Verb for Attach {
    fn request(&self) -> Result<Request, Error> {
        let Self { interfaces, group, standby, test_addresses, confirm, dry_run, accept_firewall, handover } =
            self;
        if *handover && test_addresses.iter().any(|test| test == "dhcp") {
            let why = "--handover and --test-address dhcp exclude each other: the program that renews the lease stays";
            return Err(Error::Usage(why.into()));
        }
        let test_addresses =
            test_addresses.iter().map(|text| host::test_address(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Request::Attach {
            group: group.clone(),
            interfaces: interfaces.clone(),
            standby: *standby,
            test_addresses,
            dry_run: *dry_run,
            accept_firewall: *accept_firewall || confirm.is_some(),
        })
    }

    fn confirm(&self) -> Option<(String, u32)> {
        let text = || format!("attach {} --group {}", self.interfaces.join(" "), self.group);
        Some((text(), self.confirm?))
    }

    fn undo_steps(&self) -> Result<Vec<HostStep>, Error> {
        let mut steps = Vec::new();
        if self.handover {
            let program = std::env::current_exe().map_err(|error| Error::Confirm(error.to_string()))?;
            let mut command = vec![program.display().to_string(), "handover".into(), "--undo".into()];
            let host = handover::host()?;
            // Those that were handed over before stay so.
            let new = self.interfaces.iter().filter(|name| !is_handed_over(&host, name));
            command.extend(new.cloned());
            if command.len() > 3 {
                steps.push(HostStep { first: false, command });
            }
        }
        steps.extend(dns::undo_steps(&self.interfaces));
        Ok(steps)
    }

    fn plan(&self, client: &mut Client, request: &Request) -> Result<Response, Error> {
        let response = self.hand_over_and_attach(client, request)?;
        Ok(Before::of(&self.interfaces, client).plan(&self.group, response))
    }

    fn send(&self, client: &mut Client, request: &Request) -> Result<Response, Error> {
        // Before a program leaves the interfaces.
        let dns = Before::of(&self.interfaces, client);
        let response = self.hand_over_and_attach(client, request)?;
        Ok(dns.move_to(&self.group, response))
    }
}

impl Attach {
    fn hand_over_and_attach(&self, client: &mut Client, request: &Request) -> Result<Response, Error> {
        let clients = self.dhcp_clients(client)?;
        if let Some(client) = clients.first().filter(|_| !self.dry_run) {
            return Err(Error::InUse(client.clone()));
        }
        if !self.handover {
            let response = client.call(request)?;
            return Ok(with_owners(response, clients));
        }
        let host = handover::host()?;
        let handover = Handover::new(&host)?;
        if self.dry_run {
            let (mut lines, _) = handover.plan(&self.interfaces)?;
            let Response::Done { notes, changed } = client.call(request)? else {
                return Ok(Response::done(lines));
            };
            let is_owner = |note: &String| note.starts_with(OWNER);
            lines.extend(notes.into_iter().filter(|note| !is_owner(note)));
            return Ok(Response::Done { notes: lines, changed });
        }
        // What refuses the request anyway refuses it before a program is restarted.
        let mut dry_run = request.clone();
        if let Request::Attach { dry_run, .. } = &mut dry_run {
            *dry_run = true;
        }
        client.call(&dry_run)?;
        let (mut lines, nics) = handover.hand_over(&self.interfaces)?;
        match client.call(request) {
            Ok(Response::Done { notes, changed }) => {
                lines.extend(notes);
                Ok(Response::Done { notes: lines, changed })
            }
            Ok(response) => Ok(response),
            Err(error) => {
                handover.undo(&nics)?;
                Err(error.into())
            }
        }
    }
}
