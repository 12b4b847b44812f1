//! The daemon: what happens on this host, what the groups make of it, and what is done about it.
//!
//! | module | what |
//! |---|---|
//! | [`engine`] | the loop: hints, changes, requests, deadlines, signals |
//! | `group` | one group: its state machine, its devices, its maps |
//! | `requests` | what clients ask for |
//! | `statistics` | what probes have come to, for SIGUSR1 |
//! | `settings` | what an operator sets |
//! | `mpathd` | what holds where the operator has set nothing |
//! | `targets` | whom the operator wants probed |
//! | `attach` | members come and go |
//! | `test_address` | the members' test addresses |
//! | `vet` | whether an interface can be a member |
//! | [`migrate`] | addresses and routes move without a gap |
//! | `priority` | before the machine's other work |
//! | `look` | whom the datapath trusts |
//! | `probing` | what is sent to targets, and what comes back |
//! | `table` | the routes that name targets |
//! | `alarm` | when something is due |
//! | `updelay` | trusting links where no sentinel runs |
//! | `filters` | what the members' hardware lets in |
//! | `followers` | addresses that follow the cast member |
//! | `show` | what is shown |
//! | `explain` | why a member is in its state |
//! | `recent` | what has happened to members and groups lately |
//! | `say` | what is said, to the log and to listeners, and why |
//! | [`state`] | how things were before |
//! | `lock` | one daemon a network namespace |
//! | [`logging`] | where log lines go |
//! | `journal` | the journal's protocol |
//! | `adopt` | taking over from an earlier daemon |
//! | `teardown` | putting everything back |

mod adopt;
mod alarm;
mod attach;
pub mod engine;
pub(crate) mod events;
mod explain;
mod filters;
mod followers;
mod group;
mod journal;
mod lock;
pub mod logging;
mod look;
pub mod migrate;
pub mod mpathd;
mod priority;
mod probing;
mod recent;
mod reports;
mod requests;
mod say;
mod settings;
mod show;
pub mod state;
mod statistics;
mod table;
mod targets;
mod teardown;
mod test_address;
#[cfg(test)]
mod tests;
mod updelay;
mod vet;

pub use engine::{Engine, Error};
pub use teardown::teardown;
