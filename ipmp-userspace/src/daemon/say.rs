//! What the daemon says of groups: the lines of the state machine, with the group and the member as fields.

use crate::core::LogLine;

/// Logs a line.
pub fn line(group: &str, line: &LogLine) {
    let level = line.level();
    match member(line) {
        Some(member) => log::log!(level, group = group, member = member; "{line}"),
        None => log::log!(level, group = group; "{line}"),
    }
}

/// The member that a line is about.
fn member(line: &LogLine) -> Option<&str> {
    match line {
        LogLine::LinkDown { member }
        | LogLine::LinkUp { member }
        | LogLine::Failure { member, .. }
        | LogLine::Repair { member, .. }
        | LogLine::GroupUsable { member, .. }
        | LogLine::Flapping { member, .. }
        | LogLine::DuplicateMac { member, .. }
        | LogLine::UniqueMac { member, .. }
        | LogLine::Joined { member, .. }
        | LogLine::Left { member, .. }
        | LogLine::Offline { member, .. }
        | LogLine::Online { member, .. } => Some(member),
        LogLine::Moved { to, .. } | LogLine::CastMoved { to, .. } => to.as_deref(),
        LogLine::GroupUnusable { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_about_the_member_that_it_names() {
        let (eth0, group) = ("eth0".to_owned(), "production0".to_owned());
        assert_eq!(member(&LogLine::LinkDown { member: eth0.clone() }), Some("eth0"));
        assert_eq!(member(&LogLine::GroupUnusable { group: group.clone() }), None);
        let moved = LogLine::CastMoved { group, from: None, to: Some(eth0) };
        assert_eq!(member(&moved), Some("eth0"));
    }
}
