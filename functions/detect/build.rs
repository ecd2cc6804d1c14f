//! Embeds the default rule pack: every `rules/**/*.yml` and the tests file beside it become text in the
//! binary, so that it works from any folder and on a machine without the sources. Their YAML is read here already, by the
//! reader that reads operators' rules, so that a start of the binary need not.

use std::{
    env,
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

#[allow(dead_code)]
#[path = "src/rules/plain.rs"]
mod plain;
#[allow(dead_code)]
#[path = "src/rules/shape.rs"]
mod shape;
#[path = "src/rules/split.rs"]
mod split;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=rules");
    for file in ["build.rs", "src/rules/plain.rs", "src/rules/shape.rs", "src/rules/split.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
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
    let mut places = String::from(
        "/// Where each file's documents begin among the bytes and words.\n#[allow(clippy::unreadable_literal)] // Nobody reads them.\nstatic PLACES: &[(usize, usize)] = &[\n",
    );
    let mut writer = shape::Writer::default();
    for file in &files {
        let name = file.strip_prefix(&root).map_err(io::Error::other)?.to_string_lossy().replace('\\', "/");
        let tests = file.with_extension("tests.json");
        let tests = if tests.is_file() { Some(fs::read_to_string(tests)?) } else { None };
        let text = fs::read_to_string(file)?;
        writeln!(code, "    ({name:?}, {text:?}, {tests:?}),").map_err(io::Error::other)?;
        writeln!(places, "    ({}, {}),", writer.bytes.len(), writer.words.len()).map_err(io::Error::other)?;
        writer.file(&documents(&text));
    }
    code.push_str("];\n");
    places.push_str("];\n");
    let at = (writer.bytes.len(), writer.words.len());
    writer.items();
    places += "/// Where items begin among the bytes and words.\n#[allow(clippy::unreadable_literal)]\n";
    writeln!(places, "static ITEMS: (usize, usize) = {at:?};").map_err(io::Error::other)?;
    fs::write(out.join("pack.rs"), code + &places)?;
    fs::write(out.join("pack.bytes"), writer.bytes)?;
    fs::write(out.join("pack.words"), writer.words)
}

fn documents(text: &str) -> Vec<shape::Document<'_>> {
    let place = |(line, part): (u32, &str)| {
        // Parts are slices of the text.
        let start = part.as_ptr() as usize - text.as_ptr() as usize;
        (line, start, start + part.len())
    };
    let all = split::documents(text).into_iter().map(place);
    all.map(|(line, start, end)| shape::Document::new(line, start, end, plain::read(&text[start..end]))).collect()
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
