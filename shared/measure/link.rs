//! Links a function's binary to a fixed address: the build script of every function, and of the hello-world function
//! that they are measured against.
//!
//! A binary that can be loaded anywhere has 50,000 pointers put right at each start, each page of them copied first.
//! A function's process is alone in its sandbox, and is started anew far more often than a server.

fn main() {
    println!("cargo::rerun-if-changed={}", file!());
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") == "linux" {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
