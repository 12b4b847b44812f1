//! `ipmpctl apply` and `diff`, and what the daemon does with the files at its start and on SIGHUP.

pub mod execute;
mod members;
pub mod running;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use members::remove_group;

use super::{
    attach,
    firewall::{self, Firewall},
    refusals::kernel,
};
use crate::{
    config::{
        self, Configuration, Finding, Severity, files,
        host::Host,
        plan::{self, Plan, Step},
    },
    control::{
        pending::Store,
        request::{ConfigurationFile, Refused, Response, reason},
    },
    core::Event,
    daemon::{events::trigger::Trigger, manager::Manager, returns, state_file::Unfinished},
    types::Origin,
};

/// How files are applied.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// They are all files: a group that only earlier ones describe is removed.
    pub complete: bool,
    /// Only report the steps.
    pub dry_run: bool,
    /// Although firewall rules name interfaces that join.
    pub firewall: Firewall,
}

/// Applies the files of a client, all or nothing.
pub async fn apply(
    manager: &mut Manager,
    trigger: &Trigger,
    files: &[ConfigurationFile],
    options: Options,
) -> Result<Response, Refused> {
    let texts: Vec<(PathBuf, String)> =
        files.iter().map(|file| (file.path.clone().into(), file.text.clone())).collect();
    let (configuration, findings) = config::parse(&texts);
    let (plan, running) = prepare(manager, trigger, &configuration, findings, options.complete).await?;
    let mut notes: Vec<String> = plan.steps.iter().map(Step::to_string).collect();
    notes.extend(check_firewall(manager, &plan, options.firewall, options.dry_run).await?);
    let changed = !plan.steps.is_empty();
    if !options.dry_run {
        let (plan, files) = ((&plan, &running), files.to_vec());
        notes.extend(execute_recorded(manager, trigger, plan, files, options.complete).await?);
        record(manager, &configuration);
        if options.complete {
            keep_applied(manager, &texts);
        }
    }
    manager.announce();
    Ok(Response::Done { notes, changed })
}

/// Applies the files of the configuration directory. `start`: only groups that do not exist are created, and those finished that a
/// killed daemon has begun; commands may have changed the others since.
pub async fn apply_directory(manager: &mut Manager, trigger: &Trigger, start: bool) {
    let Some(directory) = manager.configuration.clone() else { return };
    let before = if start { undo_of_earlier_boot(manager, trigger) } else { None };
    match try_apply_directory(manager, trigger, &directory, before, start).await {
        Ok(0) => {}
        Ok(changes) => manager.log(trigger, None, &Event::ConfigApplied { changes }),
        Err(refused) => manager.log(trigger, None, &Event::ConfigRefused { why: refused.message }),
    }
}

/// Undoes a change that was not confirmed before the host was started again. Returns the texts of the files before it if they
/// cannot be written: `ipmpd.service` does that as root.
fn undo_of_earlier_boot(manager: &Manager, trigger: &Trigger) -> Option<Vec<(PathBuf, String)>> {
    let store = manager.pending.as_ref()?;
    let pending = store.read_any().filter(|pending| !pending.is_of_this_boot())?;
    let why = format!("{}: not confirmed before the host was started again", pending.change);
    manager.log(trigger, None, &Event::ChangeUndone { why });
    let (path, error) = store.undo_of_earlier_boot().err()?;
    log::error!(
        "cannot restore {}: {error}; ipmpd uses the files as they were before the change",
        path.display()
    );
    let texts = pending.files.into_iter().filter_map(|file| {
        let (_, content) = file.content?;
        Some((file.path, String::from_utf8(content).ok()?))
    });
    Some(texts.collect())
}

/// Keeps the texts of the files: `apply --confirm` restores them when it is undone.
fn keep_applied(manager: &Manager, texts: &[(PathBuf, String)]) {
    if let Some(Err(error)) = manager.pending.as_ref().map(|store| store.write_applied(texts)) {
        log::debug!("cannot keep the applied files for apply --confirm: {error}");
    }
}

/// `before`: these texts and not those of the directory.
async fn try_apply_directory(
    manager: &mut Manager,
    trigger: &Trigger,
    directory: &Path,
    before: Option<Vec<(PathBuf, String)>>,
    start: bool,
) -> Result<usize, Refused> {
    if let Some(pending) = manager.pending.as_ref().and_then(Store::read) {
        return Err(Refused::new(reason::PENDING, pending.refusal()));
    }
    let (texts, mut findings) = match before {
        Some(texts) => (texts, Vec::new()),
        None => match files::found_in(directory) {
            Ok(files) => files::read_texts(&files),
            Err(finding) => return Err(bad(manager, trigger, &[finding])),
        },
    };
    // A directory that was moved away must not take the network with it.
    if texts.is_empty() && findings.is_empty() {
        return Ok(0);
    }
    let (mut configuration, more) = config::parse(&texts);
    findings.extend(more);
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(bad(manager, trigger, &findings));
    }
    let described = configuration.groups.len();
    if start {
        configuration.groups.retain(|group| {
            let saved = manager.file.group(&group.name.value).filter(|saved| !saved.unfinished);
            saved.is_none() || !manager.groups.contains_key(&group.name.value)
        });
    }
    let (plan, running) = match prepare(manager, trigger, &configuration, findings, !start).await {
        Ok(prepared) => prepared,
        Err(refused) => return Err(refused),
    };
    // They are the operator's decision, as are the rules.
    let mut notes = check_firewall(manager, &plan, Firewall::Accept, false).await?;
    let more = if start {
        start_groups(manager, trigger, &plan, &running).await?
    } else {
        let file = |(path, text): &(PathBuf, String)| ConfigurationFile {
            path: path.display().to_string(),
            text: text.clone(),
        };
        let files = texts.iter().map(file).collect();
        execute_recorded(manager, trigger, (&plan, &running), files, true).await?
    };
    notes.extend(more);
    for note in &notes {
        log::info!("{note}");
    }
    record(manager, &configuration);
    // A group that ran already can differ from the files.
    if described == configuration.groups.len() {
        keep_applied(manager, &texts);
    }
    manager.announce();
    Ok(plan.steps.len())
}

