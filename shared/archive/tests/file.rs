//! Holds the file archive to its port's suite, and to what only files can break.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use proptest::prelude::*;
use sentinel_archive::conformance::{Setup, event, suite};
use sentinel_archive::{Archive, ArchiveError, FileArchive};

const ACCOUNT: &str = "123456789012";
const DAY: &str = "2024-01-05";

struct Fixture {
    folder: tempfile::TempDir,
    archive: Arc<FileArchive>,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let archive = Arc::new(FileArchive::open(folder.path().join("archive")).unwrap());
    Fixture { folder, archive }
}

/// All files under a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[async_trait]
impl Setup for Fixture {
    fn archive(&self) -> Arc<dyn Archive> {
        self.archive.clone()
    }
    async fn objects(&self) -> usize {
        files(self.folder.path()).len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conforms() {
    suite(async || fixture()).await;
}

async fn put(fixture: &Fixture, id: &str) -> PathBuf {
    let before = files(fixture.folder.path());
    let text = format!(r#"{{"eventID":"{id}","padding":"{}"}}"#, "0123456789abcdef".repeat(id.len() * 20));
    fixture.archive.put(&[event(id, "2024-01-05T01:00:00Z", ACCOUNT, &text)]).await.unwrap();
    files(fixture.folder.path()).into_iter().find(|path| !before.contains(path)).unwrap()
}

#[tokio::test]
async fn a_damaged_object_is_named_and_the_others_are_read() {
    let fixture = fixture();
    put(&fixture, "good").await;
    let cut = put(&fixture, "cut").await;
    let garbage = put(&fixture, "garbage").await;
    let empty = put(&fixture, "empty").await;
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    fs::write(&garbage, "no gzip at all").unwrap();
    fs::write(&empty, "").unwrap();
    let day = fixture.archive.read(ACCOUNT, DAY).await.unwrap();
    assert_eq!(day.events.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["good"]);
    let mut named: Vec<String> = day
        .unreadable
        .iter()
        .map(|problem| match problem {
            ArchiveError::Object { name, reason } if !reason.is_empty() => name.clone(),
            other => panic!("{other}"),
        })
        .collect();
    named.sort_unstable();
    let mut expected: Vec<String> = [cut, garbage, empty]
        .iter()
        .map(|path| format!("{ACCOUNT}/{DAY}/{}", path.file_name().unwrap().to_str().unwrap()))
        .collect();
    expected.sort_unstable();
    assert_eq!(named, expected);
}

#[tokio::test]
async fn what_stands_before_the_damage_is_read() {
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    let fixture = fixture();
    let path = put(&fixture, "first").await;
    let line = serde_json::to_string(&event("second", "2024-01-05T02:00:00Z", ACCOUNT, "{}")).unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    write!(gzip, "{line}\n{{\"id\":1}}\n{line}\n{}", &line[..40]).unwrap();
    fs::write(path.with_file_name("other.ndjson.gz"), gzip.finish().unwrap()).unwrap();
    let day = fixture.archive.read(ACCOUNT, DAY).await.unwrap();
    assert_eq!(day.events.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    let problems: Vec<String> = day.unreadable.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("other.ndjson.gz: line 2") && problems[1].contains("line 4 is cut off"),
        "{problems:?}"
    );
}

#[tokio::test]
async fn what_a_crash_left_is_never_read_and_goes_when_old() {
    let fixture = fixture();
    let object = put(&fixture, "good").await;
    let temporary = fixture.folder.path().join("archive/.tmp");
    let (old, young) = (temporary.join("old.ndjson.gz"), temporary.join("young.ndjson.gz"));
    for path in [&old, &young] {
        fs::write(path, "half an obj").unwrap();
    }
    let file = fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_hours(2)).unwrap();
    let archive = FileArchive::open(fixture.folder.path().join("archive")).unwrap();
    assert_eq!(archive.accounts().await.unwrap(), [ACCOUNT]);
    let day = archive.read(ACCOUNT, DAY).await.unwrap();
    assert_eq!((day.events.len(), day.unreadable.len()), (1, 0));
    // The young one may be another process's that is being written.
    assert_eq!(files(fixture.folder.path()), [young, object]);
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = fixture();
    let object = put(&fixture, "a").await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&object), 0o600);
    for folder in object.ancestors().skip(1).take_while(|path| *path != fixture.folder.path()) {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(matches!(FileArchive::open(folder.path().join("file")), Err(ArchiveError::Store(_))));
    let archive = FileArchive::open(folder.path().join("archive")).unwrap();
    fs::write(folder.path().join("archive").join(ACCOUNT), "in the way").unwrap();
    let result = archive.put(&[event("a", "2024-01-05T01:00:00Z", ACCOUNT, "{}")]).await;
    assert!(matches!(result, Err(ArchiveError::Store(_))), "{result:?}");
    assert!(files(&folder.path().join("archive/.tmp")).is_empty(), "nothing is left behind");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is put in whatever batches, each id and content comes back once, with all its copies.
    #[test]
    fn every_event_comes_back_once(
        batches in prop::collection::vec(
            prop::collection::vec((0_u8..6, 0_u8..3, 0_u8..30, "\\PC{0,12}"), 0..8), 0..6)
    ) {
        let mut expected = std::collections::BTreeSet::new();
        let batches: Vec<Vec<_>> = batches
            .into_iter()
            .map(|batch| {
                batch
                    .into_iter()
                    .map(|(id, n, hour, text)| {
                        let raw = serde_json::json!({"id": id, "n": n, "text": text}).to_string();
                        let time = format!("2024-01-0{}T{:02}:00:00Z", 1 + hour / 24, hour % 24);
                        let mut event = event(&id.to_string(), &time, ACCOUNT, &raw);
                        event.provenance[0].channel = sentinel_model::Channel::Api { user: n.to_string() };
                        expected.insert((time[..10].to_owned(), event.id.clone(), raw));
                        event
                    })
                    .collect()
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = runtime.block_on(async {
            let fixture = fixture();
            for batch in batches.iter().chain(&batches) {
                fixture.archive.put(batch).await.unwrap();
            }
            let mut found = Vec::new();
            for account in fixture.archive.accounts().await.unwrap() {
                for day in fixture.archive.days(&account).await.unwrap() {
                    let read = fixture.archive.read(&account, &day).await.unwrap();
                    assert!(read.unreadable.is_empty());
                    assert!(read.events.is_sorted_by_key(|e| e.time));
                    found.extend(read.events.into_iter().map(|e| (day.clone(), e.id, e.raw.text().to_owned())));
                }
            }
            found.sort();
            found
        });
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}
