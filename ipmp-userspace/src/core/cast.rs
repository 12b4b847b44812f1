//! The cast role: which member transmits and receives multicast and broadcast (docs/reference.md 4.5).
//!
//! The first member that becomes active has it. When it is no longer active, the role moves to the member that has been
//! active longest and stays there: it does not move back to a repaired member.

use ipmp_common::steer::Preference;

use super::role;

/// The cast role of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cast {
    member: Option<u8>,
    list: Preference,
}

impl Cast {
    /// The role as the datapath has it: a move that happened there stands.
    pub fn adopted(list: Preference, active: &[u8]) -> Self {
        Self { member: list.first_in(active.iter().copied().collect()), list }
    }

    /// The cast member. `None` while no member is active.
    pub fn member(&self) -> Option<u8> {
        self.member
    }

    /// The list that the datapath evaluates.
    pub fn list(&self) -> Preference {
        self.list
    }

    /// Updates the role after the active members (longest active first) or the members have changed.
    pub fn refresh(&mut self, active: &[u8], members: &[u8]) {
        self.member = self.member.filter(|member| active.contains(member)).or(active.first().copied());
        self.list = match self.member {
            Some(member) => role::led_by(std::iter::once(member).chain(active.iter().copied()), members),
            None => role::kept(self.list, members),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_moves_to_longest_active_and_stays() {
        let mut cast = Cast::default();
        let mut role = |active: &[u8]| {
            cast.refresh(active, &[0, 1, 2]);
            (cast.member(), cast.list())
        };
        assert_eq!(role(&[]), (None, Preference::new(&[0, 1, 2])));
        assert_eq!(role(&[1]), (Some(1), Preference::new(&[1, 0, 2])));
        assert_eq!(role(&[1, 0, 2]), (Some(1), Preference::new(&[1, 0, 2])));
        assert_eq!(role(&[0, 2]), (Some(0), Preference::new(&[0, 2, 1])));
        assert_eq!(role(&[0, 2, 1]), (Some(0), Preference::new(&[0, 2, 1])), "it does not move back");
        assert_eq!(
            role(&[]),
            (None, Preference::new(&[0, 2, 1])),
            "the list stays until a member is active again"
        );
        assert_eq!(role(&[2]), (Some(2), Preference::new(&[2, 0, 1])));
    }

    #[test]
    fn adopted_role_keeps_move_by_datapath() {
        assert_eq!(Cast::adopted(Preference::new(&[2, 0, 1]), &[0, 1]).member(), Some(0));
    }
}
