//! What is logged and published: the event log, its history, the logger, the journal.

mod cause;
pub(in crate::daemon) mod event_log;
pub(in crate::daemon) mod history;
mod journal;
pub mod logging;
pub mod table;
