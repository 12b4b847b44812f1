//! Interfaces, addresses and routes, by rtnetlink.
//!
//! Everything goes by interface index and through netlink; nothing reads `/sys/class/net`, which shows another network
//! namespace as soon as a process joins only the network namespace.

mod address;
mod device;
mod error;
mod group_interface;
mod links;
mod route;
mod speed;
pub mod sysctl;
mod watch;

pub use address::Address;
pub use device::Device;
pub use error::Error;
pub use group_interface::GroupInterface;
pub use links::Links;
pub use route::Route;
pub use speed::speed;
pub use sysctl::Saved;
pub use watch::{Change, Watch};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
