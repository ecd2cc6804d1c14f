//! Real records, where the shared corpus lies beside the repository; its absence is told and no failure.

use std::path::{Path, PathBuf};

use super::*;
use crate::identity::{Seen as Known, Sight, content_hash, event_id};

fn corpus(part: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|p| p.join("Cargo.lock").is_file())?;
    let folder = root.parent()?.join("shared/data").join(part);
    if !folder.is_dir() {
        println!("skipped: no shared corpus ({part})");
        return None;
    }
    Some(folder)
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|e| e == "json" || e == "gz") {
            into.push(path);
        }
    }
}

fn totals(folder: &Path) -> (usize, usize, Vec<String>, usize) {
    let mut paths = Vec::new();
    files(folder, &mut paths);
    paths.sort();
    let (mut records, mut again, mut malformed, mut unknown) = (0, 0, Vec::new(), 0);
    let mut known = Known::new();
    for path in paths {
        let name = path.to_string_lossy();
        let file = std::fs::File::open(&path).unwrap();
        read(file, &name, None, &Limits::default(), &mut |found| match found {
            Found::Record(r) => {
                records += 1;
                let sight = known.note(&event_id(&r.head, r.value, r.text), content_hash(r.value));
                again += usize::from(sight != Sight::New);
            }
            Found::Malformed { position, reason } => malformed.push(format!("{name} {position}: {reason}")),
            Found::Unknown { .. } => unknown += 1,
        })
        .unwrap();
    }
    (records, again, malformed, unknown)
}

#[test]
fn all_records_of_the_corpus_are_read() {
    let Some(folder) = corpus("cloudtrail") else { return };
    let (records, again, malformed, unknown) = totals(&folder);
    assert_eq!((records, unknown), (1_079, 0), "{malformed:?}");
    assert!((249..252).contains(&again), "{again} seen again");
    let empty = |m: &&String| m.ends_with("an array without any object");
    assert_eq!(malformed.iter().filter(empty).count(), malformed.len(), "{malformed:?}");
}

#[test]
fn event_bridge_events_of_the_corpus_are_told_apart() {
    let Some(folder) = corpus("eventbridge") else { return };
    let (records, _, malformed, unknown) = totals(&folder);
    assert_eq!(records, 24, "{malformed:?}");
    assert!(unknown > 0);
}
