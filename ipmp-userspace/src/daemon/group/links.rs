//! Looking at whom the datapath trusts, and what is said of it.

use ipmp_common::steer::MemberSet;

use crate::daemon::group::{Group, Hands, UPDELAY, now};
use crate::{
    core::{Action, Cause, Event, Input},
    types::LinkState,
};

impl Group {
    /// Remembers a member's link where the daemon has to do the sentinel's work.
    pub fn link_reported(&mut self, number: u8, link: LinkState) {
        if let Some(updelay) = &mut self.updelay {
            updelay.set_link(number, link, now());
        }
    }

    /// The same of a member that an earlier daemon had: if it was trusted then, it is.
    pub fn link_adopted(&mut self, number: u8, link: LinkState) {
        match &mut self.updelay {
            Some(updelay) if link != LinkState::Down && self.datapath.live().has(number) => {
                updelay.trust(number)
            }
            _ => self.link_reported(number, link),
        }
    }

    /// Reads `live`, and acts on it. Where no sentinel runs, writes it first.
    pub async fn look(&mut self, hands: &mut Hands<'_>) {
        if let Some(updelay) = &mut self.updelay {
            let live = updelay.live(now(), UPDELAY);
            if live != self.datapath.live() {
                self.datapath.set_live(live);
            }
        }
        let live = self.datapath.live();
        let turned = self.core.members().iter().filter(|member| member.live() != live.has(member.number()));
        let lines: Vec<Action> = turned
            .map(|known| {
                let member = known.name().to_owned();
                if live.has(known.number()) {
                    Action::Report(Event::Live { member: member.clone() }, Cause::UpdelayPassed { member })
                } else {
                    Action::Report(Event::NotLive { member: member.clone() }, Cause::LinkLost { member })
                }
            })
            .collect();
        match self.core.handle(now(), Input::Live(live)) {
            Ok(mut actions) => {
                // Said before what follows from it, and done after what cannot wait.
                let at = actions.iter().position(|action| matches!(action, Action::Report(..)));
                let at = at.unwrap_or(actions.len());
                actions.splice(at..at, lines);
                self.carry_out(hands, actions).await;
            }
            Err(refusal) => log::error!(group = self.name(); "{refusal}"),
        }
        self.reports.live(live, now());
        self.report(hands);
    }

    /// The members that the datapath trusts.
    pub fn live(&self) -> MemberSet {
        self.datapath.live()
    }
}
