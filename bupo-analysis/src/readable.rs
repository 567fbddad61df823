//! Whether the states of a model can be read without its final norm.

use bupo_core::{Norm, PolicySite};

use crate::analysis::Analysis;
use crate::slice::Slice;
use crate::statistic::Statistic;

/// Layer policies that agree with the full policy on fewer tokens do not read the states.
const MIN_AGREEMENT: f64 = 0.2;

impl Analysis {
    /// A warning if, without a norm, no layer below the last agrees with the full policy on 20% of the tokens: its entropies are
    /// then not those of a policy that is related to the model's.
    pub fn unreadable(&self) -> Option<String> {
        let below = self.info.num_layers.checked_sub(1).filter(|_| self.info.norm == Norm::None)?;
        let agreements = self.by_layer(PolicySite::Layer, Statistic::Agreement, Slice::All);
        let best = agreements.into_iter().filter(|(layer, _)| *layer <= below).map(|(_, estimate)| estimate.mean);
        let best = best.reduce(f64::max).filter(|best| *best < MIN_AGREEMENT)?;
        let (policies, verb) = match below {
            1 => ("the policy of layer 1".to_string(), "agrees"),
            _ => (format!("the policies of layers 1 to {below}"), "agree"),
        };
        let at_most = (best * 100.0).round();
        Some(format!(
            "with norm none, {policies} {verb} with the model on at most {at_most:.0}% of tokens; try --norm final"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnalysisInfo, Estimate, Row};

    fn analysis(norm: Norm, agreements: &[f64]) -> Analysis {
        let row = |(index, mean): (usize, &f64)| Row {
            site: PolicySite::Layer(index + 1),
            statistic: Statistic::Agreement,
            slice: Slice::All,
            estimate: Estimate { mean: *mean, interval: None },
            responses: 1,
            tokens: 1,
        };
        Analysis {
            info: AnalysisInfo {
                model: String::new(),
                title: String::new(),
                norm,
                num_layers: agreements.len(),
                vocab_size: 10,
                tolerance: 0.01,
                settings: Default::default(),
            },
            responses: 1,
            tokens: 1,
            scored: 0,
            mean_score: None,
            rows: agreements.iter().enumerate().map(row).collect(),
            boundary: None,
            convergence: None,
        }
    }

    #[test]
    fn states_that_no_layer_below_the_last_reads_are_warned_about() {
        let warning = analysis(Norm::None, &[0.0, 0.131, 0.9]).unreadable().unwrap_or_default();
        assert!(
            warning.contains("layers 1 to 2 agree with the model on at most 13% of tokens; try --norm final"),
            "{warning}"
        );
        let one = analysis(Norm::None, &[0.1, 0.9]).unreadable().unwrap_or_default();
        assert!(one.contains("the policy of layer 1 agrees"), "{one}");
        assert_eq!(analysis(Norm::None, &[0.0, 0.2, 0.0]).unreadable(), None, "readable");
        assert_eq!(analysis(Norm::Final, &[0.0, 0.1, 1.0]).unreadable(), None, "with the norm");
        assert_eq!(analysis(Norm::None, &[0.1]).unreadable(), None, "no layer below the last");
        assert_eq!(analysis(Norm::None, &[]).unreadable(), None, "not measured");
    }
}
