//! A role's list: who has the role, who takes it over, and everybody else after them.
//!
//! The kernel evaluates these lists per packet (`ipmp_common::steer`), so a role is taken over before the daemon
//! knows. The lists are written so that its later decision is the same.

use ipmp_common::steer::{MemberSet, Preference};

/// The list that begins with these members and goes on with all others.
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

/// The list as it was, of the members there are now: while nobody is active, nobody takes a role over, and whoever
/// had it may be the first to come back.
pub fn kept(list: Preference, members: &[u8]) -> Preference {
    let before = if list == Preference::EMPTY { Vec::new() } else { list.members().collect() };
    led_by(before.into_iter().filter(|member| members.contains(member)), members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_come_first_and_nobody_comes_twice() {
        assert_eq!(led_by([3, 1, 3], &[0, 1, 2, 3]), Preference::new(&[3, 1, 0, 2]));
    }

    #[test]
    fn a_kept_list_loses_who_left_and_gains_who_joined() {
        assert_eq!(kept(Preference::new(&[2, 0, 1]), &[1, 2, 5]), Preference::new(&[2, 1, 5]));
        assert_eq!(kept(Preference::EMPTY, &[1, 0]), Preference::new(&[1, 0]), "nobody is not member 0");
        assert_eq!(kept(Preference::new(&[2, 0]), &[]), Preference::EMPTY);
    }
}
