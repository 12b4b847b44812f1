//! `ipmpctl attach`

use super::{error::Error, host, verb::Verb};
use crate::control::Request;

/// Attach interfaces to a group; the group is created if it does not exist
///
/// Either all interfaces are attached or none. Their addresses, routes and nexthop objects move to the group. An interface that
/// another program configures is refused, and one with a leased address, unless it keeps the lease as its test address.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl attach eth0 eth1 --group production0 --dry-run
  ipmpctl attach eth0 eth1 --group production0
  ipmpctl attach eth0 eth1 --group production0 --confirm 120
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
    /// Print what would change and which programs configure the interfaces, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Verb for Attach {
    fn request(&self) -> Result<Request, Error> {
        let Self { interfaces, group, standby, test_addresses, confirm: _, dry_run } = self;
        let test_addresses =
            test_addresses.iter().map(|text| host::test_address(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Request::Attach {
            group: group.clone(),
            interfaces: interfaces.clone(),
            standby: *standby,
            test_addresses,
            dry_run: *dry_run,
        })
    }

    fn confirm(&self) -> Option<(String, u32)> {
        let text = || format!("attach {} --group {}", self.interfaces.join(" "), self.group);
        Some((text(), self.confirm?))
    }
}
