//! The table of benchmark results.

use bupo_eval::{BenchmarkResult, Evaluation};

/// Prints one column per benchmark: Avg@n, Pass@K for every K, lengths; for several benchmarks, also their mean.
pub fn print_results(results: &[BenchmarkResult], rule: &str) {
    let samples = results.iter().map(|result| result.evaluation.samples).min().unwrap_or(0);
    let width = results.iter().map(|result| result.benchmark.len()).max().unwrap_or(0).max(15) + 2;
    let print = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>width$}")).collect();
        outln!("{name:<16}{cells}");
    };
    let several = results.len() > 1;
    // The mean over benchmarks has no interval: there are too few of them.
    let row = |name: &str, value: &dyn Fn(&Evaluation) -> (f64, f64)| {
        let values: Vec<(f64, f64)> = results.iter().map(|result| value(&result.evaluation)).collect();
        let mean = values.iter().map(|(value, _)| value).sum::<f64>() / values.len().max(1) as f64;
        let cells = values.iter().map(|(value, half_width)| format!("{value:.4} ±{half_width:.4}"));
        print(name, cells.chain(several.then(|| format!("{mean:.4}"))).collect());
    };
    let plain = |name: &str, value: &dyn Fn(&Evaluation) -> String| {
        let cells = results.iter().map(|result| value(&result.evaluation));
        print(name, cells.chain(several.then(String::new)).collect());
    };
    outln!("graded by {rule}; ± is the 95% CI half-width over problems");
    let names = results.iter().map(|result| result.benchmark.clone());
    print("", names.chain(several.then(|| "mean".to_string())).collect());
    plain("problems", &|evaluation| evaluation.problems.to_string());
    row(&format!("Avg@{samples}"), &|evaluation| (evaluation.avg_at_k, evaluation.avg_half_width));
    for k in 1..=samples {
        row(&format!("Pass@{k}"), &|evaluation| (evaluation.pass_at[k - 1], evaluation.pass_half_widths[k - 1]));
    }
    plain("mean length", &|evaluation| format!("{:.1}", evaluation.response_length));
    plain("truncated", &|evaluation| format!("{:.4}", evaluation.truncated));
}
