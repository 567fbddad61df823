//! Properties of the rules on random answers.
#![allow(clippy::unwrap_used)]

use bupo_grade::{equivalent, strict};

/// A small seeded generator (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// A random formula in which every construct is delimited, so that it can stand anywhere.
fn formula(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.below(4) == 0 {
        return match random.below(4) {
            0 => random.of(&["x", "y", "a", "n", "\\alpha", "x_1", "\\pi", "e", "i"]).to_owned(),
            1 => format!("{}.{}", random.below(20), 1 + random.below(99)),
            _ => format!("{}", 1 + random.below(200)),
        };
    }
    let a = formula(random, depth - 1);
    let b = formula(random, depth - 1);
    match random.below(9) {
        0 => format!("\\frac{{{a}}}{{{b}}}"),
        1 => format!("\\left({a} + {b}\\right)"),
        2 => format!("\\left({a} - {b}\\right)"),
        3 => format!("\\left({a} \\cdot {b}\\right)"),
        4 => format!("\\sqrt{{{a}}}"),
        5 => format!("\\left({a}\\right)^{{{}}}", 2 + random.below(4)),
        6 => format!("\\ln\\left({a}\\right)"),
        7 => format!("\\sin\\left({a}\\right)"),
        _ => format!("\\left|{a}\\right|"),
    }
}

/// A random answer of any shape.
fn answer(random: &mut Random) -> String {
    let mut part = || formula(random, 2);
    let (a, b, c) = (part(), part(), part());
    match random.below(9) {
        0 => format!("\\left({a}, {b}\\right)"),
        1 => format!("\\left[{a}, {b}\\right)"),
        2 => format!("\\left\\{{{a}, {b}, {c}\\right\\}}"),
        3 => format!("x = {a}"),
        4 => format!("y \\le {a}"),
        5 => format!("\\begin{{pmatrix}} {a} & {b} \\\\ {c} & {a} \\end{{pmatrix}}"),
        6 => format!("{a} \\text{{ cm}}"),
        _ => a,
    }
}

/// Another spelling of the same answer.
fn respelled(random: &mut Random, text: &str) -> String {
    match random.below(7) {
        0 => text.replace("\\frac", "\\dfrac"),
        1 => text.replace("\\left", "").replace("\\right", ""),
        2 => {
            let spaced = text.replace(' ', "  ").replace('{', "{ ").replace('}', " }");
            // The names of environments have no spaces, nor has `\\}`.
            spaced.replace("{ pmatrix }", "{pmatrix}").replace("\\ }", "\\}")
        }
        3 => format!("{{{text}}}"),
        4 => format!("${text}$"),
        5 => format!("\\displaystyle {text}\\,."),
        _ => text.replace("\\cdot", "\\times"),
    }
}

fn score(given: &str, answer: &str) -> f64 {
    equivalent(&format!("\\boxed{{{given}}}"), answer).score
}

#[test]
fn an_answer_is_itself_however_it_is_spelled() {
    let mut random = Random(1);
    for _ in 0..3000 {
        let text = answer(&mut random);
        let other = respelled(&mut random, &text);
        assert_eq!(score(&text, &other), 1.0, "{text} / {other}");
    }
}

#[test]
fn rewriting_by_the_rules_of_algebra_keeps_the_answer() {
    let mut random = Random(2);
    let mut kept = 0;
    for _ in 0..600 {
        let (a, b) = (formula(&mut random, 2), formula(&mut random, 2));
        let (text, other) = match random.below(5) {
            0 => (format!("{a} + {b}"), format!("{b} + {a}")),
            1 => (format!("{a} \\cdot \\left({b}\\right)"), format!("\\left({b}\\right) \\cdot {a}")),
            2 => (format!("{a} - {b}"), format!("-\\left({b} - {a}\\right)")),
            3 => (format!("3 \\cdot \\left({a} + {b}\\right)"), format!("3 \\cdot {a} + 3 \\cdot {b}")),
            _ => (format!("\\frac{{{a}}}{{7}}"), format!("\\frac{{2 \\cdot {a}}}{{14}}")),
        };
        kept += usize::from(score(&text, &other) == 1.0);
    }
    // The rest has no value: a division by zero, the logarithm of a zero.
    assert!(kept >= 570, "{kept} of 600");
}

#[test]
fn a_changed_number_changes_the_answer() {
    let mut random = Random(3);
    for _ in 0..600 {
        let a = formula(&mut random, 2);
        let small = random.of(&["1", "10^{-3}", "\\frac{1}{10^{12}}", "10^{-25}", "\\frac{\\sqrt{2}}{10^{30}}"]);
        let other = format!("{a} + {small}");
        assert_eq!(score(&a, &other), 0.0, "{a} / {other}");
    }
}

#[test]
fn the_verdict_does_not_depend_on_the_direction() {
    let mut random = Random(4);
    let answers: Vec<String> = (0..90).map(|_| answer(&mut random)).collect();
    for a in &answers {
        for b in &answers {
            assert_eq!(score(a, b), score(b, a), "{a} / {b}");
        }
    }
}

#[test]
fn soup_never_panics() {
    const SCRAPS: [&str; 60] = [
        "\\frac",
        "\\sqrt",
        "\\boxed",
        "\\text",
        "\\left",
        "\\right",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "\\\\",
        "&",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "\\{",
        "\\}",
        "|",
        "^",
        "_",
        "+",
        "-",
        "*",
        "/",
        "=",
        "<",
        "\\le",
        "\\in",
        "\\cup",
        ",",
        ";",
        ":",
        ".",
        "!",
        "'",
        "%",
        "\\%",
        "$",
        "\\$",
        " ",
        "\\,",
        "\\pm",
        "\\infty",
        "\\sin",
        "\\log",
        "\\binom",
        "\\sum",
        "x",
        "n",
        "e",
        "i",
        "\\pi",
        "0",
        "1",
        "12",
        "3.5",
        "^\\circ",
        "π",
        "cm",
    ];
    let mut random = Random(5);
    let soup = |random: &mut Random| (0..1 + random.below(24)).map(|_| random.of(&SCRAPS)).collect::<String>();
    for _ in 0..20_000 {
        let (a, b) = (soup(&mut random), soup(&mut random));
        for (given, other) in [(&a, &b), (&b, &a), (&a, &a)] {
            let boxed = format!("\\boxed{{{given}}}");
            for graded in [equivalent(&boxed, other), equivalent(given, other), strict(&boxed, other)] {
                assert!(graded.score == 0.0 || graded.score == 1.0);
            }
        }
        assert_eq!(score(&a, &b), score(&a, &b));
    }
}

#[test]
fn bytes_never_panic() {
    let mut random = Random(6);
    for _ in 0..5000 {
        let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.below(256) as u8).collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        equivalent(&text, "1");
        equivalent(&format!("\\boxed{{{text}}}"), &text);
        strict(&text, &text);
    }
}

#[test]
fn an_answer_of_invisible_characters_is_none() {
    for invisible in ["\u{202b}", "\u{200b}\u{feff}", " \u{2060} "] {
        assert_eq!(equivalent(&format!("\\boxed{{{invisible}}}"), "").score, 0.0, "{invisible:?}");
        assert_eq!(equivalent("\\boxed{}", invisible).score, 0.0, "{invisible:?}");
    }
    assert_eq!((equivalent("\\boxed{<;}", "<").score, equivalent("\\boxed{<}", "<;").score), (0.0, 0.0));
}
