//! Rotary position embedding, half-split as Hugging Face stores the weights (Burn's own is interleaved).

use burn::tensor::{Tensor, TensorData, backend::Backend};

/// Frequencies of the rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// The base of the geometric series of wavelengths.
    pub theta: f64,
    /// Llama 3's stretching of long wavelengths, if the model was trained so.
    pub scaling: Option<Llama3Scaling>,
}

/// Llama 3's scaling: long wavelengths are stretched by `factor`, short ones kept, those between interpolated.
#[derive(Debug, Clone, PartialEq)]
pub struct Llama3Scaling {
    /// How much long wavelengths are stretched.
    pub factor: f64,
    /// `original_max_position_embeddings / low_freq_factor` is the shortest wavelength stretched wholly.
    pub low_freq_factor: f64,
    /// `original_max_position_embeddings / high_freq_factor` is the longest wavelength kept.
    pub high_freq_factor: f64,
    /// The context length before stretching.
    pub original_max_position_embeddings: f64,
}

/// Cosines and sines of some positions, ready to rotate heads.
///
/// Kept flat, as heads are when they are rotated: products of rows of equal length are the fastest on every backend.
#[derive(Debug, Clone)]
pub struct Rotation<B: Backend> {
    /// `[1 or rows * heads, seq * head_dim]`.
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
}

impl RopeConfig {
    /// Angular frequencies of a head's `head_dim / 2` pairs.
    ///
    /// Rounded to f32 where Hugging Face rounds, so that angles agree to the last bit.
    pub fn frequencies(&self, head_dim: usize) -> Vec<f32> {
        (0..head_dim / 2)
            .map(|pair| {
                let exponent = (2 * pair) as f32 / head_dim as f32;
                let frequency = 1.0 / (self.theta as f32).powf(exponent);
                self.scaling.as_ref().map_or(frequency, |scaling| scaling.apply(frequency))
            })
            .collect()
    }
}

impl Llama3Scaling {
    fn apply(&self, frequency: f32) -> f32 {
        let frequency = f64::from(frequency);
        let wavelength = 2.0 * std::f64::consts::PI / frequency;
        let context = self.original_max_position_embeddings;
        let scaled = if wavelength < context / self.high_freq_factor {
            frequency
        } else if wavelength > context / self.low_freq_factor {
            frequency / self.factor
        } else {
            let keep = (context / wavelength - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
            (1.0 - keep) * frequency / self.factor + keep * frequency
        };
        scaled as f32
    }
}

impl<B: Backend> Rotation<B> {
    /// The rotation of heads of `head_dim` numbers at `positions`: one row of positions that all sequences share, or a
    /// row each, all of equal length, for sequences of `heads` heads.
    pub fn new(rope: &RopeConfig, head_dim: usize, heads: usize, positions: &[Vec<usize>], device: &B::Device) -> Self {
        let frequencies = rope.frequencies(head_dim);
        let repeats = if positions.len() == 1 { 1 } else { heads };
        let seq = positions.first().map_or(0, Vec::len);
        let table = |f: fn(f32) -> f32| {
            let mut values = Vec::with_capacity(positions.len() * repeats * seq * head_dim);
            for row in positions {
                let start = values.len();
                for position in row {
                    let angles = frequencies.iter().chain(&frequencies).map(|frequency| *position as f32 * frequency);
                    values.extend(angles.map(f));
                }
                let end = values.len();
                (1..repeats).for_each(|_| values.extend_from_within(start..end));
            }
            Tensor::from_data(TensorData::new(values, [positions.len() * repeats, seq * head_dim]), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Rotates queries or keys `[batch, heads, seq, head_dim]`.
    pub fn apply(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let dtype = x.dtype();
        let [batch, heads, seq, head_dim] = x.dims();
        let flat = [batch * heads, seq * head_dim];
        let x = x.reshape([batch * heads, seq, head_dim]);
        let low = x.clone().narrow(2, 0, head_dim / 2);
        let high = x.clone().narrow(2, head_dim / 2, head_dim / 2);
        let rotated = Tensor::cat(vec![high.neg(), low], 2).reshape(flat);
        let y = x.reshape(flat) * self.cos.clone().cast(dtype) + rotated * self.sin.clone().cast(dtype);
        y.reshape([batch, heads, seq, head_dim])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_short_wavelengths_and_stretches_long_ones() {
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
}
