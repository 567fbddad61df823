//! How the stream's entropy falls to the last layer: the families' verdict.

use serde::Serialize;

/// A fall of less than this share of ln V is none.
const LEAST_FALL: f64 = 0.1;
/// A fall within this share of the layers, or within one layer, is abrupt.
const ABRUPT: f64 = 0.2;

/// Where the middle four fifths of the fall of the layer policies' entropy lie, from its highest value to the last layer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Convergence {
    /// The last layer's entropy is not below the highest by a tenth of ln V.
    None,
    /// The fall takes at most a fifth of the layers, or one.
    Abrupt {
        /// The first layer of the fall.
        from: usize,
        /// The last.
        to: usize,
    },
    /// It takes more.
    Progressive {
        /// The first layer of the fall.
        from: usize,
        /// The last.
        to: usize,
    },
}

impl Convergence {
    /// Of the entropies of `H^0`, `H^1`, ..., `H^L` in nats.
    pub fn of(entropies: &[f64], vocab_size: usize) -> Self {
        let Some((last, below)) = entropies.split_last() else { return Self::None };
        let fall = below.iter().copied().fold(f64::NEG_INFINITY, f64::max) - last;
        if fall.is_nan() || fall < LEAST_FALL * (vocab_size.max(2) as f64).ln() {
            return Self::None;
        }
        let num_layers = below.len();
        // The last state that is still high, and the first from there on that is low.
        let high = below.iter().rposition(|entropy| *entropy >= last + 0.9 * fall).unwrap_or(0);
        let low = (high + 1..num_layers).find(|layer| entropies[*layer] <= last + 0.1 * fall).unwrap_or(num_layers);
        let (from, to) = (high + 1, low);
        if to - from < 1 || ((to - from + 1) as f64) <= ABRUPT * num_layers as f64 {
            Self::Abrupt { from, to }
        } else {
            Self::Progressive { from, to }
        }
    }

    /// In words.
    pub fn describe(self) -> String {
        let layers = |from, to| if from == to { format!("layer {from}") } else { format!("layers {from} to {to}") };
        match self {
            Self::None => "no convergence: the layer policies' entropy does not fall by a tenth of ln V".into(),
            Self::Abrupt { from, to } => {
                format!("abrupt convergence: four fifths of the fall in entropy lie in {}", layers(from, to))
            }
            Self::Progressive { from, to } => {
                format!("progressive convergence: four fifths of the fall in entropy spread over {}", layers(from, to))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCAB: usize = 151_936;

    #[test]
    fn a_gradual_fall_is_progressive() {
        let entropies: Vec<f64> = (0..=36).map(|layer| 11.0 - f64::from(layer) * 0.3).collect();
        assert_eq!(Convergence::of(&entropies, VOCAB), Convergence::Progressive { from: 4, to: 33 });
    }

    #[test]
    fn a_fall_in_the_last_layers_is_abrupt() {
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
