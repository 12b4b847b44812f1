//! Announces the MAC of a data address: gratuitous ARP and unsolicited Neighbour Advertisements; and
//! multicast memberships of the group: IGMP and MLD reports.
//!
//! | module | contents |
//! |---|---|
//! | `claims`, `advertisements` | claims of other hosts to the same addresses: by ARP, by Neighbour Discovery |
//! | [`schedule`] | when to send which announcement; the caller passes the time |
//! | [`corrections`] | which neighbours have missed announcements, and when they are corrected |
//! | [`frame`] | the bytes of an announcement |
//! | [`report`] | the bytes of a report |
//! | `tag` | VLAN tags of both |
//! | [`sender`] | the socket |

mod advertisements;
mod claims;
pub mod corrections;
pub mod frame;
pub mod report;
pub mod schedule;
pub mod sender;
mod tag;

pub use advertisements::Advertisements;
pub use claims::{Claim, Claims};
pub use corrections::Corrections;
pub use frame::Announcement;
pub use report::Reporter;
pub use schedule::{Pace, Schedule};
pub use sender::Sender;
