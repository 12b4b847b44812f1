//! The result for a frame: verdict, bytes and every counter, checked together.

use ipmp::datapath::Group;
use ipmp_common::{
    maps::{Counters, Drops},
    steer::MAX_MEMBERS,
};

use crate::frames::{member_mac, with_source};

/// A frame for a message of failure.
pub fn show(frame: &[u8]) -> String {
    let bytes: Vec<String> = frame.iter().take(160).map(|byte| format!("{byte:02x}")).collect();
    format!("[{}] {}", frame.len(), bytes.join(" "))
}

/// What a program said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// TC_ACT_REDIRECT
    Redirect,
    /// TC_ACT_SHOT
    Drop,
    /// TC_ACT_UNSPEC: the next program decides.
    Next,
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug)]
pub enum Reason {
    NoMember,
    ForeignSource,
    Truncated,
    Reflected,
    OtherCopy,
}

/// Every counter of the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub members: [Counters; MAX_MEMBERS],
    pub drops: Drops,
}

impl Tally {
    /// What was counted up to now.
    pub fn of(group: &Group) -> Self {
        let members = std::array::from_fn(|number| group.counters(number as u8).unwrap());
        Self { members, drops: group.drops().unwrap() }
    }

    /// What was counted since then.
    pub fn since(&self, before: &Self) -> Self {
        let members = std::array::from_fn(|number| {
            let (now, then) = (&self.members[number], &before.members[number]);
            Counters {
                out_packets: now.out_packets - then.out_packets,
                out_bytes: now.out_bytes - then.out_bytes,
                in_packets: now.in_packets - then.in_packets,
                in_bytes: now.in_bytes - then.in_bytes,
                failed_over_packets: now.failed_over_packets - then.failed_over_packets,
            }
        });
        let (now, then) = (&self.drops, &before.drops);
        let drops = Drops {
            no_member: now.no_member - then.no_member,
            foreign_source: now.foreign_source - then.foreign_source,
            truncated: now.truncated - then.truncated,
            reflected: now.reflected - then.reflected,
            other_copy: now.other_copy - then.other_copy,
            captured: now.captured - then.captured,
        };
        Self { members, drops }
    }

    /// One frame of this length sent by a member.
    pub fn sent(member: u8, length: usize) -> Self {
        let mut tally = Self::default();
        let mine = &mut tally.members[usize::from(member)];
        (mine.out_packets, mine.out_bytes) = (1, length as u64);
        tally
    }

    /// One frame of this length received by a member.
    pub fn received(member: u8, length: usize) -> Self {
        let mut tally = Self::default();
        let mine = &mut tally.members[usize::from(member)];
        (mine.in_packets, mine.in_bytes) = (1, length as u64);
        tally
    }

    /// One drop.
    pub fn dropped(reason: Reason) -> Self {
        let mut tally = Self::default();
        *match reason {
            Reason::NoMember => &mut tally.drops.no_member,
            Reason::ForeignSource => &mut tally.drops.foreign_source,
            Reason::Truncated => &mut tally.drops.truncated,
            Reason::Reflected => &mut tally.drops.reflected,
            Reason::OtherCopy => &mut tally.drops.other_copy,
        } = 1;
        tally
    }
}

/// The result for a frame.
#[derive(Debug)]
pub struct Outcome {
    pub what: String,
    pub verdict: Verdict,
    pub sent: Vec<u8>,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// What was counted.
    pub counted: Tally,
}

impl Outcome {
    #[track_caller]
    fn is(&self, verdict: Verdict, frame: &[u8], counted: &Tally) {
        assert!(
            self.verdict == verdict && self.frame == frame && self.counted == *counted,
            "{} was given\n  {}\nsaid {:?} instead of {verdict:?} and left\n  {}\ninstead of\n  {}\nand counted {} instead of {}",
            self.what,
            show(&self.sent),
            self.verdict,
            show(&self.frame),
            show(frame),
            brief(&self.counted),
            brief(counted),
        );
    }

    /// It left through this member, the most preferred, as these bytes; that was counted and nothing else.
    #[track_caller]
    pub fn leaves_by(&self, member: u8, frame: &[u8]) {
        assert_eq!(frame[6..12], member_mac(member), "the expected frame is not member {member}'s");
        self.is(Verdict::Redirect, frame, &Tally::sent(member, self.sent.len()));
    }

    /// It left through this member, after a failover from a more preferred one.
    #[track_caller]
    pub fn leaves_instead_by(&self, member: u8, frame: &[u8]) {
        assert_eq!(frame[6..12], member_mac(member), "the expected frame is not member {member}'s");
        let mut counted = Tally::sent(member, self.sent.len());
        counted.members[usize::from(member)].failed_over_packets = 1;
        self.is(Verdict::Redirect, frame, &counted);
    }

    /// It was handed to the group interface as received by this member, as these bytes.
    #[track_caller]
    pub fn is_taken(&self, member: u8, frame: &[u8]) {
        self.is(Verdict::Redirect, frame, &Tally::received(member, self.sent.len()));
    }

    /// It was left alone.
    #[track_caller]
    pub fn is_untouched(&self) {
        self.is(Verdict::Next, &self.sent, &Tally::default());
    }

    /// It was dropped, and nothing but the reason counted.
    #[track_caller]
    pub fn is_dropped(&self, reason: Reason) {
        self.is(Verdict::Drop, &self.sent, &Tally::dropped(reason));
    }

    /// The member that it left through, be it the most preferred or not.
    #[track_caller]
    pub fn carrier_or_stand_in(&self) -> u8 {
        assert_eq!(self.verdict, Verdict::Redirect, "{} {}", self.what, show(&self.sent));
        self.frame[11]
    }

    /// The member that it left through, by its source MAC and by the counters, which agree.
    #[track_caller]
    pub fn carrier(&self) -> u8 {
        assert_eq!(self.verdict, Verdict::Redirect, "{} {}", self.what, show(&self.sent));
        let [2, 0, 0, 0, 1, member] = self.frame[6..12] else {
            panic!("{} left no member's source: {}", self.what, show(&self.frame))
        };
        self.leaves_by(member, &with_source(&self.sent, member_mac(member)));
        member
    }
}

/// The counters that are not zero.
fn brief(tally: &Tally) -> String {
    let members: Vec<String> = tally
        .members
        .iter()
        .enumerate()
        .filter(|(_, counters)| **counters != Counters::default())
        .map(|(number, counters)| format!("member {number} {counters:?}"))
        .collect();
    format!("{} {:?}", members.join(", "), tally.drops)
}
