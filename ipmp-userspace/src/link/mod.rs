//! Interfaces, addresses and routes, by rtnetlink.
//!
//! Everything goes by interface index, through netlink or a socket's `ioctl`; nothing reads `/sys/class/net`, which shows another network
//! namespace as soon as a process joins only the network namespace.

mod address;
mod bond;
mod device;
mod dump;
mod error;
mod event_socket;
mod filter;
mod group_interface;
mod ioctl;
mod links;
mod lookup;
mod membership;
pub mod multicast;
mod neighbour;
mod nexthop;
mod request_socket;
mod route;
mod route_dump;
mod route_entry;
mod route_watch;
mod rules;
mod speed;
pub mod sysctl;
mod test_address;
mod watch;

pub use address::Address;
pub use bond::BondOptions;
pub use device::Device;
pub use error::Error;
pub use filter::vlan_filter_of;
pub use group_interface::GroupInterface;
pub use ioctl::Ioctl;
pub use links::Links;
pub use lookup::{Lookup, LookupWatch};
pub use membership::{Memberships, memberships};
pub use neighbour::Neighbour;
pub use nexthop::Nexthop;
pub use route::{Destination, Route, USUAL_V6_METRIC};
pub use route_dump::{read_lookups, read_routes_through};
pub use route_entry::RouteEntry;
pub use route_watch::{RouteChange, RouteWatch};
pub use speed::speed;
pub use sysctl::Saved;
pub use watch::{Change, Watch};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A MAC as text: `02:00:5e:00:00:01`.
pub fn show_mac(mac: Mac) -> String {
    ipmp_common::address::Mac::from(mac).to_string()
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
