//! Means over seeds with their intervals, and rank correlations.

use bupo_eval::mean_and_std;
use serde::Serialize;

/// A mean over seeds with its 95% confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeanOverSeeds {
    /// The mean.
    pub mean: f64,
    /// Half the width of Student's 95% interval, t(n - 1) s / sqrt(n); `None` for one seed.
    pub half_width: Option<f64>,
}

impl MeanOverSeeds {
    /// Of one value per seed; `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let (mean, std) = mean_and_std(values);
        let half_width = || t_quantile(values.len() - 1) * std / (values.len() as f64).sqrt();
        (!values.is_empty()).then(|| Self { mean, half_width: (values.len() > 1).then(half_width) })
    }

    /// The ends of the interval; both are the mean if there is none.
    pub fn interval(&self) -> (f64, f64) {
        let half_width = self.half_width.unwrap_or(0.0);
        (self.mean - half_width, self.mean + half_width)
    }
}

/// The 97.5% quantiles of Student's t distribution for 1 to 10 degrees of freedom.
const T_QUANTILES: [f64; 10] =
    [12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004, 2.262_157, 2.228_139];

/// The 97.5% quantile of Student's t distribution: of more than 10 degrees of freedom by the expansion in their inverse
/// (Abramowitz and Stegun 26.7.5), whose error is below 0.00001.
fn t_quantile(degrees: usize) -> f64 {
    if let Some(quantile) = degrees.checked_sub(1).and_then(|index| T_QUANTILES.get(index)) {
        return *quantile;
    }
    let (z, n) = (1.959_963_985_f64, degrees as f64);
    let terms = [
        z,
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
        (79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5) - 1920.0 * z.powi(3) - 945.0 * z) / 92_160.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| sum / n + term)
}

/// Spearman's rank correlation of pairs; ties have their mean rank. `None` for fewer than three pairs, or if all of one
/// side are equal.
pub fn rank_correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < 3 {
        return None;
    }
    let (first, second) = (ranks(pairs.iter().map(|pair| pair.0)), ranks(pairs.iter().map(|pair| pair.1)));
    let middle = (pairs.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>();
    let norms = (product(&first, &first) * product(&second, &second)).sqrt();
    (norms > 0.0).then(|| product(&first, &second) / norms)
}

/// Ranks from 1; ties have their mean rank.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let values: Vec<f64> = values.collect();
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_reference() -> Result<(), serde_json::Error> {
        let reference: serde_json::Value = serde_json::from_str(include_str!("../../../tests/reference/sweep.json"))?;
        for (degrees, expected) in reference["t_quantiles"].as_object().into_iter().flatten() {
            let (degrees, expected) = (degrees.parse().unwrap_or(0), expected.as_f64().unwrap_or(f64::NAN));
            assert!((t_quantile(degrees) - expected).abs() < 1e-5, "{degrees}: {} for {expected}", t_quantile(degrees));
        }
        for case in reference["intervals"].as_array().into_iter().flatten() {
            let values: Vec<f64> = serde_json::from_value(case["values"].clone())?;
            let found = MeanOverSeeds::of(&values).map(|of| (of.mean, of.half_width.unwrap_or(f64::NAN)));
            let expected: (f64, f64) = serde_json::from_value(case["mean_and_half_width"].clone())?;
            assert!(
                found.is_some_and(|(mean, half)| (mean - expected.0).abs() < 1e-9 && (half - expected.1).abs() < 1e-4),
                "{found:?} for {expected:?}"
            );
        }
        for case in reference["rank_correlations"].as_array().into_iter().flatten() {
            let pairs: Vec<(f64, f64)> = serde_json::from_value(case["pairs"].clone())?;
            let expected = case["spearman"].as_f64().unwrap_or(f64::NAN);
            assert!(rank_correlation(&pairs).is_some_and(|found| (found - expected).abs() < 1e-9), "{pairs:?}");
        }
        Ok(())
    }

    #[test]
    fn too_few_values_have_no_interval_and_no_correlation() {
        assert_eq!(MeanOverSeeds::of(&[]), None);
        assert_eq!(MeanOverSeeds::of(&[0.5]), Some(MeanOverSeeds { mean: 0.5, half_width: None }));
        assert_eq!(rank_correlation(&[(1.0, 2.0), (2.0, 3.0)]), None);
        assert_eq!(rank_correlation(&[(1.0, 2.0), (1.0, 3.0), (1.0, 4.0)]), None);
    }
}
