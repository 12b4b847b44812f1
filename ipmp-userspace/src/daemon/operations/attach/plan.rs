//! `ipmpctl attach --dry-run`: what an attach would change, and what would refuse it.

use super::{
    Options,
    checks::{Check, check_all, staying},
    device,
};
use crate::{
    control::request::Refused,
    daemon::{
        manager::Manager,
        migration::Configuration,
        operations::{
            firewall::{self, Firewall},
            refusals::kernel,
            test_address,
        },
    },
};

/// The steps of an attach, one a line, and the programs that configure the interfaces. Nothing changes. Every other refusal of
/// the attach is one here, too.
pub async fn plan(
    manager: &Manager,
    group: &str,
    interfaces: &[String],
    options: Options<'_>,
) -> Result<Vec<String>, Refused> {
    let mut owners = Vec::new();
    let interfaces =
        check_all(manager, group, interfaces, options.test_addresses, Check::List(&mut owners)).await?;
    let single = (interfaces.len() == 1).then(|| interfaces[0].as_str());
    test_address::check(manager, options.test_addresses, single).await?;
    let mut lines = Vec::new();
    if !manager.groups.contains_key(group) {
        lines.push(format!("create group {group}"));
    }
    for name in &interfaces {
        let with = if options.standby { " with standby=on" } else { "" };
        lines.push(format!("{group}: attach {name}{with}"));
        let device = device(manager, name).await?;
        let all = Configuration::of(&manager.links, device.ifindex).await.map_err(|error| kernel(&error))?;
        let moving = all.without(&staying(options.test_addresses, &all.addresses));
        lines.extend(moving.addresses.iter().map(|address| format!("{group}: move {address} from {name}")));
        let routes = moving.routes.iter().filter(|route| !route.is_of_kernel());
        lines.extend(routes.map(|route| format!("{group}: move route {route} from {name}")));
        let tests = options.test_addresses.iter();
        lines.extend(tests.map(|address| format!("{name}: add test address {address}")));
    }
    let accepts = options.firewall == Firewall::Accept;
    lines.extend(firewall::list(manager, group, &interfaces, accepts).await?);
    lines.extend(owners.iter().map(|owner| format!("refused until this is done: {owner}")));
    Ok(lines)
}
