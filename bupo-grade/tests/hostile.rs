//! Answers made to hang, to overflow the stack or to take memory.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bupo_grade::{equivalent, strict};

fn nested(open: &str, inside: &str, close: &str, depth: usize) -> String {
    format!("{}{inside}{}", open.repeat(depth), close.repeat(depth))
}

fn listed(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "9^9^9^9",
        "9^{9^{9^{9}}}",
        "9^{9^{9^{9^{9^9}}}} + 1",
        "10^{10^{10}}",
        "2^{-10^{18}}",
        "(-2)^{10^{17}+1}",
        "2^{123456789123456789/987654321987654321}",
        "(1+10^{-9})^{10^{12}}",
        "e^{e^{e^{e^{e^e}}}}",
        "\\ln(10^{-4000})",
        "\\sin(10^{1000})",
        "\\sin(10^{10})^{10^{10}}",
        "\\tan(\\frac{\\pi}{2})",
        "\\frac{1}{0}",
        "0^0",
        "0^{-1}",
        "\\frac{1}{\\sqrt{2}\\sqrt{3}-\\sqrt{6}}",
        "\\ln(\\sqrt{2}\\sqrt{3}-\\sqrt{6})",
        "4000!",
        "4000! / 3999!",
        "1000000!",
        "3000!^{20}",
        "((50!)!)!",
        "\\binom{1000000000}{500000000}",
        "\\binom{4000}{2000}^{9}",
        "\\binom{-5}{3}",
        "\\sum_{k=1}^{10^9} k",
        "\\sum_{a=1}^{400}\\sum_{b=1}^{400}\\sum_{c=1}^{400} a b c",
        "\\prod_{k=1}^{400} (x+k)^{k}",
        "\\sum_{n=1}^{n} n",
        "x^{x^{x^{x^x}}}",
        "(x+y+z)^{400} + 1",
        "(\\sqrt{x}+\\sqrt{y})^{1000}",
        "n^{n^{n^n}}",
        "\\lfloor 10^{3000}\\pi \\rfloor",
        "\\sqrt[1000000]{2}",
        "\\sqrt[0]{2}",
        "\\sqrt[x]{x}",
        "0.\\overline{}",
        "1e9999",
        "1e-9999",
        "1.5e+9999 x",
        "99999999_{37}",
        "12_1",
        "\\text{\\text{\\text{\\text{\\text{\\text{\\text{\\text{\\text{\\text{5}}}}}}}}}}",
        "\\",
        "\\\\",
        "$$$",
        "{",
        "}",
        "^",
        "_",
        "x^",
        "x_",
        "\\frac",
        "\\frac1",
        "\\frac.0",
        "\\frac.5.5",
        "\\binom1.5",
        "\\sqrt",
        "\\sqrt[",
        "\\left",
        "\\begin",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "\\begin{pmatrix} & \\\\ & \\end{pmatrix}",
        "[1)(2]",
        "(]",
        "|",
        "||",
        "|||",
        "|x",
        "x = ",
        "= =",
        "< x <",
        ",,,,",
        "()",
        "(,)",
        "\\{,\\}",
        "\\pm",
        "\\pm\\pm 1",
        "\\cup",
        "::",
        "5 \\text{ cm}^{999999999999999999999}",
        "\\text{cm}^2",
        "1/0/0",
    ]
    .map(str::to_owned)
    .to_vec();
    for depth in [5, 30, 300, 1300, 100_000] {
        for (open, inside, close) in [
            ("{", "x", "}"),
            ("(", "x", ")"),
            ("[", "x", "]"),
            ("\\{", "x", "\\}"),
            ("(1,", "x", ")"),
            ("\\left(", "x", "\\right)"),
            ("\\frac{", "1", "}{2}"),
            ("\\frac{1}{1+", "x", "}"),
            ("\\frac", "1", "2"),
            ("\\sqrt", "2", ""),
            ("\\sqrt{1+", "2", "}"),
            ("\\sin", "x", ""),
            ("\\ln(2+", "x", ")"),
            ("\\sum_{k=1}^{9}", "k", ""),
            ("f(", "x", ")"),
            ("|", "x", "|"),
            ("\\text{", "x", "}"),
            ("\\mathbf{", "x", "}"),
            ("\\boxed{", "x", "}"),
            ("\\boxed{", "x", ""),
            ("x^{", "x", "}"),
            ("x^", "x", ""),
            ("2^", "2", ""),
            ("x_{", "x", "}"),
            ("-", "x", ""),
            ("+-", "x", ""),
            ("\\pm", "x", ""),
            ("", "x", "!"),
            ("", "x", "'"),
            ("", "x", "^2"),
            ("", "50", "\\%"),
            ("1/", "x", ""),
            ("x", "y", "z"),
            ("x+", "y", "-z"),
            ("x=", "y", "=z"),
            ("x<", "y", "<z"),
            ("\\begin{pmatrix}", "1", "\\end{pmatrix}"),
            ("(1,2)\\cup", "x", ""),
            ("\\neg ", "x", ""),
        ] {
            texts.push(nested(open, inside, close, depth));
        }
    }
    for count in [20, 60, 500, 100_000] {
        texts.push(listed(count, |at| format!("{at}")));
        texts.push(format!("\\{{{}\\}}", listed(count, |at| format!("\\sqrt{{{at}}}+\\sqrt{{2}}"))));
        texts.push(format!("\\{{{}\\}}", listed(count, |at| format!("\\pm\\sqrt{{{at}}}"))));
        texts.push(listed(count, |at| format!("x_{at} = {at}")));
        texts.push(listed(count, |at| format!("{at} < x < {}", at + 2)));
        texts.push(listed(count, |at| format!("x < \\sqrt{{{at}}}").replace(", ", " or ")));
        texts.push((0..count).map(|at| format!("(\\sqrt{{{at}}},\\ln {})", at + 9)).collect::<Vec<_>>().join("\\cup"));
        texts.push((0..count).map(|at| format!("\\sqrt{{x+{at}}}")).collect::<Vec<_>>().join("+"));
        texts.push((0..count).map(|at| format!("\\sin(x+{at})")).collect::<String>());
        texts.push((0..count).map(|at| format!("f(x+{at})")).collect::<Vec<_>>().join("+"));
        texts.push((0..count).map(|at| format!("\\frac{{1}}{{{}}}", at * 7919 + 1)).collect::<Vec<_>>().join("+"));
        texts.push((0..count).map(|_| "\\ln 2^{\\pi}").collect::<Vec<_>>().join("+"));
        texts.push(format!("\\begin{{pmatrix}}{}\\end{{pmatrix}}", "\\sqrt{2} & 1 \\\\".repeat(count)));
        texts.push("7".repeat(count * 10));
        texts.push(format!("0.{}", "37".repeat(count * 5)));
        texts.push(format!("0.\\overline{{{}}}", "37".repeat(count * 5)));
        texts.push(format!("\\sqrt{{{}}}", "37".repeat(count * 5)));
        texts.push(format!("{}/{}", "37".repeat(count * 5), "73".repeat(count * 5)));
        texts.push("1,000".repeat(count));
        texts.push(" ".repeat(count * 10));
        texts.push("\\ ".repeat(count * 5));
        texts.push("word ".repeat(count));
        texts.push("\\text{ab} ".repeat(count));
        texts.push("π".repeat(count));
    }
    texts
}

