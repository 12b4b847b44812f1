//! The network lab: the tutorial's network on real kernel interfaces, for the end-to-end tests, the benchmarks and
//! the demo.
//!
//! ```text
//!   host: e1000g0 ──cable 1── sw1 ┐
//!         e1000g1 ──cable 2── sw2 ┤ Switch A
//!                                 └─ sw4 ──cable 4── sw4 ┐
//!         rge0    ──cable 3─────────────────────── sw3 ┤ Switch B ── router 192.168.178.1
//!                                                          ├────────── peer 192.168.178.22
//!                                                          └────────── peer 192.168.178.114
//! ```
//!
//! Every machine and switch is a network namespace, every connection a [`Cable`] that can be pulled (the carrier goes
//! down) or cut (the carrier stays, frames are dropped) in one or both directions. Threads and commands enter a
//! network namespace only. They keep the mount namespace of the machine, so pins under `/sys/fs/bpf` are visible in
//! every part of a lab.
//!
//! | module | contents |
//! |---|---|
//! | [`network`] | [`Lab`]: builds the network and returns its parts by name |
//! | [`namespace`] | a network namespace: run closures, commands and sysctls in it |
//! | [`cable`] | pull, replug, cut and restore a cable; counters of the switch port |
//! | [`tap`] | TAP devices and the thread that forwards frames between two of them |
//! | [`nic`] | emulated network cards of a virtual machine |
//! | [`cleanup`] | removes everything that a lab created, also after SIGKILL |
//! | [`link_failure`] | the ways in which a link fails |
//! | [`daemon`] | the real `ipmpd` and `ipmpctl` |
//! | [`monitor`] | a running `ipmpctl monitor` |
//! | [`random`] | random numbers from a printed seed |
//! | [`production`] | the tutorial's group: its daemon, its report, its [`Oracle`] |
//! | [`program`], [`dhcp`] | third-party programs in a lab; DHCP servers and clients |
//! | [`stream`], [`flow`] | UDP streams: loss, outages, reordering, duplicates |
//! | [`bulk`] | TCP bulk transfers: stalls, resets, retransmissions |
//! | [`ssh`] | OpenSSH: a server on the host, connections of a peer |
//! | [`multicast`] | multicast group memberships |
//! | [`inbound_failover`] | outage of a stream to a data address whose inbound member is pulled |
//! | [`path_failure`] | detection and repair time of a cable that is cut |
//! | [`idle_groups`] | CPU time and memory of many groups without traffic |
//! | [`process`], [`cpu_load`] | CPU time and memory of a process; programs that saturate all CPUs |
//! | [`probe_capture`], [`spoofer`] | captures probes; sends spoofed probe replies |
//! | [`hosts_file`] | names that only the lab's commands resolve |
//! | [`host`], [`mod@ping`] | the router and the peers; echo requests |
//! | [`neighbour`], [`resolver`] | ARP and Neighbour Discovery messages; many resolutions at the same time |
//! | [`oracle`] | checks that no frame on any cable contains the group's MAC |
//! | [`tutorial`] | the output in the tutorial, and the comparison with it |
//! | [`snapshot`] | the configuration of the host, for comparison |
//! | [`many_groups`] | many groups beside those of a test |
//! | [`measurement_lock`] | keeps tests that measure from running at the same time |
//! | [`frame_counter`] | counts frames of a kind on every cable |
//! | [`link_monitor`] | a netlink listener that records when it receives carrier changes |
//! | [`mod@wait`], [`statistics`], [`clock`] | timeouts and polling; percentiles; clock conversions, real-time priority |
//! | [`netlink`], [`packet`], [`filter`], [`command`] | netlink, packet sockets, socket filters, external commands |
//!
//! A lab needs root; [`needs_root!`] skips a test without it. Several labs can run at the same time: each has its own
//! namespace names.

pub mod bulk;
pub mod cable;
pub mod cleanup;
pub mod clock;
pub mod command;
pub mod cpu_load;
pub mod daemon;
mod datagram;
pub mod dhcp;
pub mod filter;
pub mod flow;
pub mod frame_counter;
pub mod host;
pub mod host_routes;
pub mod hosts_file;
pub mod idle_groups;
pub mod inbound_failover;
pub mod kernel_memory;
mod lane;
pub mod link_failure;
pub mod link_monitor;
pub mod log_file;
pub mod many_groups;
pub mod measurement_lock;
pub mod monitor;
pub mod multicast;
pub mod namespace;
pub mod neighbour;
pub mod netlink;
pub mod network;
pub mod nic;
pub mod oracle;
pub mod packet;
pub mod path_failure;
pub mod ping;
pub mod probe_capture;
pub mod process;
pub mod production;
pub mod program;
mod qmp;
pub mod random;
pub mod resolver;
mod root;
pub mod snapshot;
mod socket_option;
pub mod spoofer;
pub mod ssh;
pub mod statistics;
pub mod stream;
pub mod tap;
pub mod tutorial;
pub mod wait;
pub mod worker;

pub use bulk::Bulk;
pub use cable::{Cable, Change, Direction};
pub use cleanup::Cleanup;
pub use cpu_load::CpuLoad;
pub use daemon::Daemon;
pub use datagram::softnet_drops;
pub use frame_counter::FrameCounters;
pub use host::Host;
pub use hosts_file::HostsFile;
pub use ipmp::link::show_mac;
pub use lane::of_lane;
pub use link_failure::LinkFailure;
pub use link_monitor::LinkMonitor;
pub use measurement_lock::MeasurementLock;
pub use monitor::Monitor;
pub use namespace::Namespace;
pub use network::{Lab, Member, MemberKind, Switch};
pub use oracle::Oracle;
pub use ping::ping;
pub use probe_capture::ProbeCapture;
pub use production::Production;
pub use program::Program;
pub use random::Random;
pub use resolver::Resolver;
pub use root::check as check_root;
pub use snapshot::Snapshot;
pub use spoofer::Spoofer;
pub use statistics::percentile;
pub use stream::Stream;
pub use wait::{MS, SECOND, TIMEOUT, wait_until};
pub use worker::Worker;

/// An Ethernet address.
pub type Mac = [u8; 6];
