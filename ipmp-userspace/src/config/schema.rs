//! The JSON schema of the files, for editors: from the keys that the reader accepts.

use serde_json::{Map, Value, json};

use super::{
    keys::{FILE, Kind, Table},
    value::Form,
};

/// The schema.
pub fn schema() -> Value {
    let mut schema = table(&FILE);
    let object = schema.as_object_mut().expect("a table is an object");
    object.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    object.insert("title".into(), json!("/etc/ipmp/ipmp.toml and /etc/ipmp/ipmp.d/*.toml"));
    schema
}

fn table(table: &Table) -> Value {
    let mut properties = Map::new();
    for key in table.keys {
        properties.insert(key.name.into(), with(of(key.kind), key.about));
    }
    for setting in table.settings() {
        properties.insert(setting.key.into(), with(of_setting(&Form::of(&setting)), setting.about));
    }
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn with(mut schema: Value, about: &str) -> Value {
    schema.as_object_mut().expect("a schema is an object").insert("description".into(), json!(about));
    schema
}

fn of(kind: Kind) -> Value {
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Number => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Texts => texts(),
        Kind::TextsOrExternal => json!({ "anyOf": [texts(), { "const": "external" }] }),
        Kind::Table(content) => table(content),
        Kind::Tables(content) => json!({ "type": "array", "items": table(content) }),
        Kind::Named(content) => json!({ "type": "object", "additionalProperties": table(content) }),
    }
}

fn of_setting(form: &Form) -> Value {
    match form {
        Form::Boolean(_, _, words) if words.is_empty() => json!({ "type": "boolean" }),
        Form::Boolean(_, _, words) => json!({ "anyOf": [{ "type": "boolean" }, { "enum": words }] }),
        Form::Words(words) => json!({ "enum": words }),
        Form::Number(least, most, words) => {
            let number = json!({ "type": "integer", "minimum": least, "maximum": most });
            if words.is_empty() { number } else { json!({ "anyOf": [number, { "enum": words }] }) }
        }
        Form::Quantity(_, most, words) => {
            let quantity = if most.ends_with('%') { "[0-9]+(\\.[0-9]{1,2})?%" } else { "[0-9]+(ms|s)" };
            let words = words.iter().map(|word| format!("{word}|")).collect::<String>();
            let pattern =
                if words.is_empty() { format!("^{quantity}$") } else { format!("^({words}{quantity})$") };
            json!({ "type": "string", "pattern": pattern })
        }
        Form::Addresses => {
            json!({ "anyOf": [{ "type": "array", "items": { "type": "string" }, "minItems": 1 }, { "const": "auto" }] })
        }
    }
}
