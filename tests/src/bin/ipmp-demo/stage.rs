//! Where a chapter is played: the lab, somebody at its shell, and what was not as it should be.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Lab, Mac, Oracle, Snapshot, show_mac};

use crate::compare::{Cells, Difference, differences};
use crate::operator::Operator;
use crate::page;
use crate::permitted::{PERMITTED, kind};
use crate::table::Table;
use crate::traffic::Traffic;

/// The network of the tutorial.
const NETWORK: &str = "  host: e1000g0 --- cable 1 --- [          ]
        e1000g1 --- cable 2 --- [ Switch A ]
                                [          ]--- cable 4 ---[          ]
        rge0    --- cable 3 -------------------------------[ Switch B ]
                                                           [          ]
                          router 192.168.178.1   ----------[          ]
                          peer   192.168.178.22  ----------[          ]
                          peer   192.168.178.114 ----------[          ]";

/// How long everything is left as it is, for traffic to show it.
const PAUSE: Duration = Duration::from_millis(700);

/// The stage.
pub struct Stage<'lab> {
    pub lab: &'lab Lab,
    pub operator: Operator<'lab>,
    /// What was not as it should be, a sentence each.
    pub faults: Vec<String>,
    table: Table,
    /// Kinds of permitted differences that were seen.
    seen: BTreeSet<usize>,
}

/// Shows the network, builds it, and keeps how its host is before anything has happened.
pub fn build() -> Result<(Lab, Snapshot)> {
    page::heading("The network of the tutorial (1.5)")?;
    page::block(NETWORK)?;
    let lab = Lab::tutorial()?;
    let before = Snapshot::settled(&lab)?;
    Ok((lab, before))
}

impl<'lab> Stage<'lab> {
    /// With a daemon and no group yet; shows the names of its addresses.
    pub fn new(lab: &'lab Lab) -> Result<Self> {
        let (table, seen) = (Table::default(), BTreeSet::new());
        let stage = Self { lab, operator: Operator::new(lab)?, faults: Vec::new(), table, seen };
        page::line("")?;
        stage.operator.types("grep hivemind /etc/hosts")?;
        Ok(stage)
    }

    /// Creates the group without members, beside the tutorial's way.
    pub fn create_group(&mut self) -> Result<()> {
        let create = format!("ipmpctl create production0 --address {}", self.operator.data_address());
        let said = self.operator.asks(&create)?;
        page::beside(
            "jmoekamp@hivemind:/etc# ifconfig production0 ipmp hivemind-prod up",
            &format!("# {create}\n{said}"),
        )
    }

    /// Says whether a frame carried the group's MAC.
    pub fn verdict(&mut self, oracle: Oracle, mac: Mac) -> Result<()> {
        match oracle.verdict() {
            Ok(()) => {
                page::line(&format!("On no wire did a frame carry the group's MAC, {}.", show_mac(mac)))
            }
            Err(error) => {
                self.faults.push(error.to_string());
                Ok(())
            }
        }
    }

    /// What is a fault unless it is so.
    pub fn expect(&mut self, good: bool, fault: impl Into<String>) {
        if !good {
            self.faults.push(fault.into());
        }
    }

    /// Types a command, and shows what it printed beside what the tutorial printed, and what differs.
    pub fn compare(&mut self, printed: &str, line: &str, cells: fn(&str) -> Cells) -> Result<()> {
        let said = self.operator.asks(line)?;
        self.compare_text(printed, &format!("# {line}\n{said}"), cells)
    }

    /// The same of what was printed already.
    pub fn compare_text(&mut self, printed: &str, here: &str, cells: fn(&str) -> Cells) -> Result<()> {
        page::beside(printed, here)?;
        let found = differences(&cells(printed), &cells(here));
        let mut kinds = BTreeSet::new();
        for difference in &found {
            match kind(difference) {
                Some(kind) => drop(kinds.insert(kind)),
                None => {
                    let sentence = unexpected(difference);
                    page::line(&format!("NOT AS THE TUTORIAL: {sentence}"))?;
                    self.faults.push(sentence);
                }
            }
        }
        let notes: Vec<String> = kinds.iter().map(|kind| format!("[{}]", kind + 1)).collect();
        match notes.len() {
            0 if found.is_empty() => page::line("The same, cell by cell.")?,
            0 => {}
            _ => page::line(&format!("The same, cell by cell, but for {}.", notes.join(" ")))?,
        }
        self.seen.extend(kinds);
        page::line("")
    }

    /// Prints what differed from the tutorial and was meant to.
    pub fn notes(&self) -> Result<()> {
        for kind in &self.seen {
            let permitted = &PERMITTED[*kind];
            page::line(&format!("  [{}] {}. {}", kind + 1, permitted.what, permitted.why))?;
        }
        Ok(())
    }

    /// Prints who carries what.
    pub fn table(&mut self) -> Result<()> {
        self.table.print(&self.operator.group()?)
    }

    /// Lets traffic flow for a while, then prints who carried what, and what was lost.
    pub fn account(&mut self, traffic: &mut Traffic) -> Result<()> {
        sleep(PAUSE);
        self.table()?;
        traffic.account()
    }

    /// The members go before the group does, as in the tutorial.
    pub fn tear_down(&mut self) -> Result<()> {
        let names: Vec<&str> = self.lab.members().iter().map(lab::Member::name).collect();
        let (last, others) = names.split_last().context("a lab without members")?;
        for name in others {
            self.operator.types(&format!("ipmpctl detach {name}"))?;
        }
        self.operator.types(&format!("ipmpctl detach {last} --keep-group"))?;
        self.operator.types("ipmpctl destroy production0")?;
        self.operator.types("ipmpctl show")
    }

    /// Prints what differed and was meant to, ends the daemon, and compares the host with what it was before. Returns what
    /// was not as it should be, of all of the chapter.
    pub fn finish(self, before: &Snapshot) -> Result<Vec<String>> {
        page::heading("What differs from the tutorial, and is meant to")?;
        self.notes()?;
        let Stage { lab, operator, mut faults, .. } = self;
        operator.ends()?;
        page::line("")?;
        let after = Snapshot::settled(lab)?;
        let differences = after.differences(before);
        page::line(&format!(
            "{} things of the host compared (interfaces, addresses, routes, settings, pins): {} are not as before",
            page::number(after.len() as u64),
            differences.len()
        ))?;
        differences.iter().try_for_each(|line| page::line(&format!("  {line}")))?;
        if !differences.is_empty() {
            faults.push(format!("{} things of the host are not as they were", differences.len()));
        }
        Ok(faults)
    }

    /// Pulls the cables of these members, by their numbers, and waits until the group knows.
    pub fn pull(&self, cables: &[usize]) -> Result<()> {
        for number in cables {
            self.lab.cable(*number).pull()?;
        }
        let names: Vec<&str> = cables.iter().map(|number| self.lab.members()[number - 1].name()).collect();
        self.operator.wait_idle(self.lab.members().len(), &names)
    }

    /// Plugs them in again, and waits until all members carry.
    pub fn replug(&self, cables: &[usize]) -> Result<()> {
        for number in cables {
            self.lab.cable(*number).replug()?;
        }
        self.operator.wait_idle(self.lab.members().len(), &[])
    }
}

fn unexpected(difference: &Difference) -> String {
    let Difference { of, cell, tutorial, here } = difference;
    let show = |text: &Option<String>| text.as_ref().map_or("nothing".into(), |text| format!("\"{text}\""));
    format!("{cell} of {of} is {} in the tutorial, and here {}", show(tutorial), show(here))
}
