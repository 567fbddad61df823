//! Advantages of a group of responses to one prompt.

/// Keeps the division finite where all rewards are equal.
const EPSILON: f64 = 1e-6;

/// `A_i = (R_i - mean(R)) / (std(R) + 1e-6)` with the unbiased standard deviation; a group of one has mean 0 and
/// standard deviation 1, so that its advantage is its reward (GRPO as in the reference implementation of
/// arXiv 2512.19673).
pub fn group_advantages(rewards: &[f64]) -> Vec<f64> {
    let (mean, std) = if rewards.len() > 1 { mean_and_std(rewards) } else { (0.0, 1.0) };
    rewards.iter().map(|reward| (reward - mean) / (std + EPSILON)).collect()
}

/// Mean and unbiased standard deviation; the latter is 0 for fewer than two values.
pub fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}
