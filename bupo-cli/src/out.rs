//! Printing to standard output. Unlike `println!`, these macros do not panic if the reader has closed the pipe.

/// Like `println!`; write errors are ignored.
macro_rules! outln {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($part)*).ok();
    }};
}

/// Like `print!`; write errors are ignored.
macro_rules! out {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        write!(std::io::stdout(), $($part)*).ok();
    }};
}
