//! Quantiles of response lengths.

use serde::{Deserialize, Serialize};

/// Quantiles of the lengths of some responses in tokens, interpolated linearly between the two nearest (NumPy's default).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LengthQuantiles {
    /// The number of responses.
    pub responses: usize,
    /// The 10% quantile.
    pub p10: f64,
    /// The 25% quantile.
    pub p25: f64,
    /// The median.
    pub p50: f64,
    /// The 75% quantile.
    pub p75: f64,
    /// The 90% quantile.
    pub p90: f64,
}

impl LengthQuantiles {
    /// Of responses of these lengths; `None` without any.
    pub(crate) fn of(lengths: impl Iterator<Item = usize>) -> Option<Self> {
        let mut lengths: Vec<usize> = lengths.collect();
        if lengths.is_empty() {
            return None;
        }
        lengths.sort_unstable();
        let at = |share: f64| {
            let place = share * (lengths.len() - 1) as f64;
            let (below, above) = (lengths[place.floor() as usize] as f64, lengths[place.ceil() as usize] as f64);
            below + (above - below) * place.fract()
        };
        Some(Self { responses: lengths.len(), p10: at(0.1), p25: at(0.25), p50: at(0.5), p75: at(0.75), p90: at(0.9) })
    }
}
