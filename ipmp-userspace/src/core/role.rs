//! The preference list of a role: its holder, its successor, and all other members after them.
//!
//! The datapath evaluates these lists per packet (`ipmp_common::steer`), so a role moves before the daemon knows. The
//! lists are written so that the daemon's later decision is the same.

use ipmp_common::steer::{MemberSet, Preference};

/// The list that starts with these members and continues with all others.
pub fn led_by(leaders: impl IntoIterator<Item = u8>, members: &[u8]) -> Preference {
    let mut seen = MemberSet::EMPTY;
    let order: Vec<u8> = leaders
        .into_iter()
        .chain(members.iter().copied())
        .filter(|&member| {
            let new = !seen.has(member);
            seen = seen.with(member);
            new
        })
        .collect();
    Preference::new(&order)
}

/// The list as it was, reduced to the present members: while no member is active, roles do not move, and the last holder
/// may be the first to come back.
pub fn kept(list: Preference, members: &[u8]) -> Preference {
    let before = if list == Preference::EMPTY { Vec::new() } else { list.members().collect() };
    led_by(before.into_iter().filter(|member| members.contains(member)), members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_come_first_and_once() {
        assert_eq!(led_by([3, 1, 3], &[0, 1, 2, 3]), Preference::new(&[3, 1, 0, 2]));
    }

    #[test]
    fn kept_list_drops_left_members_and_appends_new_ones() {
        assert_eq!(kept(Preference::new(&[2, 0, 1]), &[1, 2, 5]), Preference::new(&[2, 1, 5]));
        assert_eq!(
            kept(Preference::EMPTY, &[1, 0]),
            Preference::new(&[1, 0]),
            "an empty list is not member 0"
        );
        assert_eq!(kept(Preference::new(&[2, 0]), &[]), Preference::EMPTY);
    }
}
