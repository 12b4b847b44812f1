//! Telling the network whose MAC answers for a data address: gratuitous ARP and unsolicited Neighbour Advertisements; and
//! which multicast the group listens to: IGMP and MLD reports.
//!
//! | module | what |
//! |---|---|
//! | [`schedule`] | when to say what: pure, told the time |
//! | [`frame`] | the bytes of an announcement |
//! | [`report`] | the bytes of a report |
//! | `tag` | either in a VLAN |
//! | [`sender`] | the socket |

pub mod frame;
pub mod report;
pub mod schedule;
pub mod sender;
mod tag;

pub use frame::Announcement;
pub use report::Reporter;
pub use schedule::Schedule;
pub use sender::Sender;
