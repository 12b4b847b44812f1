//! Changes that a killed daemon has begun: each is undone or completed, so that none stays half made.

use super::{apply, attach, destroy, detach, detach_all, firewall::Firewall};
use crate::{
    control::LastMember,
    core::Event,
    daemon::{events::trigger::Trigger, manager::Manager, state_file::Unfinished},
};

/// Undoes or completes these changes, the innermost first. All groups are adopted.
pub async fn resume(manager: &mut Manager, trigger: &Trigger) {
    while let Some(change) = manager.file.state.unfinished.last().cloned() {
        let name = change.to_string();
        let is_undone = matches!(change, Unfinished::Create { .. } | Unfinished::Attach { .. });
        let why = match change {
            Unfinished::Create { group } | Unfinished::Destroy { group } => {
                destroy::remove_group(manager, trigger, &group).await;
                None
            }
            Unfinished::Attach { group, interfaces, is_new } => {
                for name in interfaces.iter().rev() {
                    if manager.file.member(&group, name).is_some() {
                        attach::undo_join(manager, trigger, &group, name).await;
                    }
                }
                if is_new {
                    destroy::remove_group(manager, trigger, &group).await;
                }
                None
            }
            Unfinished::Detach { group, interface, last } => {
                complete_detach(manager, trigger, &group, &interface, last).await
            }
            Unfinished::DetachAll { groups } => {
                let result = detach_all::remove_groups(manager, trigger, &groups).await;
                result.err().map(|refused| refused.message)
            }
            Unfinished::Apply { files, complete } => {
                // It is recorded again when it begins.
                manager.file.state.unfinished.pop();
                let options = apply::Options { complete, firewall: Firewall::Accept, dry_run: false };
                let result = apply::apply(manager, trigger, &files, options).await;
                manager.file.state.unfinished.push(Unfinished::Apply { files: Vec::new(), complete });
                result.err().map(|refused| refused.message)
            }
        };
        manager.file.end();
        manager.log(trigger, None, &Event::ChangeInterrupted { change: name, is_undone, why });
    }
    manager.announce();
}

/// Returns the reason why it is not possible.
async fn complete_detach(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    interface: &str,
    last: Option<LastMember>,
) -> Option<String> {
    let is_member = manager.file.member(group, interface).is_some();
    if is_member {
        return detach::detach(manager, trigger, interface, last).await.err().map(|refused| refused.message);
    }
    let is_removed = matches!(last, Some(LastMember::Restore | LastMember::Force));
    if is_removed && manager.groups.get(group).is_some_and(|group| group.core.members().is_empty()) {
        destroy::remove_group(manager, trigger, group).await;
    }
    None
}
