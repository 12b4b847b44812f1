//! The group in the lab, by the real daemon, asked as its users ask: through `ipmpctl`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::network::DATA;
use lab::{Daemon, Lab, clock};
use serde_json::Value;

/// The group interface.
pub const GROUP: &str = "production0";
/// How long a group may take to be as it should.
const PATIENCE: Duration = Duration::from_secs(10);

/// A group of all members of a lab, with the data address of the tutorial.
pub struct Production<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
}

impl<'lab> Production<'lab> {
    /// Creates it, and waits until every member carries.
    pub fn create(lab: &'lab Lab) -> Result<Self> {
        let daemon = Daemon::start_in(lab)?;
        daemon.ctl(&format!("create {GROUP} --address {DATA}/24"))?;
        let names: Vec<&str> = lab.members().iter().map(lab::Member::name).collect();
        daemon.ctl(&format!("attach {} --group {GROUP}", names.join(" ")))?;
        let production = Self { lab, daemon };
        production.wait_all_carry()?;
        Ok(production)
    }

    /// The member whose MAC answers for the data address.
    pub fn inbound_member(&self) -> Result<&'lab lab::Member> {
        let group = self.show()?;
        let name =
            group["addresses"][0]["inbound"].as_str().context("the data address has no inbound member")?;
        Ok(self.lab.member(name))
    }

    /// Waits until a replugged member carries again, and has the daemon forget that it was ever gone: else flap
    /// protection would soon hold back members whose cables are pulled all the time.
    pub fn restore(&self, member: &lab::Member) -> Result<()> {
        let live = clock::wait_until(PATIENCE, || {
            self.member(member.name()).is_ok_and(|member| member["live"] == true)
        });
        ensure!(live, "the link of {} is not trusted again after {PATIENCE:?}", member.name());
        self.daemon.ctl(&format!("offline {}", member.name()))?;
        self.daemon.ctl(&format!("online {}", member.name()))?;
        self.wait_all_carry()
    }

    fn wait_all_carry(&self) -> Result<()> {
        let carry = || {
            self.show().is_ok_and(|group| {
                let members = group["members"].as_array().map_or(&[][..], Vec::as_slice);
                members.len() == self.lab.members().len()
                    && members.iter().all(|member| member["live"] == true && member["usable"] == true)
            })
        };
        let all = clock::wait_until(PATIENCE, carry);
        ensure!(all, "not every member carries after {PATIENCE:?}:\n{}", self.daemon.ctl("show")?);
        Ok(())
    }

    fn member(&self, name: &str) -> Result<Value> {
        let mut group = self.show()?;
        let members = group["members"].as_array_mut().context("a group without members")?;
        let found = members.iter().position(|member| member["name"] == name);
        Ok(members.swap_remove(found.with_context(|| format!("{GROUP} has no member {name}"))?))
    }

    fn show(&self) -> Result<Value> {
        let text = self.daemon.ctl(&format!("show {GROUP} --json"))?;
        let mut reply: Value = serde_json::from_str(&text).context("`ipmpctl show --json` is no JSON")?;
        Ok(reply["groups"][0].take())
    }
}
