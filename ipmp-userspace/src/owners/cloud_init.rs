//! cloud-init: writes the network configuration of other programs, at the first boot and for a new instance.

use super::Host;

/// How it is kept from writing the configuration again.
pub(super) const REMEDY: &str = "write the line 'network: {config: disabled}' into \
    /etc/cloud/cloud.cfg.d/99-ipmp.cfg, so that cloud-init does not write them again";
/// Its settings.
const SETTINGS: &str = "/etc/cloud/cloud.cfg.d";
/// How many bytes of a file hold the line that names its author.
const HEADER: usize = 512;

/// Whether a file was written by cloud-init, by its name or its first lines.
pub(super) fn has_written(host: &Host, file: &str) -> bool {
    let header = |text: String| text.chars().take(HEADER).collect::<String>();
    file.contains("cloud-init")
        || host.read_if_permitted(file).map(header).is_some_and(|text| is_author(&text))
}

/// Whether the first lines of a file name cloud-init as its author.
pub fn is_author(text: &str) -> bool {
    text.lines().take_while(|line| line.starts_with('#')).any(|line| {
        line.contains("cloud-init") || line.contains("generated from information provided by the datasource")
    })
}

/// Whether it leaves the network configuration alone.
pub(super) fn is_disabled(host: &Host) -> bool {
    host.files(SETTINGS, ".cfg")
        .iter()
        .any(|file| host.read_if_permitted(file).is_some_and(|text| disables(&text)))
}

/// Whether a file of settings has `network: {config: disabled}`, in either style.
pub fn disables(text: &str) -> bool {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined: String = lines.flat_map(str::split_whitespace).collect();
    joined.contains("network:{config:disabled}") || joined.contains("network:config:disabled")
}
