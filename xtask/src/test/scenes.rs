//! Scenes: several boots of one installed system, which keeps its disk. Each boot runs one test of the lab's `system`, the next step of
//! the scene, so that a host is seen to come back as it was configured.

use super::LAB;
use super::lane::LabTest;
use super::machine::{KERNEL, SYSTEM, boot, in_machine};
use super::run::{Context, SHOW_FIGURES, is_lab_test};
use super::summary::Outcome;
use crate::setup::Setup;
use crate::vm::{Card, Machine, Nic, Scratch, System};
use anyhow::{Context as _, Result, bail};
use std::time::Instant;

/// The system of all scenes.
const HOST: System = System::Debian12;

/// The cards of a host, by their numbers, in the order in which they are on the bus.
type Cards = &'static [u8];

const ALL: Cards = &[1, 2, 3];

/// Steps of a scene, in their order. The test of step N is `scene_NAME_step_N`.
struct Scene {
    name: &'static str,
    steps: &'static [Step],
}

struct Step {
    cards: Cards,
    /// The test ends the machine without an exit code, as when its power is cut.
    cuts_power: bool,
}

const fn with(cards: Cards) -> Step {
    Step { cards, cuts_power: false }
}

const SCENES: [Scene; 5] = [
    Scene {
        name: "five_commands",
        steps: &[
            with(ALL),
            with(ALL),
            with(&[1, 3]),
            Step { cards: &[3, 2, 1], cuts_power: true },
            with(&[3, 2, 1]),
        ],
    },
    Scene { name: "networkd", steps: &[with(ALL), with(ALL)] },
    Scene { name: "network_manager", steps: &[with(ALL), with(ALL)] },
    Scene { name: "cloud_init", steps: &[with(ALL), with(ALL), with(ALL)] },
    Scene { name: "without_systemd", steps: &[with(&[])] },
];

/// The names of all scenes.
pub fn names() -> Vec<&'static str> {
    SCENES.iter().map(|scene| scene.name).collect()
}

/// Runs the scenes of these names, or all.
pub fn run(only: Option<&str>, setup: &Setup, tests: &[LabTest], context: &Context) -> Vec<Outcome> {
    let scenes = SCENES.iter().filter(|scene| only.is_none_or(|only| scene.name == only));
    scenes.map(|scene| scene.outcome(setup, tests, context)).collect()
}

impl Scene {
    fn outcome(&self, setup: &Setup, tests: &[LabTest], context: &Context) -> Outcome {
        let name = format!("{LAB} scene {} on {HOST}", self.name);
        println!("\n== {name}");
        if let Err(reason) = Machine::is_supported() {
            println!("not run: {reason}");
            return Outcome::not_run(name, reason.into(), false);
        }
        let start = Instant::now();
        let result = self.run(setup, tests, context);
        let took = start.elapsed();
        match result {
            Ok(()) => {
                let result = format!("ok. {} boots", self.steps.len());
                Outcome { result, took, ..Outcome::new(name, true) }
            }
            Err(error) => {
                println!("{name}: {error:#}");
                Outcome { result: format!("{error:#}"), took, ..Outcome::new(name, false) }
            }
        }
    }

    /// Runs the steps until one fails.
    fn run(&self, setup: &Setup, tests: &[LabTest], context: &Context) -> Result<()> {
        let test = tests.iter().find(|test| is_lab_test(&test.executable, SYSTEM));
        let test = test.with_context(|| format!("{LAB} has no test {SYSTEM}"))?;
        let scratch = Scratch::new("scene")?;
        let disk = scratch.path().join("disk");
        for (number, step) in (1..).zip(self.steps) {
            let cards: Vec<_> = step.cards.iter().map(|&number| Card { number, nic: Nic::E1000 }).collect();
            let machine = Machine::prepare(KERNEL, &cards, setup)?.with_system(HOST, Some(&disk), setup)?;
            let only = format!("scene_{}_step_{number}", self.name);
            // The harness shows what a test printed at its end, which a machine without power does not reach.
            let shown = if step.cuts_power { "--nocapture" } else { SHOW_FIGURES };
            let arguments = [shown.to_owned(), "--ignored".into(), only.clone()];
            let script = in_machine(Some(HOST), &test.executable, &arguments);
            match boot(&machine, Some(HOST), &script, context)? {
                None if step.cuts_power => {}
                Some(0) if !step.cuts_power => {}
                Some(code) => bail!("{only} failed: exit code {code}"),
                None => bail!("{only} failed: the guest ended without an exit code"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_step_has_a_test() {
        let directory = crate::project::root().join("tests/tests/system");
        let files =
            fs::read_dir(directory).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
        let text: String = files.collect();
        for scene in &SCENES {
            for number in 1..=scene.steps.len() {
                let name = format!("fn scene_{}_step_{number}_", scene.name);
                assert_eq!(text.matches(&name).count(), 1, "{name}");
            }
        }
        let steps: usize = SCENES.iter().map(|scene| scene.steps.len()).sum();
        assert_eq!(text.matches("fn scene_").count(), steps, "a step that no scene runs");
    }
}
