//! Values of settings in TOML. The table of settings has the values of `KEY=VALUE`; from these follow the type in TOML and the
//! remedy if a value is wrong.

use toml::de::DeValue;

use crate::control::setting::Description;

/// How a setting is written in TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `true` or `false`, with the words for them in `KEY=VALUE`, or a string, one of these.
    Boolean(&'static str, &'static str, Vec<&'static str>),
    /// A string, one of these.
    Words(Vec<&'static str>),
    /// A number in this range, or a string, one of these.
    Number(i64, i64, Vec<&'static str>),
    /// A string with a unit, in this range, or one of these.
    Quantity(&'static str, &'static str, Vec<&'static str>),
    /// An array of addresses, or the string `auto`.
    Addresses,
}

impl Form {
    /// The form of a setting.
    pub fn of(setting: &Description) -> Self {
        let parts: Vec<&'static str> = setting.values.split('|').collect();
        match parts.as_slice() {
            ["yes", "no", words @ ..] => return Self::Boolean("yes", "no", words.to_vec()),
            ["on", "off"] => return Self::Boolean("on", "off", Vec::new()),
            _ if setting.values.contains("ADDRESS") => return Self::Addresses,
            _ => {}
        }
        let (ranges, words): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.contains(".."));
        let Some((least, most)) = ranges.first().and_then(|range| range.split_once("..")) else {
            return Self::Words(words);
        };
        match (least.parse(), most.parse()) {
            (Ok(least), Ok(most)) => Self::Number(least, most, words),
            _ => Self::Quantity(least, most, words),
        }
    }

    /// What to write.
    pub fn remedy(&self) -> String {
        let quoted =
            |words: &[&str]| words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        match self {
            Self::Boolean(_, _, words) if words.is_empty() => "true or false".into(),
            Self::Boolean(_, _, words) => format!("true, false or {}", quoted(words)),
            Self::Words(words) => format!("one of {}", quoted(words)),
            Self::Number(least, most, words) if words.is_empty() => {
                format!("a number from {least} to {most}")
            }
            Self::Number(least, most, words) => {
                format!("{} or a number from {least} to {most}", quoted(words))
            }
            Self::Quantity(least, most, words) => {
                let noun = if most.ends_with('%') { "a share" } else { "a time" };
                let words = words.iter().map(|word| format!("{word:?} or ")).collect::<String>();
                format!("{words}{noun} from {least:?} to {most:?}")
            }
            Self::Addresses => "\"auto\" or an array of addresses".into(),
        }
    }

    /// The value as `KEY=VALUE` has it; `None`: it has another type.
    pub fn text(&self, value: &DeValue<'_>) -> Option<String> {
        match (self, value) {
            (Self::Boolean(yes, no, _), DeValue::Boolean(is)) => {
                Some((*if *is { yes } else { no }).to_owned())
            }
            (
                Self::Boolean(_, _, words) | Self::Words(words) | Self::Number(_, _, words),
                DeValue::String(text),
            ) => words.contains(&text.as_ref()).then(|| text.to_string()),
            (Self::Number(..), DeValue::Integer(number)) if number.radix() == 10 => {
                Some(number.as_str().to_owned())
            }
            (Self::Quantity(..), DeValue::String(text)) => Some(text.to_string()),
            (Self::Addresses, DeValue::String(text)) if text == "auto" => Some(text.to_string()),
            _ => None,
        }
    }
}

/// A value as it is written in a message.
pub fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "an array".into(),
        DeValue::Table(_) => "a table".into(),
    }
}
