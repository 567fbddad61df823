//! Frequencies of the rotary position embedding.

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
