//! What the tutorial printed, typed in from it, beside this file: as it is printed there, with the dashes that its
//! typesetting swallowed.

/// 1.6: the group just created.
pub const GROUP: &str = include_str!("tutorial/1.6-production0.txt");
/// 1.6.1: a member.
pub const RGE0: &str = include_str!("tutorial/1.6.1-rge0.txt");
/// 1.6.1: all members, before anything happens.
pub const INITIAL: &str = include_str!("tutorial/1.6.1-initial.txt");
/// 1.6.1: cable 1 is out.
pub const CABLE_1_OUT: &str = include_str!("tutorial/1.6.1-cable-1-out.txt");
/// 1.6.1: cable 1 is in again.
pub const CABLE_1_IN: &str = include_str!("tutorial/1.6.1-cable-1-in.txt");
/// 1.6.1: cable 4 is out.
pub const CABLE_4_OUT: &str = include_str!("tutorial/1.6.1-cable-4-out.txt");
/// 1.6.2: the group without members, then with one, two and three. 1.6.1 shows no such tables.
pub const JOINING: [&str; 4] = [
    include_str!("tutorial/1.6.2-empty.txt"),
    include_str!("tutorial/1.6.2-one.txt"),
    include_str!("tutorial/1.6.2-two.txt"),
    include_str!("tutorial/1.6.2-three.txt"),
];
