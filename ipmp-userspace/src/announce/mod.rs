//! Telling the network whose MAC answers for a data address: gratuitous ARP and unsolicited Neighbour Advertisements.
//!
//! | module | what |
//! |---|---|
//! | [`schedule`] | when to say what: pure, told the time |
//! | [`frame`] | the bytes |
//! | [`sender`] | the socket |

pub mod frame;
pub mod schedule;
pub mod sender;

pub use frame::Announcement;
pub use schedule::Schedule;
pub use sender::Sender;
