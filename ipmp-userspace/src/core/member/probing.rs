//! The probing of one member, in both families.

use std::time::Duration;

use crate::{
    core::{
        Time,
        probe::{ProbeSource, TestAddress, prober::Prober},
    },
    types::Family,
};

/// A frame of full size that has passed between two members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullFrame {
    /// Bytes behind the Ethernet header.
    pub bytes: u32,
    /// When it was received.
    pub at: Time,
}

/// The test addresses and probers of a member, and the verdict of its probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberProbing {
    /// When the member joined.
    joined: Time,
    addresses: [TestAddress; 2],
    probers: [Option<Prober>; 2],
    /// The verdict over both families.
    failed: bool,
    /// By family: another member, or the group, has the same test address, as reported.
    duplicate: [bool; 2],
    /// Since when it is not probed.
    without: Option<Time>,
    /// That was reported.
    reported_without: bool,
    /// The last frames of full size that other members have received from it, and that it has received from them.
    full_frames: [Option<FullFrame>; 2],
}

impl MemberProbing {
    pub(super) fn new(joined: Time) -> Self {
        Self { joined, ..Self::default() }
    }

    /// A member whose probes had failed in these families when an earlier daemon ended.
    pub(super) fn adopted_as_failed(families: impl Iterator<Item = Family>) -> Self {
        let mut probing = Self::default();
        for family in families {
            probing.addresses[family.index()] = TestAddress::Awaited;
            probing.probers[family.index()] = Some(Prober::new(Time::default(), true));
            probing.failed = true;
        }
        probing
    }

    /// The test address in a family.
    pub fn address(&self, family: Family) -> TestAddress {
        self.addresses[family.index()]
    }

    pub(in crate::core) fn set_address(&mut self, family: Family, address: TestAddress) {
        self.addresses[family.index()] = address;
    }

    /// The prober in a family, if the member has one.
    pub fn prober(&self, family: Family) -> Option<&Prober> {
        self.probers[family.index()].as_ref()
    }

    pub(in crate::core) fn prober_mut(&mut self, family: Family) -> Option<&mut Prober> {
        self.probers[family.index()].as_mut()
    }

    /// The probers.
    pub fn probers(&self) -> impl Iterator<Item = &Prober> {
        self.probers.iter().flatten()
    }

    pub(in crate::core) fn probers_mut(&mut self) -> impl Iterator<Item = &mut Prober> {
        self.probers.iter_mut().flatten()
    }

    /// Gives a family a prober that sends by `means`, or takes it away. `is_down`: the member has to be repaired first.
    pub(in crate::core) fn assign(&mut self, family: Family, means: Option<ProbeSource>, is_down: bool) {
        let is_wanted = self.address(family) != TestAddress::None || means.is_some();
        let prober = &mut self.probers[family.index()];
        if !is_wanted {
            *prober = None;
            return;
        }
        let (joined, failed) = (self.joined, self.failed || is_down);
        let prober = prober.get_or_insert_with(|| Prober::new(joined, failed));
        if prober.means != means {
            prober.set_means(means);
        }
    }

    /// Whether the member is probed, or would be with targets.
    pub fn enabled(&self) -> bool {
        self.probers().any(Prober::enabled)
    }

    pub(in crate::core) fn full_frame_transmitted(&mut self, at: Time, bytes: u32) {
        self.full_frames[0] = Some(FullFrame { bytes, at });
    }

    pub(in crate::core) fn full_frame_received(&mut self, at: Time, bytes: u32) {
        self.full_frames[1] = Some(FullFrame { bytes, at });
    }

    /// The bytes of frames that have passed between it and other members in both directions, and the time until which both have.
    pub fn full_frame(&self) -> Option<FullFrame> {
        let [transmitted, received] = self.full_frames;
        let (transmitted, received) = transmitted.zip(received)?;
        Some(FullFrame { bytes: transmitted.bytes.min(received.bytes), at: transmitted.at.min(received.at) })
    }

    /// Whether the probes have failed: the verdict over both families.
    pub fn failed(&self) -> bool {
        self.failed
    }

    pub(in crate::core) fn set_failed(&mut self, failed: bool) {
        self.failed = failed;
    }

    /// Sums up the verdicts of the families with targets, without any those of all; the new one, if it has changed.
    pub(in crate::core) fn turn(&mut self) -> Option<bool> {
        let failed = self.verdict();
        (std::mem::replace(&mut self.failed, failed) != failed).then_some(failed)
    }

    fn verdict(&self) -> bool {
        let mut capable = self.probers().filter(|prober| prober.capable()).peekable();
        match capable.peek() {
            Some(_) => capable.any(Prober::failed),
            None => self.probers().any(Prober::failed),
        }
    }

    /// The probes have failed in all families.
    pub(in crate::core) fn fail(&mut self) {
        self.probers_mut().for_each(Prober::fail);
        self.failed = true;
    }

    /// The link is down: earlier replies do not count, and ten new ones are needed.
    pub(in crate::core) fn link_down(&mut self) {
        self.probers_mut().filter(|prober| prober.enabled()).for_each(|prober| {
            prober.fail();
            prober.rest();
        });
        self.failed = self.verdict();
    }

    /// Sets whether another member, or the group, has the test address; what it was before.
    pub(in crate::core) fn set_duplicate(&mut self, family: Family, is_duplicate: bool) -> bool {
        std::mem::replace(&mut self.duplicate[family.index()], is_duplicate)
    }

    /// Notes whether only the link of the member shows failures, although probes could; whether the end of that is to be
    /// reported, since its beginning was.
    pub(in crate::core) fn set_without(&mut self, now: Time, is_without: bool) -> bool {
        if is_without {
            self.without.get_or_insert(now);
            return false;
        }
        self.without = None;
        let has = self.addresses.iter().any(|address| matches!(address, TestAddress::Is { .. }));
        std::mem::take(&mut self.reported_without) && has && self.enabled()
    }

    /// When it is to be reported that the member is not probed, `grace` after that began.
    pub(in crate::core) fn report_due(&self, grace: Duration) -> Option<Time> {
        self.without.filter(|_| !self.reported_without).map(|since| since + grace)
    }

    pub(in crate::core) fn set_reported(&mut self) {
        self.reported_without = true;
    }
}
