//! The plan: every decision, resolved; its predicted bytes, memory and time. A person may read it, edit it, and run it.

use crate::cost::{self, Prediction, Setting};
use crate::names::{meant, serde_encoding};
use crate::{Container, Method, PlanError, Recipe, Spent};
use codec::Encoding;
use graph::{Model, Place, Weight};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Every decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// What is written.
    pub container: Container,
    /// What all weights follow: `q4_k_m`, or `keep`.
    pub mix: String,
    /// Elements of all weights.
    pub parameters: u64,
    /// What it will take.
    pub prediction: Prediction,
    /// How a budget was spent on units of the model, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
    /// How many tokens of the calibration text reach each expert of a layer, where that was counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub experts: Vec<ExpertTokens>,
    /// What was asked for.
    pub recipe: Recipe,
    /// Every weight, in the order of the model.
    pub tensors: Vec<PlannedTensor>,
}

/// Tokens of calibration text that the router of a layer sends to its experts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExpertTokens {
    /// The decoder layer.
    pub layer: usize,
    /// To each expert.
    pub tokens: Vec<u64>,
}

impl ExpertTokens {
    /// Experts that no token reaches.
    pub fn unseen(&self) -> Vec<usize> {
        self.tokens.iter().enumerate().filter(|(_, tokens)| **tokens == 0).map(|(expert, _)| expert).collect()
    }
}

/// What becomes of one weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlannedTensor {
    /// Its name in the source.
    pub name: String,
    /// The name of its role.
    pub role: String,
    /// Its decoder layer, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// How it lies in the source.
    #[serde(with = "serde_encoding")]
    pub from: Encoding,
    /// How it will lie.
    #[serde(with = "serde_encoding")]
    pub to: Encoding,
    /// Its bytes in the source, scales counted.
    pub bytes_before: u64,
    /// Its bytes in the artifact, scales counted.
    pub bytes_after: u64,
    /// Why it becomes that.
    pub reason: String,
    /// What the preset gives to longer rows, where these are no multiple of its blocks.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "serde_fallback")]
    pub instead_of: Option<Encoding>,
    /// How its codes are chosen.
    #[serde(default, skip_serializing_if = "is_round")]
    pub method: Method,
}

fn is_round(method: &Method) -> bool {
    *method == Method::Round
}

impl PlannedTensor {
    /// Plans one weight. Fails where its shape does not fit the encoding.
    pub fn new(weight: &Weight, to: Encoding, reason: String) -> Result<PlannedTensor, PlanError> {
        let error = |why| PlanError::DoesNotFit { tensor: weight.name.clone(), why };
        let bytes = |e: Encoding| e.bytes(weight.rows(), weight.cols()).map(|b| b as u64).map_err(error);
        Ok(PlannedTensor {
            name: weight.name.clone(),
            role: role_name(weight.place),
            layer: weight.place.layer,
            shape: weight.shape.clone(),
            from: weight.encoding,
            to,
            bytes_before: bytes(weight.encoding)?,
            bytes_after: bytes(to)?,
            reason,
            instead_of: None,
            method: Method::Round,
        })
    }

    /// Elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }
}

fn role_name(place: Place) -> String {
    if place.bias { format!("{}_bias", place.role) } else { place.role.to_string() }
}

/// All weights of one role together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoleSummary {
    /// How many there are.
    pub tensors: usize,
    /// Their elements.
    pub elements: u64,
    /// Their bytes in the source.
    pub bytes_before: u64,
    /// Their bytes in the artifact.
    pub bytes_after: u64,
    /// What they become, and how many of them.
    pub encodings: BTreeMap<String, usize>,
}

impl Plan {
    /// Reads a plan from JSON or TOML.
    pub fn load(text: &str) -> Result<Plan, PlanError> {
        let unreadable = |message: String, field: &str| PlanError::Unreadable {
            note: meant(&crate::recipe::field_suggestion(field)),
            message,
        };
        if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|e| unreadable(e.to_string(), &e.to_string()))
        } else {
            toml::from_str(text).map_err(|e| unreadable(e.to_string(), e.message()))
        }
    }

    /// The plan as TOML; [`Plan::load`] reads it back.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// Bytes of all weights in the source.
    pub fn bytes_before(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes_before).sum()
    }

    /// Bytes of all weights in the artifact, without the container's own.
    pub fn bytes_after(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes_after).sum()
    }

    /// Bits per weight of the whole artifact, the container's own bytes counted.
    pub fn bpw(&self) -> f64 {
        self.prediction.artifact.0 as f64 * 8.0 / self.parameters.max(1) as f64
    }

    /// Sums by role, in alphabetical order.
    pub fn by_role(&self) -> BTreeMap<&str, RoleSummary> {
        let mut roles: BTreeMap<&str, RoleSummary> = BTreeMap::new();
        for tensor in &self.tensors {
            let role = roles.entry(&tensor.role).or_default();
            role.tensors += 1;
            role.elements += tensor.elements();
            role.bytes_before += tensor.bytes_before;
            role.bytes_after += tensor.bytes_after;
            *role.encodings.entry(crate::encoding_name(&tensor.to)).or_default() += 1;
        }
        roles
    }

    /// Checks an edited plan against its model, and works its figures out again.
    pub fn revise(mut self, model: &Model, setting: &Setting<'_>) -> Result<Plan, PlanError> {
        if let Some(stray) = self.tensors.iter().find(|t| model.weights.find(&t.name).is_none()) {
            return Err(PlanError::Stray { tensor: stray.name.clone() });
        }
        let mut planned: BTreeMap<String, PlannedTensor> =
            self.tensors.drain(..).map(|t| (t.name.clone(), t)).collect();
        let factors = crate::resolve::factors(model);
        for (id, weight) in model.weights.iter() {
            let missing = || PlanError::Missing { tensor: weight.name.clone() };
            let old = planned.remove(&weight.name).ok_or_else(missing)?;
            if old.shape != weight.shape || old.from != weight.encoding {
                return Err(PlanError::OtherModel { tensor: old.name });
            }
            let (instead_of, method) = (old.instead_of, old.method);
            let tensor = PlannedTensor { instead_of, method, ..PlannedTensor::new(weight, old.to, old.reason)? };
            crate::resolve::check_container(self.container, &tensor)?;
            crate::resolve::check_method(factors.contains(&id), &tensor)?;
            self.tensors.push(tensor);
        }
        self.parameters = model.parameters() as u64;
        self.prediction = cost::predict(model, &self.tensors, setting);
        Ok(self)
    }
}

mod serde_fallback {
    use super::*;
    use serde::{Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(encoding: &Option<Encoding>, s: S) -> Result<S::Ok, S::Error> {
        encoding.as_ref().map(crate::encoding_name).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Encoding>, D::Error> {
        Option::<String>::deserialize(d)?.map(|name| crate::encoding(&name).map_err(D::Error::custom)).transpose()
    }
}
