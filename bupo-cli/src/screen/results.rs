//! The tables of benchmark results and of their comparison.

use bupo_eval::{BenchmarkResult, Comparison, Evaluation, LengthQuantiles, PairedDifference};

use super::table::{Cell, ResultsTable, TableFormat};

/// Prints one column per benchmark: Avg@n, Pass@K for every K, maj@n, lengths; for several benchmarks, also their mean.
pub fn print_results(results: &[BenchmarkResult], rule: &str, format: Option<TableFormat>) {
    let samples = results.iter().map(|result| result.evaluation.samples).min().unwrap_or(0);
    let several = results.len() > 1;
    // The mean over benchmarks has no interval: there are too few of them.
    let row = |name: String, value: &dyn Fn(&Evaluation) -> (f64, f64)| {
        let values: Vec<(f64, f64)> = results.iter().map(|result| value(&result.evaluation)).collect();
        let mean = values.iter().map(|(value, _)| value).sum::<f64>() / values.len().max(1) as f64;
        let cells = values
            .iter()
            .map(|(value, half_width)| Cell { value: decimal(*value), half_width: Some(decimal(*half_width)) });
        (name, cells.chain(several.then(|| Cell::plain(decimal(mean)))).collect())
    };
    let plain = |name: &str, value: &dyn Fn(&Evaluation) -> String| {
        let cells = results.iter().map(|result| Cell::plain(value(&result.evaluation)));
        (name.to_string(), cells.chain(several.then(Cell::default)).collect())
    };
    let names = results.iter().map(|result| result.benchmark.clone());
    let mut rows = vec![plain("problems", &|evaluation| evaluation.problems.to_string())];
    rows.push(row(format!("Avg@{samples}"), &|evaluation| (evaluation.avg_at_k, evaluation.avg_half_width)));
    rows.extend((1..=samples).map(|k| {
        row(format!("Pass@{k}"), &|evaluation| (evaluation.pass_at[k - 1], evaluation.pass_half_widths[k - 1]))
    }));
    if results.iter().all(|result| result.evaluation.maj_at_k.is_some()) {
        rows.push(row(format!("maj@{samples}"), &|evaluation| {
            (evaluation.maj_at_k.unwrap_or(0.0), evaluation.maj_half_width.unwrap_or(0.0))
        }));
    }
    rows.push(plain("mean length", &|evaluation| format!("{:.1}", evaluation.response_length)));
    for (name, of) in [
        ("right p10/50/90", (|evaluation| evaluation.length_right) as fn(&Evaluation) -> Option<LengthQuantiles>),
        ("wrong p10/50/90", |evaluation| evaluation.length_wrong),
    ] {
        rows.push(plain(name, &|evaluation| {
            of(evaluation).map_or("-".into(), |lengths| {
                [lengths.p10, lengths.p50, lengths.p90].map(|length| format!("{length:.0}")).join("/")
            })
        }));
    }
    rows.push(plain("truncated", &|evaluation| decimal(evaluation.truncated)));
    print(
        ResultsTable {
            note: format!("graded by {rule}; ± is the 95% CI half-width over problems"),
            header: names.chain(several.then(|| "mean".to_string())).collect(),
            rows,
        },
        format,
    );
}

/// Prints the paired differences of two evaluations, with one column per benchmark and their mean.
pub fn print_comparison(comparison: &Comparison, format: Option<TableFormat>) {
    let several = comparison.benchmarks.len() > 1;
    let columns: Vec<&PairedDifference> =
        comparison.benchmarks.iter().chain(several.then_some(&comparison.overall)).collect();
    let row = |name: &str, cell: &dyn Fn(&PairedDifference) -> Cell| {
        (name.to_string(), columns.iter().map(|column| cell(column)).collect())
    };
    let names = comparison.benchmarks.iter().map(|one| one.benchmark.clone());
    print(
        ResultsTable {
            note: "mean scores of A and B on the same problems; ± is the 95% CI half-width of the paired difference"
                .into(),
            header: names.chain(several.then(|| "mean".to_string())).collect(),
            rows: vec![
                row("problems", &|one| Cell::plain(one.problems)),
                row("A", &|one| Cell::plain(decimal(one.a))),
                row("B", &|one| Cell::plain(decimal(one.b))),
                row("B - A", &|one| Cell {
                    value: format!("{:+.4}", one.difference()),
                    half_width: one.half_width.map(decimal),
                }),
                row("B is better on", &|one| Cell::plain(one.better)),
                row("B is worse on", &|one| Cell::plain(one.worse)),
            ],
        },
        format,
    );
}

fn print(table: ResultsTable, format: Option<TableFormat>) {
    for line in table.render(format) {
        outln!("{line}");
    }
}

fn decimal(value: f64) -> String {
    format!("{value:.4}")
}
