//! Events of groups and members: their texts, severities and fields.

pub mod cause;
pub mod table;
