//! Which weights a rule is about.

use graph::{Role, Weight};
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A weight's name, a role's name, or `re:` and a regular expression that must match somewhere in the name.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl Pattern {
    /// Whether a weight is meant. A role means its matrices, not the biases beside them.
    pub fn matches(&self, weight: &Weight) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(&weight.name),
            None => weight.name == self.text || (self.role_is(weight.place.role) && !weight.place.bias),
        }
    }

    fn role_is(&self, role: Role) -> bool {
        role.name() == self.text
    }

    /// Whether something of this name is meant.
    pub fn matches_name(&self, name: &str) -> bool {
        self.regex.as_ref().map_or(name == self.text, |regex| regex.is_match(name))
    }

    /// Whether it names exactly one weight, rather than describing several.
    pub fn is_name_of(&self, weight: &Weight) -> bool {
        self.regex.is_none() && weight.name == self.text
    }
}

impl FromStr for Pattern {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Pattern, regex::Error> {
        let regex = text.strip_prefix("re:").map(Regex::new).transpose()?;
        Ok(Pattern { text: text.into(), regex })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Pattern, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
