//! How many answers a second the string rules grade on one core, and how long the worst take.
#![allow(missing_docs)]

use std::hint::black_box;

use bupo_grade::{Graded, equivalent, numeric, strict};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;

type Rule = fn(&str, &str) -> Graded;

#[derive(Deserialize)]
struct Row {
    response: String,
    answer: String,
}

/// Responses as models write them: some reasoning, then a box. Both right and wrong ones.
fn typical() -> Vec<(String, String)> {
    const REASONING: &str = "First we write the expression as $a^2 + 2ab + b^2$, so that $\\frac{a}{b} = 3$ follows from \
        the second equation. Adding both sides gives \\[ x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a} \\] and therefore ";
    let rows =
        include_str!("../tests/equivalent.jsonl").lines().filter_map(|line| serde_json::from_str::<Row>(line).ok());
    rows.map(|row| (format!("{}\\boxed{{{}}}.", REASONING.repeat(8), row.response), row.answer)).collect()
}

fn answers(criterion: &mut Criterion) {
    let pairs = typical();
    let mut group = criterion.benchmark_group("answers");
    group.throughput(Throughput::Elements(pairs.len() as u64));
    for (name, rule) in [("strict", strict as Rule), ("equivalent", equivalent), ("numeric", numeric)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| pairs.iter().map(|(given, answer)| rule(black_box(given), answer).score).sum::<f64>());
        });
    }
    group.finish();
}

/// The slowest kinds of answer: they end because their budget of work does.
fn worst(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("worst");
    let joined = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join("+");
    for (name, text) in [
        ("tower", "e^{e^{e^{e^{e^e}}}}".to_owned()),
        ("triple sum", "\\sum_{a=1}^{400}\\sum_{b=1}^{400}\\sum_{c=1}^{400} a b c".to_owned()),
        ("fractions", joined(150, &|at| format!("\\frac{{1}}{{{}}}", at * 7919 + 1))),
        ("surds", joined(250, &|at| format!("\\sqrt{{x+{at}}}"))),
        ("sines", (0..250).map(|at| format!("\\sin(x+{at})")).collect()),
        ("logarithms", joined(300, &|_| "\\ln 2^{\\pi}".to_owned())),
    ] {
        let response = format!("\\boxed{{{text}}}");
        let other = format!("{text}+0");
        group.bench_function(name, |bencher| bencher.iter(|| equivalent(black_box(&response), &other)));
    }
    group.finish();
}

criterion_group!(benches, answers, worst);
criterion_main!(benches);
