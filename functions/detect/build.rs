//! Embeds the default rule pack: every `rules/**/*.yml` and the tests file beside it become text in the
//! binary, so that it works from any folder and on a machine without the sources.

use std::{
    env,
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=rules");
    println!("cargo::rerun-if-changed=build.rs");
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?);
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    let root = manifest.join("rules");
    let mut files = Vec::new();
    if root.is_dir() {
        collect(&root, &mut files)?;
    }
    files.sort();
    let mut code = String::from(
        "/// Name, rule text and tests text of every embedded rule file, sorted by name.\npub(super) static FILES: &[(&str, &str, Option<&str>)] = &[\n",
    );
    for file in &files {
        let name = file.strip_prefix(&root).map_err(io::Error::other)?.to_string_lossy().replace('\\', "/");
        let tests = file.with_extension("tests.json");
        let tests = if tests.is_file() { Some(fs::read_to_string(tests)?) } else { None };
        writeln!(code, "    ({name:?}, {:?}, {tests:?}),", fs::read_to_string(file)?).map_err(io::Error::other)?;
    }
    code.push_str("];\n");
    fs::write(out.join("pack.rs"), code)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            println!("cargo::rerun-if-changed={}", path.display());
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "yml") {
            files.push(path);
        }
    }
    Ok(())
}
