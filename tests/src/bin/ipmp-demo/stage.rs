//! The environment of a chapter: the lab, the operator, and the faults found.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use lab::{Daemon, Lab, Mac, Oracle, Snapshot, show_mac};

use crate::operator::Operator;
use crate::page;
use crate::table::Table;
use crate::traffic::{Outcome, Traffic};
use lab::tutorial::compare::{Cells, Difference, differences};
use lab::tutorial::permitted::{PERMITTED, kind};

/// The network of the tutorial.
const NETWORK: &str = "  host: e1000g0 --- cable 1 --- [          ]
        e1000g1 --- cable 2 --- [ Switch A ]
                                [          ]--- cable 4 ---[          ]
        rge0    --- cable 3 -------------------------------[ Switch B ]
                                                           [          ]
                          router 192.168.178.1   ----------[          ]
                          peer   192.168.178.22  ----------[          ]
                          peer   192.168.178.114 ----------[          ]";

/// The prompt of the tutorial's new IPMP.
pub const PROMPT: &str = "jmoekamp@hivemind:/etc# ";
/// Time between a change and the account of the traffic.
const PAUSE: Duration = Duration::from_millis(700);

/// The environment of a chapter.
pub struct Stage<'lab> {
    pub lab: &'lab Lab,
    pub operator: Operator<'lab>,
    /// The faults found so far, one sentence each.
    pub faults: Vec<String>,
    table: Table,
    /// Kinds of permitted differences found so far.
    permitted: BTreeSet<usize>,
}

/// Shows the network, builds it, and takes a snapshot of its host.
pub fn build() -> Result<(Lab, Snapshot)> {
    page::heading("The network of the tutorial (1.5)")?;
    page::block(NETWORK)?;
    let lab = Lab::tutorial()?;
    let before = Snapshot::settled(&lab)?;
    Ok((lab, before))
}

impl<'lab> Stage<'lab> {
    /// Starts a daemon, without a group, and shows the names of the addresses.
    pub fn new(lab: &'lab Lab) -> Result<Self> {
        Self::with(lab, Daemon::start_in(lab)?)
    }

    /// The same with a daemon that runs.
    pub fn with(lab: &'lab Lab, daemon: Daemon<'lab>) -> Result<Self> {
        let (table, permitted) = (Table::default(), BTreeSet::new());
        let stage = Self { lab, operator: Operator::new(lab, daemon)?, faults: Vec::new(), table, permitted };
        page::line("")?;
        stage.operator.show_names()?;
        Ok(stage)
    }

    /// Types commands of the tutorial, and shows them as they are in it beside their output.
    pub fn type_in(&self, prompt: &str, lines: &[&str]) -> Result<()> {
        let (mut tutorial, mut here) = (String::new(), String::new());
        for line in lines {
            tutorial += &format!("{prompt}{line}\n");
            here += &format!("# {line}\n{}", self.operator.run(line)?);
        }
        page::beside(&tutorial, &here)
    }

    /// Creates the group without members.
    pub fn create_group(&mut self) -> Result<()> {
        self.type_in(PROMPT, &["ifconfig production0 ipmp hivemind-prod up"])
    }

    /// Attaches a member with these commands, and waits until it is usable.
    pub fn attach(&mut self, number: usize, lines: &[&str]) -> Result<()> {
        self.type_in(PROMPT, lines)?;
        self.operator.wait_unusable(number + 1, &[])
    }

    /// Attaches a member with its test address, as the tutorial does (1.6.2), and waits until it is usable.
    pub fn attach_probed(&mut self, number: usize) -> Result<()> {
        let name = self.lab.members()[number].name();
        let line = format!("ifconfig {name} plumb hivemind-prod-{name} -failover group production0 up");
        self.attach(number, &[&line])
    }

    /// Stops the streams, which must have lost no packet, and prints their results.
    pub fn finish_traffic(&mut self, traffic: Traffic) -> Result<()> {
        let outcome = traffic.stop()?;
        page::step("total")?;
        outcome.summary()?;
        self.faults.extend(outcome.faults());
        Ok(())
    }

    /// The same after a path failure of this duration. Returns the results.
    pub fn finish_traffic_after_path_failure(&mut self, traffic: Traffic, time: Duration) -> Result<Outcome> {
        let outcome = traffic.stop()?;
        outcome.summary_of_path_failure(time)?;
        self.faults.extend(outcome.faults_of_path_failure(time));
        Ok(outcome)
    }

    /// Checks that no frame contained the group's MAC.
    pub fn verdict(&mut self, oracle: Oracle, mac: Mac) -> Result<()> {
        match oracle.verdict() {
            Ok(()) => {
                page::line(&format!("No frame on any cable contained the group's MAC, {}.", show_mac(mac)))
            }
            Err(error) => {
                self.faults.push(error.to_string());
                Ok(())
            }
        }
    }

