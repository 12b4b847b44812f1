//! DHCP in a lab: dnsmasq on the router, BusyBox's udhcpc on the host.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};

use crate::network::Lab;
use crate::program::Program;
use crate::{TIMEOUT, host};

/// The script of the client: configures the lease with `ip`, and prints a line for the test.
const SCRIPT: &str = r#"#!/bin/sh
case $1 in
deconfig)
	ip -4 address flush dev "$interface"
	;;
bound | renew)
	ip -4 address replace "$ip/$mask" dev "$interface" valid_lft "$lease" preferred_lft "$lease"
	ip route replace default via "$router" dev "$interface" metric "$METRIC"
	;;
esac
echo "lease $1 $ip"
"#;

/// Starts dnsmasq on the router, with these services, and waits until it serves.
pub fn dnsmasq(lab: &Lab, services: &[&str]) -> Result<Program> {
    let mut command = lab.router().namespace().command("dnsmasq");
    // The machine's configuration, name servers and files are not used.
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"]);
    command.args(["--log-facility=-", "--log-dhcp", "--pid-file=", "--bind-interfaces"]);
    command.arg(format!("--interface={}", host::INTERFACE));
    command.arg(format!("--dhcp-leasefile={}", lab.directory().join("leases").display()));
    command.args(services);
    let mut program = Program::start(lab, command)?;
    program.wait_line("started, version", 0, TIMEOUT)?;
    Ok(program)
}

/// Starts a DHCP client on an interface of the host. The metric is that of its default route.
pub fn udhcpc(lab: &Lab, interface: &str, metric: u32, options: &[&str]) -> Result<Program> {
    let script = lab.directory().join("lease.sh");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?;
    let mut command = lab.host().command("busybox");
    command.args(["udhcpc", "-f", "-i", interface, "-T", "1", "-t", "20", "-s"]).arg(&script).args(options);
    command.env("METRIC", metric.to_string());
    Program::start(lab, command)
}

/// Waits until the client has configured a lease (`how`: `bound` or `renew`), after the first `since` lines of its log.
/// Returns the address.
pub fn wait_lease(client: &mut Program, how: &str, since: usize) -> Result<IpAddr> {
    let line = client.wait_line(&format!("lease {how} "), since, TIMEOUT)?;
    let address = line.rsplit(' ').next().context("an empty line")?;
    address.parse().with_context(|| format!("no address in \"{line}\""))
}