/// Every text against itself with a change, and against its neighbour.
#[test]
fn no_answer_takes_long() {
    let texts = hostile();
    let whole = Instant::now();
    let mut worst = (Duration::ZERO, String::new());
    for (at, text) in texts.iter().enumerate() {
        let changed = format!("{text} + 1");
        let doubled = format!("1 \\cdot ({text})");
        for other in [&changed, &doubled, &texts[(at + 1) % texts.len()]] {
            let start = Instant::now();
            let response = format!("\\boxed{{{text}}}");
            let verdict = equivalent(&response, other).score;
            let taken = start.elapsed();
            if taken > worst.0 {
                worst = (taken, format!("{} / {}", shortened(text), shortened(other)));
            }
            assert!(verdict == 0.0 || verdict == 1.0);
            equivalent(text, other);
            strict(&response, other);
        }
    }
    println!("{} texts, worst {:?}: {}", texts.len(), worst.0, worst.1);
    // Loose, for a busy machine and an unoptimised build.
    assert!(whole.elapsed() < Duration::from_secs(240), "{:?}; the worst is {}", whole.elapsed(), worst.1);
}

/// Reading and comparing recurse only to a fixed depth.
#[test]
fn a_small_stack_is_enough() {
    let run = || {
        for text in hostile() {
            equivalent(&format!("\\boxed{{{text}}}"), &format!("1 \\cdot ({text})"));
        }
    };
    std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_long_response_takes_time_in_proportion_to_its_length() {
    let time = |text: &str| {
        let start = Instant::now();
        equivalent(text, "41");
        start.elapsed()
    };
    for part in ["lorem $x_1$ ipsum ", "\\boxed ", "\\boxed{1} {", "the answer is ", "$ \\( ", "12, "] {
        let taken = time(&part.repeat(1 << 16));
        assert!(taken < Duration::from_secs(2), "{part:?} repeated takes {taken:?}");
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
