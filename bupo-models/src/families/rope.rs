//! Frequencies of the rotary position embedding, as transformers computes them.

use std::f64::consts::TAU;

/// The rotary position embedding of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// The base of the geometric series of wavelengths.
    pub theta: f64,
    /// The scaling for contexts longer than those of pretraining.
    pub scaling: RopeScaling,
}

/// `rope_type` of `rope_parameters`, with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    Default,
    /// All frequencies are divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Dynamic NTK: the base grows with the length of the sequence beyond `max_position_embeddings`.
    Dynamic {
        /// At least 1.
        factor: f64,
        /// Up to this length nothing is scaled.
        max_position_embeddings: usize,
    },
    /// YaRN (arXiv 2309.00071).
    Yarn(YarnScaling),
    /// Llama 3's scaling by wavelength.
    Llama3(Llama3Scaling),
}

/// YaRN: frequencies with few rotations in the original context are divided by `factor`, those with many are unchanged,
/// and between the two bounds they are interpolated.
#[derive(Debug, Clone, PartialEq)]
pub struct YarnScaling {
    /// The divisor of low frequencies.
    pub factor: f64,
    /// Cosines and sines are multiplied by it.
    pub attention_factor: f64,
    /// Frequencies with more rotations in the original context are unchanged.
    pub beta_fast: f64,
    /// Frequencies with fewer rotations in the original context are divided by `factor`.
    pub beta_slow: f64,
    /// Whether the bounds of the interpolation are rounded outwards to whole dimensions.
    pub truncate: bool,
    /// The context length of pretraining.
    pub original_max_position_embeddings: f64,
}

/// Llama 3's scaling: frequencies of long wavelengths are divided by `factor`, those of short ones are unchanged, those
/// between are interpolated.
#[derive(Debug, Clone, PartialEq)]
pub struct Llama3Scaling {
    /// The divisor of low frequencies.
    pub factor: f64,
    /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are scaled fully.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are unchanged.
    pub high_freq_factor: f64,
    /// The context length of pretraining.
    pub original_max_position_embeddings: f64,
}

impl RopeConfig {
    /// The angles of a head's `head_dim / 2` pairs at each `(position, length)`, one after another; `length` is that of
    /// the sequence the position is in, which matters for dynamic scaling only.
    pub fn angles(&self, head_dim: usize, places: impl IntoIterator<Item = (usize, usize)>) -> Vec<f32> {
        let mut angles = Vec::new();
        let mut current: Option<(usize, Vec<f32>)> = None;
        for (position, length) in places {
            let length = self.scaled_length(length);
            let frequencies = match current.take() {
                Some((computed, frequencies)) if computed == length => frequencies,
                _ => self.frequencies(head_dim, length),
            };
            angles.extend(frequencies.iter().map(|frequency| position as f32 * frequency));
            current = Some((length, frequencies));
        }
        angles
    }

    /// What cosines and sines are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        match &self.scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            _ => 1.0,
        }
    }

    /// Angular frequencies of a head's `head_dim / 2` pairs in a sequence of `length` tokens.
    ///
    /// Rounded to f32 where transformers rounds, so that unscaled angles agree to the last bit.
    pub fn frequencies(&self, head_dim: usize, length: usize) -> Vec<f32> {
        let theta = match &self.scaling {
            RopeScaling::Dynamic { factor, max_position_embeddings } => {
                let stretch = *factor as f32 * self.scaled_length(length) as f32 / *max_position_embeddings as f32;
                let exponent = (head_dim as f64 / (head_dim as f64 - 2.0)) as f32;
                self.theta as f32 * (stretch - (factor - 1.0) as f32).powf(exponent)
            }
            _ => self.theta as f32,
        };
        let frequency = |pair: usize| 1.0 / theta.powf((2 * pair) as f32 / head_dim as f32);
        let pairs = 0..head_dim / 2;
        match &self.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => pairs.map(frequency).collect(),
            RopeScaling::Linear { factor } => pairs.map(|pair| frequency(pair) / *factor as f32).collect(),
            RopeScaling::Llama3(scaling) => pairs.map(|pair| scaling.apply(frequency(pair))).collect(),
            RopeScaling::Yarn(scaling) => {
                let (low, high) = scaling.bounds(self.theta, head_dim);
                pairs.map(|pair| scaling.apply(frequency(pair), pair, low, high)).collect()
            }
        }
    }

    /// The length that the frequencies depend on; 0 without dynamic scaling.
    fn scaled_length(&self, length: usize) -> usize {
        match &self.scaling {
            RopeScaling::Dynamic { max_position_embeddings, .. } => length.max(*max_position_embeddings),
            _ => 0,
        }
    }
}

impl YarnScaling {
    /// The pairs between which the interpolation runs.
    fn bounds(&self, theta: f64, head_dim: usize) -> (f64, f64) {
        // The pair that rotates so many times in the original context.
        let pair = |rotations: f64| {
            let context = self.original_max_position_embeddings;
            head_dim as f64 * (context / (rotations * TAU)).ln() / (2.0 * theta.ln())
        };
        let (mut low, mut high) = (pair(self.beta_fast), pair(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
        // Not a division by zero.
        (low, if low == high { high + 0.001 } else { high })
    }

    fn apply(&self, frequency: f32, pair: usize, low: f64, high: f64) -> f32 {
        let ramp = ((pair as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
        let unscaled = 1.0 - ramp;
        frequency / self.factor as f32 * (1.0 - unscaled) + frequency * unscaled
    }
}

impl Llama3Scaling {
    fn apply(&self, frequency: f32) -> f32 {
        let frequency = f64::from(frequency);
        let wavelength = TAU / frequency;
        let context = self.original_max_position_embeddings;
        let scaled = if wavelength < context / self.high_freq_factor {
            frequency
        } else if wavelength > context / self.low_freq_factor {
            frequency / self.factor
        } else {
            let unscaled =
                (context / wavelength - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
            (1.0 - unscaled) * frequency / self.factor + unscaled * frequency
        };
        scaled as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_scales_long_wavelengths_only() {
        let scaling = Llama3Scaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64.0,
        };
        assert_eq!(scaling.apply(1.0), 1.0);
        assert_eq!(scaling.apply(0.01), 0.01 / 8.0);
        let between = scaling.apply(0.2);
        assert!(between < 0.2 && between > 0.2 / 8.0, "{between}");
    }

    #[test]
    fn dynamic_scaling_starts_above_the_maximum_length() {
        let scaling = RopeScaling::Dynamic { factor: 2.0, max_position_embeddings: 16 };
        let dynamic = RopeConfig { theta: 100.0, scaling };
        let plain = RopeConfig { scaling: RopeScaling::Default, ..dynamic.clone() };
        assert_eq!(dynamic.frequencies(8, 16), plain.frequencies(8, 16));
        let longer = dynamic.frequencies(8, 17);
        assert!(longer[0] == 1.0 && longer[3] < plain.frequencies(8, 17)[3]);
        // Each position with the frequencies of its own sequence.
        let angles = dynamic.angles(8, [(3, 17), (3, 5)]);
        assert_eq!(angles[..4], dynamic.frequencies(8, 17).iter().map(|f| 3.0 * f).collect::<Vec<_>>());
        assert_eq!(angles[4..], plain.frequencies(8, 5).iter().map(|f| 3.0 * f).collect::<Vec<_>>());
    }
}
