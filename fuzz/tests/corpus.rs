//! The corpus and mutations of it: some seconds of what `cargo xtask fuzz` does for minutes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ipmp_fuzz::{
    TARGETS, Target,
    mutate::{Random, mutate},
};

/// Inputs made of each target's corpus.
const INPUTS: usize = 4000;

/// Runs one input; a panic names it.
fn run(target: &Target, input: &[u8], whence: &str) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|_| {
        let shown: String = input.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        panic!("{}: {whence}: put it into {}: {shown}", target.name, target.directory().display())
    })
}

#[test]
fn every_target_accepts_and_refuses_some_of_its_corpus() {
    for target in &TARGETS {
        let corpus = target.corpus().unwrap_or_else(|error| panic!("{}: {error}", target.name));
        assert!(corpus.iter().all(|(_, input)| input.len() <= target.longest), "{}", target.name);
        let accepted = corpus.iter().filter(|(name, input)| run(target, input, name)).count();
        println!("{}: {accepted} of {} accepted", target.name, corpus.len());
        assert!(accepted > 0 && accepted < corpus.len(), "{}: {accepted} of {}", target.name, corpus.len());
        run(target, b"", "nothing");
    }
}

#[test]
fn whatever_becomes_of_it_is_accepted_or_refused() {
    for (seed, target) in (1..).zip(&TARGETS) {
        let corpus = target.corpus().unwrap_or_else(|error| panic!("{}: {error}", target.name));
        let random = &mut Random::new(seed);
        let mut accepted = 0;
        for round in 0..INPUTS {
            let [input, other] = [0; 2].map(|_| &corpus[random.below(corpus.len())].1);
            let input = mutate(random, input, other, target.longest);
            accepted += usize::from(run(target, &input, &format!("round {round} of seed {seed}")));
        }
        println!("{}: {accepted} of {INPUTS} accepted", target.name);
        assert!(accepted > 0, "{}: not played with, but destroyed", target.name);
    }
}
