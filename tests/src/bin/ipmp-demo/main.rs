//! The demo: the tutorial's network, a group in it, every cable pulled and replugged under load, and what was lost.
//!
//! Everything is real: `ipmpd`, `ipmpctl`, the kernel's interfaces. The network is a lab of namespaces, which goes with
//! the demo. The exit status is 1 if anything was lost that need not be, reordered or duplicated, if a frame on any wire
//! carried the group's MAC, or if the host is not in the end as it was.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::network::DATA;
use lab::{Alone, Lab, Oracle, Snapshot, show_mac};

mod operator;
mod page;
mod table;
mod traffic;

use operator::Operator;
use table::Table;
use traffic::Traffic;

/// How long everything is left as it is, for traffic to show it.
const PAUSE: Duration = Duration::from_millis(700);
/// The cables that are pulled, two of them at once in the end. No link comes up a third time within a minute, after which
/// it would be held down for a while.
const PULLS: [&[usize]; 4] = [&[1], &[2], &[3], &[1, 2]];

const NETWORK: &str = "  host: e1000g0 --- cable 1 --- [          ]
        e1000g1 --- cable 2 --- [ Switch A ]
                                [          ]--- cable 4 ---[          ]
        rge0    --- cable 3 -------------------------------[ Switch B ]
                                                           [          ]
                          router 192.168.178.1   ----------[          ]
                          peer   192.168.178.22  ----------[          ]
                          peer   192.168.178.114 ----------[          ]";

fn main() -> ExitCode {
    match run() {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ipmp-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs it, and returns what was not as it should be.
fn run() -> Result<Vec<String>> {
    let _alone = Alone::wait()?;
    let start = Instant::now();
    page::heading("IPMP in the network of the tutorial")?;
    page::block(NETWORK)?;
    let lab = Lab::tutorial()?;
    let before = Snapshot::at_rest(&lab)?;

    page::heading("A group")?;
    let operator = Operator::new(&lab)?;
    operator.types("ip -brief address")?;
    page::line("")?;
    operator.types(&format!("ipmpctl create production0 --address {}", operator.data_address()))?;
    operator.types("ipmpctl show")?;
    page::line("")?;
    for member in lab.members() {
        operator.types(&format!("ipmpctl attach {} --group production0", member.name()))?;
    }
    operator.wait_idle(&[])?;
    operator.types("ipmpctl show")?;
    page::line("")?;
    operator.types("ip -brief address show production0")?;

    page::heading("Cables are pulled")?;
    let mac = lab.host().link("production0")?.mac;
    let oracle = Oracle::watch(&lab, mac)?;
    let mut table = Table::default();
    table.print(&operator.group()?)?;
    page::line("")?;
    let mut traffic = Traffic::start(&lab)?;
    sleep(PAUSE);
    let mut show = |what: &str, traffic: &mut Traffic| -> Result<()> {
        page::step(what)?;
        table.print(&operator.group()?)?;
        traffic.account()
    };
    show("all cables plugged in", &mut traffic)?;
    for cables in PULLS {
        let names: Vec<&str> = cables.iter().map(|number| lab.members()[number - 1].name()).collect();
        let list: Vec<String> = cables.iter().map(|number| lab.cable(*number).name().to_owned()).collect();
        let what = format!("{} ({})", list.join(" and "), names.join(", "));
        for number in cables {
            lab.cable(*number).pull()?;
        }
        operator.wait_idle(&names)?;
        sleep(PAUSE);
        show(&format!("{what} pulled"), &mut traffic)?;
        for number in cables {
            lab.cable(*number).replug()?;
        }
        operator.wait_idle(&[])?;
        sleep(PAUSE);
        show(&format!("{what} replugged"), &mut traffic)?;
    }
    let outcome = traffic.stop()?;
    let ping = lab.router().ping(DATA.into(), 3, Duration::from_millis(10), Duration::from_secs(1))?;

    page::heading("Everything as before")?;
    for member in &lab.members()[1..] {
        operator.types(&format!("ipmpctl detach {}", member.name()))?;
    }
    operator.types(&format!("ipmpctl detach {} --keep-group", lab.members()[0].name()))?;
    operator.types("ipmpctl destroy production0")?;
    operator.types("ipmpctl show")?;
    operator.ends()?;
    page::line("")?;
    let after = Snapshot::at_rest(&lab)?;
    let differences = after.differences(&before);
    page::line(&format!(
        "{} things of the host compared (interfaces, addresses, routes, settings, pins): {} differ",
        page::number(after.len() as u64),
        differences.len()
    ))?;
    differences.iter().try_for_each(|line| page::line(&format!("  {line}")))?;

    page::heading("Summary")?;
    let pulled: usize = PULLS.iter().map(|cables| cables.len()).sum();
    page::line(&format!("       {pulled} cables pulled and replugged, two of them at once"))?;
    outcome.summary()?;
    let mut faults = outcome.faults();
    match oracle.verdict() {
        Ok(()) => page::line(&format!("wires  no frame carried the group's MAC {}", show_mac(mac)))?,
        Err(error) => faults.push(error.to_string()),
    }
    if (ping.answered, ping.duplicates) != (3, 0) {
        faults.push(format!(
            "the router's 3 echo requests to {DATA} had {} answers and {} duplicates",
            ping.answered, ping.duplicates
        ));
    }
    if differences.is_empty() {
        page::line("host   as it was before the group")?;
    } else {
        faults.push(format!("{} things of the host are not as they were", differences.len()));
    }
    page::line(&format!("time   {:.0} s", start.elapsed().as_secs_f64()))?;
    page::line("")?;
    if faults.is_empty() {
        page::line("Nothing was lost that need not be.")?;
    }
    faults.iter().try_for_each(|fault| page::line(&format!("NOT GOOD: {fault}")))?;
    Ok(faults)
}
