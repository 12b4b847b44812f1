//! The bill of materials, in CycloneDX's JSON. It is written here, since the programs contain crates of two lock files, and
//! tools for it read one.

use super::crates::Crate;
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The document.
pub fn document(version: &str, crates: &BTreeMap<String, Crate>) -> Result<String> {
    let programs = json!({ "type": "application", "bom-ref": "ipmp", "name": "ipmp", "version": version });
    let own: Vec<&str> = ["ipmp-userspace", "ipmp-ebpf"]
        .into_iter()
        .flat_map(|name| crates.iter().filter(move |(_, one)| one.name == name).map(|(id, _)| id.as_str()))
        .collect();
    let mut dependencies = vec![json!({ "ref": "ipmp", "dependsOn": own })];
    dependencies.extend(crates.iter().map(|(id, one)| json!({ "ref": id, "dependsOn": one.uses })));
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": programs },
        "components": crates.iter().map(|(id, one)| component(id, one)).collect::<Vec<_>>(),
        "dependencies": dependencies,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn component(id: &str, one: &Crate) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": id,
        "name": one.name,
        "version": one.version,
        "licenses": [{ "expression": one.licence }],
    });
    // Without a checksum it is not from the registry, but ours.
    if let Some(checksum) = &one.checksum {
        component["purl"] = json!(format!("pkg:cargo/{id}"));
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;

    #[test]
    fn every_dependency_is_a_component() {
        let crates = super::super::crates::linked(Architecture::X86_64).unwrap();
        let document: Value = serde_json::from_str(&document("0.1.0", &crates).unwrap()).unwrap();
        let components = document["components"].as_array().unwrap();
        let known: Vec<&Value> = components.iter().map(|component| &component["bom-ref"]).collect();
        for dependency in document["dependencies"].as_array().unwrap() {
            for used in dependency["dependsOn"].as_array().unwrap() {
                assert!(known.contains(&used), "{used}");
            }
        }
        assert!(components.iter().any(|component| component["hashes"][0]["alg"] == "SHA-256"));
    }
}
