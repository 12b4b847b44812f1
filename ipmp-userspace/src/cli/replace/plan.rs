//! What `ipmpctl import BOND --apply` would do, and which firewall rules do not apply afterwards.

use std::net::IpAddr;

use super::Kernel;
use crate::{
    cli::error::Error,
    config::{Configuration, plan},
    control::pending::ReplacedBond,
    firewall::{Interface, Joining, Rule, rules},
    import::running::Running,
    link::Device,
};

impl ReplacedBond {
    /// The steps, one a line; `configuration` is that of the group.
    pub(in crate::cli) fn steps(
        &self,
        running: &Running,
        configuration: &Configuration,
        gateways: &[IpAddr],
    ) -> Result<Vec<String>, Error> {
        let Self { name, kept, .. } = self;
        let ports: Vec<&Device> = self
            .ports
            .iter()
            .filter_map(|(port, _)| running.ports().find(|device| device.ifindex == *port))
            .collect();
        let [first, backup, ..] = ports[..] else { return Ok(Vec::new()) };
        let mut lines = Vec::new();
        if self.selects {
            lines.push(format!("bond {name}: make {} its active port", first.name));
        }
        lines.push(format!("bond {name}: release {}", backup.name));
        let v4 = gateways.iter().filter(|gateway| gateway.is_ipv4());
        lines.extend(v4.map(|gateway| format!("check that {gateway} replies through {}", backup.name)));
        lines.push(format!("rename bond {name} to {kept}"));
        lines.push(format!("create group {name}"));
        lines.push(format!("{name}: attach {}", backup.name));
        lines.push(format!("{name}: attach {kept}"));
        lines.extend(self.moves(running, kept));
        let through = |gateway| format!("check that {gateway} replies through {} alone", backup.name);
        lines.extend(gateways.iter().map(through));
        lines.push(format!("{name}: detach {kept}"));
        for port in ports.iter().filter(|port| port.ifindex != backup.ifindex) {
            lines.push(format!("bond {kept}: release {}", port.name));
            lines.push(format!("{name}: attach {}", port.name));
        }
        lines.push(format!("set {kept} down; ipmpctl confirm deletes it"));
        lines.extend(self.settings(running, configuration)?);
        Ok(lines)
    }

    /// The addresses and routes that move from the interface `from`, which is the bond.
    pub(in crate::cli) fn moves(&self, running: &Running, from: &str) -> Vec<String> {
        let addresses = running.addresses.iter().filter(|address| address.is_global());
        let addresses = addresses.map(ToString::to_string);
        let routes = running.routes.iter().filter(|route| !route.is_of_kernel() && !route.is_link_local());
        let moving = addresses.chain(routes.map(|route| format!("route {route}")));
        moving.map(|what| format!("{}: move {what} from {from}", self.name)).collect()
    }

    /// What the configuration adds to a group with these members, addresses and routes.
    fn settings(&self, running: &Running, configuration: &Configuration) -> Result<Vec<String>, Error> {
        let member = |device: &Device| plan::RunningMember {
            name: device.name.clone(),
            ifindex: Some(device.ifindex),
            permanent_mac: device.permanent_mac,
            mac: Some(device.mac),
            settings: Vec::new(),
            test_addresses: Vec::new(),
            inbound: Vec::new(),
            offline: false,
        };
        let addresses = configuration.groups.iter().flat_map(|group| group.addresses.listed());
        let group = plan::RunningGroup {
            name: self.name.clone(),
            groupname: self.name.clone(),
            addresses: addresses
                .map(|known| (known.value.address(), known.value.prefix(), Default::default()))
                .collect(),
            routes: configuration
                .groups
                .iter()
                .flat_map(|group| group.all_routes())
                .map(|route| (route, Default::default()))
                .collect(),
            members: running.ports().map(member).collect(),
            ..Default::default()
        };
        let devices = running.ports().cloned().collect();
        let known = plan::Running { groups: vec![group], devices, addresses: Vec::new() };
        let planned = plan::plan(configuration, false, &known).map_err(Error::Import)?;
        Ok(planned.steps.iter().map(ToString::to_string).collect())
    }

    /// A line on each firewall rule that applies to the bond or a port, and not to the group.
    pub(in crate::cli) fn firewall_rules(&self, kernel: &Kernel) -> Result<Vec<String>, Error> {
        let ports = self
            .ports
            .iter()
            .map(|(port, _)| Ok(Interface { name: kernel.device(*port)?.name, ifindex: *port }));
        let mut interfaces = ports.collect::<Result<Vec<_>, Error>>()?;
        // A rule that names the bond applies to the group, which has its name, but not one that has its index.
        interfaces.push(Interface { name: self.kept.clone(), ifindex: self.ifindex });
        let joining = Joining { interfaces: &interfaces, group: &self.name };
        Ok(match rules(&joining) {
            Ok(found) => found.iter().map(|rule| self.describe(rule)).collect(),
            Err(error) => vec![format!("cannot read the firewall rules: {error}")],
        })
    }

    fn describe(&self, Rule { interface, place }: &Rule) -> String {
        let Self { name, kept, .. } = self;
        if interface == kept {
            return format!(
                "a firewall rule has the index of bond {name} and does not apply to group {name}: {place}"
            );
        }
        format!("a firewall rule names {interface} and does not apply to {name}: {place}")
    }
}
