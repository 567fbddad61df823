//! How the layer policies' entropy decreases up to the last layer.

use serde::Serialize;

/// A smaller decrease than this fraction of ln V does not count.
const MIN_DECREASE: f64 = 0.1;
/// A decrease within this fraction of the layers, or within one layer, is abrupt.
const ABRUPT: f64 = 0.2;

/// The layers with the middle 80% of the decrease of the layer policies' entropy, from its maximum to the last layer's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Convergence {
    /// The entropy decreases by less than 10% of ln V.
    None,
    /// The decrease is within 20% of the layers, or within one layer.
    Abrupt {
        /// The first layer of the decrease.
        from: usize,
        /// The last layer of the decrease.
        to: usize,
    },
    /// The decrease is spread over more layers.
    Progressive {
        /// The first layer of the decrease.
        from: usize,
        /// The last layer of the decrease.
        to: usize,
    },
}

impl Convergence {
    /// Classifies the mean entropies of the policies of `H^0`, `H^1`, ..., `H^L`, in nats.
    pub fn of(entropies: &[f64], vocab_size: usize) -> Self {
        let Some((last, below)) = entropies.split_last() else { return Self::None };
        let decrease = below.iter().copied().fold(f64::NEG_INFINITY, f64::max) - last;
        if decrease.is_nan() || decrease < MIN_DECREASE * (vocab_size.max(2) as f64).ln() {
            return Self::None;
        }
        let num_layers = below.len();
        // The last state within 10% of the maximum, and the first after it within 10% of the last value.
        let high = below.iter().rposition(|entropy| *entropy >= last + 0.9 * decrease).unwrap_or(0);
        let low = (high + 1..num_layers).find(|layer| entropies[*layer] <= last + 0.1 * decrease).unwrap_or(num_layers);
        let (from, to) = (high + 1, low);
        if to - from < 1 || ((to - from + 1) as f64) <= ABRUPT * num_layers as f64 {
            Self::Abrupt { from, to }
        } else {
            Self::Progressive { from, to }
        }
    }

    /// The result as text.
    pub fn describe(self) -> String {
        let layers = |from, to| if from == to { format!("layer {from}") } else { format!("layers {from} to {to}") };
        match self {
            Self::None => "the layer policies' entropy decreases by less than 10% of ln V".into(),
            Self::Abrupt { from, to } => {
                format!(
                    "the layer policies' entropy decreases abruptly: 80% of the decrease is in {}",
                    layers(from, to)
                )
            }
            Self::Progressive { from, to } => {
                format!(
                    "the layer policies' entropy decreases progressively: 80% of the decrease is over {}",
                    layers(from, to)
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCAB: usize = 151_936;

    #[test]
    fn a_gradual_decrease_is_progressive() {
        let entropies: Vec<f64> = (0..=36).map(|layer| 11.0 - f64::from(layer) * 0.3).collect();
        assert_eq!(Convergence::of(&entropies, VOCAB), Convergence::Progressive { from: 4, to: 33 });
    }

    #[test]
    fn a_decrease_in_the_last_layers_is_abrupt() {
        let mut entropies = vec![11.0; 29];
        (entropies[27], entropies[28]) = (6.0, 0.1);
        assert_eq!(Convergence::of(&entropies, VOCAB), Convergence::Abrupt { from: 27, to: 28 });
        let at_three: Vec<f64> = (0..=8).map(|layer| if layer < 3 { 11.0 } else { 0.1 }).collect();
        assert_eq!(Convergence::of(&at_three, VOCAB), Convergence::Abrupt { from: 3, to: 3 });
    }

    #[test]
    fn a_flat_or_rising_stream_does_not_converge() {
        assert_eq!(Convergence::of(&[11.0; 9], VOCAB), Convergence::None);
        assert_eq!(Convergence::of(&[1.0, 5.0, 9.0], VOCAB), Convergence::None);
        assert_eq!(Convergence::of(&[], VOCAB), Convergence::None);
        assert_eq!(Convergence::of(&[f64::NAN; 3], VOCAB), Convergence::None);
    }
}
