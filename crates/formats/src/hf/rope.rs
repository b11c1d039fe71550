//! Rotary position parameters in every form that configs have had.
//!
//! | form | keys |
//! |---|---|
//! | transformers 4 | `rope_theta`, `rope_scaling: {rope_type or type, factor, …}` or null |
//! | transformers 4, Gemma 3 | the above for full attention, `rope_local_base_freq` for sliding attention |
//! | transformers 5 | `rope_parameters: {rope_theta, rope_type, factor, …}` |
//! | transformers 5, per layer type | `rope_parameters: {full_attention: {…}, sliding_attention: {…}}` |

use super::{Error, Node};

/// Rotary parameters of all layers.
#[derive(Clone, Debug)]
pub enum Rope<'a> {
    /// The same for every layer.
    Shared(RopeParameters<'a>),
    /// By kind of layer.
    ByLayerType {
        /// Layers that see everything before them.
        full: RopeParameters<'a>,
        /// Layers that see a window.
        sliding: RopeParameters<'a>,
    },
}

/// Rotary parameters of one kind of layer.
#[derive(Clone, Debug)]
pub struct RopeParameters<'a> {
    /// Base of the frequencies; `None` where the config leaves it to the model's default.
    pub theta: Option<f64>,
    /// `default`, `linear`, `llama3`, `yarn`, `longrope`, ….
    pub kind: &'a str,
    /// What the kind needs (`factor`, `low_freq_factor`, …); `None` for `default` in the old form.
    pub options: Option<Node<'a>>,
}

impl<'a> Node<'a> {
    /// The rotary parameters of this config.
    pub fn rope(&self) -> Result<Rope<'a>, Error> {
        match self.object("rope_parameters")? {
            Some(node) => new_form(self, node),
            None => old_form(self),
        }
    }
}

fn new_form<'a>(config: &Node<'a>, node: Node<'a>) -> Result<Rope<'a>, Error> {
    // A v4 key beside `rope_parameters` fills in what is not there.
    let theta = config.find("rope_theta")?;
    match (node.object("full_attention")?, node.object("sliding_attention")?) {
        (Some(full), Some(sliding)) => {
            Ok(Rope::ByLayerType { full: parameters(Some(full), theta)?, sliding: parameters(Some(sliding), None)? })
        }
        (Some(one), None) | (None, Some(one)) => Ok(Rope::Shared(parameters(Some(one), theta)?)),
        (None, None) => Ok(Rope::Shared(parameters(Some(node), theta)?)),
    }
}

fn old_form<'a>(config: &Node<'a>) -> Result<Rope<'a>, Error> {
    let full = parameters(config.object("rope_scaling")?, config.find("rope_theta")?)?;
    match config.find("rope_local_base_freq")? {
        None => Ok(Rope::Shared(full)),
        theta @ Some(_) => Ok(Rope::ByLayerType { full, sliding: parameters(None, theta)? }),
    }
}

fn parameters<'a>(options: Option<Node<'a>>, theta: Option<f64>) -> Result<RopeParameters<'a>, Error> {
    let Some(node) = options else { return Ok(RopeParameters { theta, kind: "default", options: None }) };
    let (new, old) = (node.find::<&str>("rope_type")?, node.find::<&str>("type")?);
    // `su` and `mrope` are names that later releases replaced.
    let kind = match new.or(old) {
        None => "default",
        Some("su") => "longrope",
        Some(kind) => kind,
    };
    Ok(RopeParameters { theta: node.find("rope_theta")?.or(theta), kind, options: Some(node) })
}
