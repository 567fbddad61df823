//! A response and an answer, cut at the first 0: all rules end, in bounded time, and `equivalent` is symmetric.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (response, answer) = text.split_once('\0').unwrap_or((&text, ""));
    bupo_grade::strict(response, answer);
    bupo_grade::equivalent(response, answer);
    bupo_grade::numeric(response, answer);
    bupo_grade::exact(response, answer);
    bupo_grade::right_answer(response);
    let boxed = |text: &str| format!("\\boxed{{{text}}}");
    let forth = bupo_grade::equivalent(&boxed(response), answer).score;
    let back = bupo_grade::equivalent(&boxed(answer), response).score;
    // A text that closes the box ends early in one direction only.
    if balanced(response) && balanced(answer) {
        assert_eq!(forth, back, "{response:?} and {answer:?}");
    }
});

/// Whether the text in a box is the text out of it.
fn balanced(text: &str) -> bool {
    !text.contains(['{', '}', '\\', '$']) && !text.contains("oxed")
}
