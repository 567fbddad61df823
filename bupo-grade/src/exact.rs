//! The rule that compares characters.

use crate::boxed;
use crate::item::Graded;

/// Grades by plain equality: what is in the last box, or the whole response where no box closes, is `answer` once
/// the white space around both is gone.
///
/// ```
/// assert_eq!(bupo_grade::exact("So \\boxed{ Yes }.", "Yes").score, 1.0);
/// assert_eq!(bupo_grade::exact("Yes\n", "Yes").score, 1.0);
/// assert_eq!(bupo_grade::exact("It is Yes", "Yes").score, 0.0);
/// ```
pub fn exact(response: &str, answer: &str) -> Graded {
    let extracted = boxed::unboxed(response).trim();
    Graded::new(extracted == answer.trim(), Some(extracted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_box_or_the_whole_response_is_compared() {
        assert_eq!(exact("\\boxed{1} \\boxed{ 2 }", " 2 "), Graded::new(true, Some("2")));
        assert_eq!(exact("\\boxed{1} \\boxed{2}", "1"), Graded::new(false, Some("2")));
        assert_eq!(exact(" 17\n", "17"), Graded::new(true, Some("17")));
        assert_eq!(exact("17.", "17").score, 0.0);
        assert_eq!(exact("yes", "Yes").score, 0.0);
    }

    #[test]
    fn a_box_that_was_cut_off_is_not_read() {
        assert_eq!(exact("\\boxed{2", "2").score, 0.0);
    }
}