    /// Records a fault unless `good`.
    pub fn expect(&mut self, good: bool, fault: impl Into<String>) {
        if !good {
            self.faults.push(fault.into());
        }
    }

    /// Runs a command, and shows its output beside that of the tutorial, with the differences.
    pub fn compare(&mut self, printed: &str, line: &str, cells: fn(&str) -> Cells) -> Result<()> {
        let output = self.operator.run(line)?;
        self.compare_text(printed, &format!("# {line}\n{output}"), cells)
    }

    /// The same for output that is already read.
    pub fn compare_text(&mut self, printed: &str, here: &str, cells: fn(&str) -> Cells) -> Result<()> {
        page::beside(printed, here)?;
        let found = differences(&cells(printed), &cells(here));
        let mut kinds = BTreeSet::new();
        for difference in &found {
            match kind(difference) {
                Some(kind) => drop(kinds.insert(kind)),
                None => {
                    let fault = unexpected(difference);
                    page::line(&format!("NOT AS IN THE TUTORIAL: {fault}"))?;
                    self.faults.push(fault);
                }
            }
        }
        let notes: Vec<String> = kinds.iter().map(|kind| format!("[{}]", kind + 1)).collect();
        match notes.len() {
            0 if found.is_empty() => page::line("The same in every cell.")?,
            0 => {}
            _ => page::line(&format!("The same in every cell, except for {}.", notes.join(" ")))?,
        }
        self.permitted.extend(kinds);
        page::line("")
    }

    /// Prints the permitted differences that were found.
    pub fn notes(&self) -> Result<()> {
        for kind in &self.permitted {
            let kind_of = &PERMITTED[*kind];
            page::line(&format!("  [{}] {}. {}", kind + 1, kind_of.what, kind_of.why))?;
        }
        Ok(())
    }

    /// Prints the members and their traffic.
    pub fn table(&mut self) -> Result<()> {
        self.table.print(&self.operator.group()?)
    }

    /// Waits, then prints the traffic of the members and the counters of the streams.
    pub fn account(&mut self, traffic: &mut Traffic) -> Result<()> {
        sleep(PAUSE);
        self.table()?;
        traffic.account()
    }

    /// Detaches the members and removes the group, as in the tutorial.
    pub fn tear_down(&mut self) -> Result<()> {
        let group = self.operator.group()?;
        let members = group.members.iter().map(|member| member.name.clone());
        let lines: Vec<String> =
            members.chain([group.name]).map(|interface| format!("ifconfig {interface} unplumb")).collect();
        self.type_in(PROMPT, &lines.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.operator.show("ipmpctl show")
    }

    /// Prints the permitted differences, terminates the daemon, and compares the host with its first snapshot. Returns all
    /// faults of the chapter.
    pub fn finish(self, before: &Snapshot) -> Result<Vec<String>> {
        page::heading("Permitted differences from the tutorial")?;
        self.notes()?;
        let Stage { lab, operator, mut faults, .. } = self;
        operator.stop()?;
        page::line("")?;
        let after = Snapshot::settled(lab)?;
        let differences = after.differences(before);
        page::line(&format!(
            "{} properties of the host compared (interfaces, addresses, routes, settings, pins): {} differ",
            page::number(after.len() as u64),
            differences.len()
        ))?;
        differences.iter().try_for_each(|line| page::line(&format!("  {line}")))?;
        if !differences.is_empty() {
            faults.push(format!("{} properties of the host were not restored", differences.len()));
        }
        Ok(faults)
    }

    /// Pulls the cables of members, by their numbers, and waits until the members are not usable.
    pub fn pull(&self, cables: &[usize]) -> Result<()> {
        for number in cables {
            self.lab.cable(*number).pull()?;
        }
        let names: Vec<&str> = cables.iter().map(|number| self.lab.members()[number - 1].name()).collect();
        self.operator.wait_unusable(self.lab.members().len(), &names)
    }

    /// Plugs cables in again, and waits until all members are usable.
    pub fn replug(&self, cables: &[usize]) -> Result<()> {
        for number in cables {
            self.lab.cable(*number).replug()?;
        }
        self.operator.wait_unusable(self.lab.members().len(), &[])
    }
}

fn unexpected(difference: &Difference) -> String {
    let Difference { of, cell, tutorial, here } = difference;
    let show = |text: &Option<String>| text.as_ref().map_or("missing".into(), |text| format!("\"{text}\""));
    format!("{cell} of {of} is {} in the tutorial, but {} here", show(tutorial), show(here))
}
