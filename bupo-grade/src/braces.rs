//! Matching braces.

/// The text before the brace that closes the one before `content`.
pub(crate) fn until_closing(content: &str) -> Option<&str> {
    let mut open = 1usize;
    for (at, byte) in content.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(&content[..at]);
        }
    }
    None
}
