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
//! Every box is a network namespace of its own, every line is a [`Cable`] that can be pulled, cut silently, or cut in
//! one direction. Threads and commands enter a namespace for the network alone; the file system stays that of the
//! machine, so pins under `/sys/fs/bpf` are one truth for everybody.
//!
//! | module | what |
//! |---|---|
//! | [`network`] | [`Lab`]: builds the network, gives its parts by name |
//! | [`namespace`] | a network namespace: run closures, commands and sysctls in it |
//! | [`cable`] | pull, replug, cut, restore; statistics of the port at the far end |
//! | [`tap`] | TAP devices and the pump that is the wire between two of them |
//! | [`nic`] | the network cards of a virtual machine, and how their cables are pulled |
//! | [`remains`] | the reaper: nothing is left behind, also after SIGKILL |
//! | [`daemon`] | the real `ipmpd` and `ipmpctl` |
//! | [`monitor`] | a running `ipmpctl monitor` |
//! | [`production`] | the tutorial's group: its daemon, its oracle, what it shows |
//! | [`program`] | other people's programs: started, read, ended with the lab |
//! | [`stream`], [`flow`] | UDP streams: what was lost, when, reordered, duplicated |
//! | [`multicast`] | listening to multicast groups |
//! | [`inbound`] | a stream to a data address whose inbound member is pulled: for how long nothing comes |
//! | [`silence`] | cables that are cut silently: after how long it is noticed |
//! | [`idle`] | many groups that carry nothing: what they take |
//! | [`process`], [`busy`] | what a process takes; processors that have too much to do |
//! | [`probes`], [`forger`] | probes on the wire; somebody who forges their answers |
//! | [`bulk`] | TCP bulk transfers: stalls, resets, retransmissions |
//! | [`hosts`] | names that only the lab's commands know |
//! | [`host`] | the router and the peers: resolve an address, ping it |
//! | [`inquiry`] | who has an address? Many questions, and every answer to each |
//! | [`oracle`] | no frame on any wire ever carries the group's MAC |
//! | [`snapshot`] | how the host is, to be compared |
//! | [`alone`] | tests that measure wait for each other |
//! | [`counter`] | frames of a kind counted on every wire |
//! | [`news`] | what a plain netlink listener hears of carriers, and when |
//! | [`netlink`], [`packet`], [`filter`], [`clock`], [`command`] | what the others stand on |
//!
//! A lab needs root. Labs run side by side; each has names of its own.

pub mod alone;
pub mod bulk;
pub mod busy;
pub mod cable;
pub mod clock;
pub mod command;
pub mod counter;
pub mod daemon;
mod datagram;
mod emulator;
pub mod filter;
pub mod flow;
pub mod forger;
pub mod host;
pub mod hosts;
pub mod idle;
pub mod inbound;
pub mod inquiry;
mod lane;
pub mod monitor;
pub mod multicast;
pub mod namespace;
pub mod netlink;
pub mod network;
pub mod news;
pub mod nic;
pub mod oracle;
pub mod packet;
pub mod probes;
pub mod process;
pub mod production;
pub mod program;
pub mod remains;
pub mod silence;
pub mod snapshot;
pub mod stream;
pub mod tap;

pub use alone::Alone;
pub use bulk::Bulk;
pub use busy::Busy;
pub use cable::{Cable, Change, Direction};
pub use counter::Counters;
pub use daemon::Daemon;
pub use forger::Forger;
pub use host::Host;
pub use hosts::Hosts;
pub use inquiry::Inquiry;
pub use ipmp::link::show_mac;
pub use monitor::Monitor;
pub use namespace::Namespace;
pub use network::{Lab, Member, MemberKind, Switch};
pub use news::CarrierNews;
pub use oracle::Oracle;
pub use production::Production;
pub use program::Program;
pub use snapshot::Snapshot;
pub use stream::Stream;

/// An Ethernet address.
pub type Mac = [u8; 6];
