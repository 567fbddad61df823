//! Printing that a closed pipe does not end: who reads the first lines of a long run and leaves must not stop it.

/// As `println!`; what cannot be written is dropped.
macro_rules! outln {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($part)*).ok();
    }};
}

/// As `print!`; what cannot be written is dropped.
macro_rules! out {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        write!(std::io::stdout(), $($part)*).ok();
    }};
}