/// Makes the steps at the start of the host. Groups that are unfinished are finished by the next start.
async fn start_groups(
    manager: &mut Manager,
    trigger: &Trigger,
    plan: &Plan,
    running: &plan::Running,
) -> Result<Vec<String>, Refused> {
    let is_offline = |step: &Step| matches!(step, Step::SetOffline { .. });
    let (offline, steps): (Vec<Step>, Vec<Step>) = plan.steps.iter().cloned().partition(is_offline);
    let mut notes = execute::execute(manager, trigger, &steps, running).await?;
    for step in offline {
        // It is the only one with a link, for example: the host must be reached nevertheless.
        match execute::execute(manager, trigger, std::slice::from_ref(&step), running).await {
            Ok(more) => notes.extend(more),
            Err(refused) => notes.push(refused.message),
        }
    }
    Ok(notes)
}

/// Makes the steps, and records the files meanwhile: the next daemon applies them if this one is killed.
async fn execute_recorded(
    manager: &mut Manager,
    trigger: &Trigger,
    (plan, running): (&Plan, &plan::Running),
    files: Vec<ConfigurationFile>,
    complete: bool,
) -> Result<Vec<String>, Refused> {
    if plan.steps.is_empty() {
        return Ok(Vec::new());
    }
    manager.file.begin(Unfinished::Apply { files, complete }).map_err(|error| kernel(&error))?;
    let result = execute::execute(manager, trigger, &plan.steps, running).await;
    manager.file.end();
    result
}

/// Logs every mistake.
fn bad(manager: &Manager, trigger: &Trigger, findings: &[Finding]) -> Refused {
    let errors: Vec<&Finding> =
        findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    for finding in &errors {
        let finding = format!("{}: {}", finding.place, finding.message);
        manager.log(trigger, None, &Event::ConfigFinding { finding });
    }
    refusal(&errors)
}

fn refusal(errors: &[&Finding]) -> Refused {
    let first = errors.first().map(|finding| format!("{}: {}", finding.place, finding.message));
    let more = match errors.len() {
        0 | 1 => String::new(),
        all => format!("; {} more: `ipmpctl check` reports all", all - 1),
    };
    Refused::new(reason::BAD_CONFIGURATION, first.unwrap_or_default() + &more)
}

/// Checks everything before anything changes, and plans.
async fn prepare(
    manager: &mut Manager,
    trigger: &Trigger,
    configuration: &Configuration,
    mut findings: Vec<Finding>,
    complete: bool,
) -> Result<(Plan, plan::Running), Refused> {
    // An interface that is an absent member rejoins.
    returns::check(manager, trigger, true).await;
    let running = running::read(manager, configuration).await?;
    let interfaces = running.devices.iter().map(|device| (device.clone(), None)).collect();
    config::host::check(configuration, &Host { interfaces }, &mut findings);
    let errors: Vec<&Finding> =
        findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    if !errors.is_empty() {
        return Err(refusal(&errors));
    }
    let plan = plan::plan(configuration, complete, &running)
        .map_err(|why| Refused::new(reason::BAD_CONFIGURATION, why))?;
    for step in &plan.steps {
        if let Step::Attach { group, member } = step
            && manager.group_of(&member.name).is_none()
        {
            attach::check(manager, group, &member.name, &member.test_addresses)
                .await
                .map_err(|refused| execute::of_step(step, refused))?;
        }
    }
    Ok((plan, running))
}

/// Checks the interfaces that join: notes on firewall rules that name them.
async fn check_firewall(
    manager: &Manager,
    plan: &Plan,
    firewall: Firewall,
    dry_run: bool,
) -> Result<Vec<String>, Refused> {
    let mut joining: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for step in &plan.steps {
        if let Step::Attach { group, member } = step {
            joining.entry(group).or_default().push(member.name.clone());
        }
    }
    let mut notes = Vec::new();
    for (group, interfaces) in joining {
        notes.extend(if dry_run {
            firewall::list(manager, group, &interfaces, firewall == Firewall::Accept).await?
        } else {
            firewall::check(manager, group, &interfaces, firewall).await?
        });
    }
    Ok(notes)
}

/// Records that files describe these groups.
fn record(manager: &mut Manager, configuration: &Configuration) {
    let mut is_changed = false;
    for group in &configuration.groups {
        let Some(saved) = manager.file.state.groups.get_mut(&group.name.value) else { continue };
        is_changed |= saved.origin != Origin::File || saved.unfinished;
        (saved.origin, saved.unfinished) = (Origin::File, false);
    }
    if is_changed {
        manager.file.save_or_log();
    }
}
