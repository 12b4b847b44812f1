//! The command line of `ipmpd`.

use std::path::PathBuf;

use clap::Parser;

use crate::datapath::Interval;

const EXAMPLES: &str = "\
Examples:
  ipmpd                                  serve the present network namespace
  ipmpd --netns blue                     serve the namespace blue, on /run/ipmp/blue.sock
  ipmpd --teardown                       remove all groups and restore the NICs

Manage groups with ipmpctl.";

/// The IPMP daemon: detects failures of links and paths, and distributes the traffic of each group over its members
///
/// It runs in the foreground and logs to the journal, or to standard error (RUST_LOG=debug logs more; default: info).
/// At its start it creates the groups of the configuration files /etc/ipmp/ipmp.toml and /etc/ipmp/ipmp.d/*.toml that do not
/// exist. SIGTERM, SIGINT and SIGQUIT end it: the groups stay, the kernel keeps forwarding, and the next ipmpd adopts them. SIGHUP
/// reads all configuration files again and applies them; SIGUSR1 logs probe statistics.
#[derive(Debug, Parser)]
#[command(name = "ipmpd", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Arguments {
    /// Serve this network namespace, see ip-netns(8) [default: the one of the caller]
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// Listen on this socket [default: /run/ipmp/NAME.sock with --netns, else IPMP_SOCKET, else /run/ipmp/ipmpd.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Remove all groups, restore the configuration from before the first attach, and exit; for when no ipmpd runs
    #[arg(long, conflicts_with_all = ["socket", "datapath_log"])]
    pub teardown: bool,
    /// Load eBPF programs that log each decision; slower, for debugging
    #[arg(long)]
    pub datapath_log: bool,
    /// How often the kernel checks the members' links, 100us..100ms
    #[arg(long, value_name = "TIME", default_value = "500us")]
    pub sentinel_interval: Interval,
    /// Read the defaults of groups from this file, at start and on SIGHUP [default: /etc/default/mpathd]
    #[arg(long, value_name = "FILE", conflicts_with = "teardown")]
    pub config: Option<PathBuf>,
    /// Read the configuration files of this directory, at start and on SIGHUP [default: /etc/ipmp, with --netns
    /// /etc/netns/NAME/ipmp]
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "teardown")]
    pub config_dir: Option<PathBuf>,
    /// If there are no groups at start: create those of the files hostname.* of Solaris in this directory, with its hosts,
    /// netmasks and default/mpathd
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "teardown")]
    pub hostname_dir: Option<PathBuf>,
}
