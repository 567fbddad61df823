//! Folds identical functions when the program is linked: generic code is compiled for each of four backends, and much of it comes
//! out the same.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    // Rust's own linker there is LLD, which can fold; another linker that was configured may not.
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let has_lld = std::env::var_os("RUSTC_LINKER").is_none() && !flags.contains("link");
    if has_lld && (target("ARCH"), target("OS"), target("ENV")) == ("x86_64".into(), "linux".into(), "gnu".into()) {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
