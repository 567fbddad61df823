//! Printing that a closed pipe does not end: who reads the first lines of a long run and leaves must not stop it.

/// As `println!`; what cannot be written is dropped.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($part)*).ok();
    }};
}

/// As `print!`; what cannot be written is dropped.
macro_rules! say_on {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        write!(std::io::stdout(), $($part)*).ok();
    }};
}
