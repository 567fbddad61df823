//! The rotary fields of a `config.json`, in the layouts of transformers 4 (`rope_theta`, `rope_scaling`) and 5
//! (`rope_parameters`).

use serde::Deserialize;
use serde_json::Value;

use super::rope::{Llama3Scaling, RopeConfig, RopeScaling, YarnScaling};
use crate::ModelError;

/// The fields outside `rope_parameters` and `rope_scaling`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OuterFields {
    pub(super) rope_theta: Option<f64>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) max_position_embeddings: Option<usize>,
    pub(super) original_max_position_embeddings: Option<f64>,
    pub(super) head_dim: usize,
}

/// The fields of `rope_parameters` or `rope_scaling`.
#[derive(Debug, Default, Deserialize)]
struct RawRope {
    rope_type: Option<String>,
    /// The older name of `rope_type`; some files have both.
    #[serde(rename = "type")]
    older_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    partial_rotary_factor: Option<f64>,
    attention_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
}

/// The rotary embedding of a config. As in transformers, `rope_scaling` comes before `rope_parameters`, and the fields
/// in them come before those outside.
pub(super) fn rope_config(
    rope_scaling: Option<&Value>,
    rope_parameters: Option<&Value>,
    outer: OuterFields,
) -> Result<RopeConfig, ModelError> {
    let given = |value: &&Value| value.as_object().is_none_or(|fields| !fields.is_empty());
    let raw: RawRope = match rope_scaling.filter(given).or(rope_parameters) {
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|error| ModelError::Config(format!("rope_parameters / rope_scaling: {error}")))?,
        None => RawRope::default(),
    };
    if let Some(factor) = raw.partial_rotary_factor.or(outer.partial_rotary_factor).filter(|factor| *factor != 1.0) {
        let what = format!("partial_rotary_factor = {factor}");
        return Err(ModelError::Unsupported { what, fix: "only 1.0 is supported".into() });
    }
    let theta = raw.rope_theta.or(outer.rope_theta).unwrap_or(10_000.0);
    if !(theta.is_finite() && theta > 1.0) {
        return Err(ModelError::Config(format!("rope_theta is {theta}; it must be above 1")));
    }
    if let (Some(new), Some(old)) = (&raw.rope_type, &raw.older_type)
        && new != old
    {
        return Err(ModelError::Config(format!("the rope's rope_type is `{new}` and its type `{old}`; remove one")));
    }
    let scaling = match raw.rope_type.as_deref().or(raw.older_type.as_deref()) {
        None | Some("default") => RopeScaling::Default,
        Some("linear") => RopeScaling::Linear { factor: raw.factor("linear")? },
        Some("dynamic") => raw.dynamic(outer)?,
        Some("yarn") => RopeScaling::Yarn(raw.yarn(outer)?),
        Some("llama3") => RopeScaling::Llama3(raw.llama3(outer)?),
        Some(other) => {
            let fix = "use default, linear, dynamic, yarn or llama3".into();
            return Err(ModelError::Unsupported { what: format!("rope type `{other}`"), fix });
        }
    };
    Ok(RopeConfig { theta, scaling })
}

impl RawRope {
    fn factor(&self, kind: &str) -> Result<f64, ModelError> {
        number(kind, "factor", self.factor, 1.0)
    }

    fn dynamic(&self, outer: OuterFields) -> Result<RopeScaling, ModelError> {
        let max_position_embeddings =
            outer.max_position_embeddings.ok_or_else(|| needs("dynamic", "max_position_embeddings"))?;
        if outer.head_dim < 4 {
            return Err(ModelError::Config("dynamic rope scaling needs a head_dim of at least 4".into()));
        }
        Ok(RopeScaling::Dynamic { factor: self.factor("dynamic")?, max_position_embeddings })
    }

    fn yarn(&self, outer: OuterFields) -> Result<YarnScaling, ModelError> {
        let original_max_position_embeddings = self.original_context("yarn", outer)?;
        let implied = || Some(outer.max_position_embeddings? as f64 / original_max_position_embeddings);
        let factor = number("yarn", "factor", self.factor.or_else(implied), 1.0)?;
        let mscale = |scale: f64| if factor > 1.0 { 0.1 * scale * factor.ln() + 1.0 } else { 1.0 };
        let set = |value: Option<f64>| value.filter(|value| *value != 0.0);
        let default = match (set(self.mscale), set(self.mscale_all_dim)) {
            (Some(scale), Some(all)) => mscale(scale) / mscale(all),
            _ => mscale(1.0),
        };
        let scaling = YarnScaling {
            factor,
            attention_factor: positive("yarn", "attention_factor", self.attention_factor.or(Some(default)))?,
            beta_fast: positive("yarn", "beta_fast", set(self.beta_fast).or(Some(32.0)))?,
            beta_slow: positive("yarn", "beta_slow", set(self.beta_slow).or(Some(1.0)))?,
            truncate: self.truncate.unwrap_or(true),
            original_max_position_embeddings,
        };
        if scaling.beta_fast < scaling.beta_slow {
            return Err(ModelError::Config("yarn rope scaling: beta_fast must not be below beta_slow".into()));
        }
        Ok(scaling)
    }

    fn llama3(&self, outer: OuterFields) -> Result<Llama3Scaling, ModelError> {
        let scaling = Llama3Scaling {
            factor: self.factor("llama3")?,
            low_freq_factor: positive("llama3", "low_freq_factor", self.low_freq_factor)?,
            high_freq_factor: positive("llama3", "high_freq_factor", self.high_freq_factor)?,
            original_max_position_embeddings: self.original_context("llama3", outer)?,
        };
        if scaling.high_freq_factor <= scaling.low_freq_factor {
            return Err(ModelError::Config("llama3 rope scaling: high_freq_factor must exceed low_freq_factor".into()));
        }
        Ok(scaling)
    }

    fn original_context(&self, kind: &str, outer: OuterFields) -> Result<f64, ModelError> {
        let current = outer.max_position_embeddings.map(|length| length as f64);
        let original = outer.original_max_position_embeddings.or(self.original_max_position_embeddings).or(current);
        positive(kind, "original_max_position_embeddings", original)
    }
}

fn positive(kind: &str, name: &str, value: Option<f64>) -> Result<f64, ModelError> {
    number(kind, name, value, f64::MIN_POSITIVE)
}

fn number(kind: &str, name: &str, value: Option<f64>, least: f64) -> Result<f64, ModelError> {
    let value = value.ok_or_else(|| needs(kind, name))?;
    if value.is_finite() && value >= least {
        return Ok(value);
    }
    let range = if least == 1.0 { "at least 1" } else { "positive" };
    Err(ModelError::Config(format!("{kind} rope scaling: {name} is {value}; it must be {range}")))
}

fn needs(kind: &str, name: &str) -> ModelError {
    ModelError::Config(format!("{kind} rope scaling needs {name}"))
}
