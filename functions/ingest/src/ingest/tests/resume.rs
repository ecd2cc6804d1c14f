//! An input that is cut, continued, and cut by crashes: the same objects and events as if it had been read at once.

use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;
use sentinel_archive::object::{DayReader, objects};

use super::*;

impl Bench {
    /// Reads `text` from where it was cut, stopping after `batches` batches.
    async fn part(&self, text: &str, skip: u64, batches: usize) -> Result<Report, IngestError> {
        let left = AtomicUsize::new(batches);
        let input = Input::new("x.json", text.as_bytes(), folder());
        let input = input.resumable(skip, || left.fetch_sub(1, Ordering::SeqCst) <= 1);
        self.ingest.accept(input).await
    }

    async fn queued_contents(&self) -> BTreeSet<(String, u64)> {
        self.queued().await.into_iter().flat_map(|b| b.events).map(|e| (e.id, e.content)).collect()
    }
}

/// An archive in memory: objects by account, day and name.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<(String, String, String), Vec<u8>>>);

impl Memory {
    fn names(&self) -> Vec<(String, String, String)> {
        self.0.lock().unwrap().keys().cloned().collect()
    }
}

#[async_trait]
impl Archive for Memory {
    async fn put(&self, events: &[Event]) -> Result<(), ArchiveError> {
        for object in objects(events)? {
            self.0.lock().unwrap().entry((object.account, object.day, object.name)).or_insert(object.bytes);
        }
        Ok(())
    }
    async fn days(&self, account: &str) -> Result<Vec<String>, ArchiveError> {
        let days: BTreeSet<String> =
            self.names().into_iter().filter(|(a, ..)| a == account).map(|(_, day, _)| day).collect();
        Ok(days.into_iter().collect())
    }
    async fn accounts(&self) -> Result<Vec<String>, ArchiveError> {
        let accounts: BTreeSet<String> = self.names().into_iter().map(|(account, ..)| account).collect();
        Ok(accounts.into_iter().collect())
    }
    async fn read(&self, account: &str, day: &str) -> Result<Day, ArchiveError> {
        let mut reader = DayReader::default();
        for ((a, d, name), bytes) in self.0.lock().unwrap().iter() {
            if a == account && d == day {
                reader.add(name, bytes.as_slice());
            }
        }
        Ok(reader.finish())
    }
    async fn forget_before(&self, _: Timestamp) -> Result<u64, ArchiveError> {
        Ok(0)
    }
}

fn bench_of(batch_events: usize) -> (Bench, Arc<Memory>) {
    let memory = Arc::<Memory>::default();
    let mut b = bench_over(tempfile::tempdir().unwrap(), memory.clone());
    b.ingest = b.ingest.batch_events(batch_events);
    (b, memory)
}

#[tokio::test]
async fn a_cut_tells_where_to_go_on() {
    let (b, _) = bench_of(10);
    let text: Vec<String> = (0..25).map(|i| record(&format!("{i:02}"), "GetUser")).collect();
    let text = text.join("\n");
    let first = b.part(&text, 0, 1).await.unwrap();
    assert_eq!((first.records, first.accepted, first.cut), (10, 10, Some(Cut { records: 10 })));
    let second = b.part(&text, 10, 1).await.unwrap();
    assert_eq!((second.records, second.accepted, second.cut), (10, 10, Some(Cut { records: 20 })));
    let last = b.part(&text, 20, 1).await.unwrap();
    assert_eq!((last.records, last.accepted, last.cut), (5, 5, None));
    assert_eq!(ids(&b.queued().await).len(), 25);
    assert_eq!(serde_json::to_value(&last).unwrap().get("cut"), None);
}

#[tokio::test]
async fn what_was_wrong_before_the_cut_is_told_once() {
    let (b, _) = bench_of(2);
    let mut lines: Vec<String> = (0..5).map(|i| record(&i.to_string(), "GetUser")).collect();
    lines.insert(1, "{broken".into());
    lines.insert(4, "{broken too".into());
    let text = lines.join("\n");
    let first = b.part(&text, 0, 1).await.unwrap();
    let rest = b.part(&text, first.cut.unwrap().records, usize::MAX).await.unwrap();
    assert_eq!((first.malformed_count, rest.malformed_count, rest.cut), (1, 1, None));
    assert_eq!((first.accepted, rest.accepted), (2, 3));
}

#[tokio::test]
async fn an_input_of_nothing_but_copies_can_be_cut_too() {
    let (b, _) = bench_of(2);
    let text = vec![record("1", "GetUser"); 100].join("\n");
    let first = b.part(&text, 0, 1).await.unwrap();
    assert_eq!((first.accepted, first.cut), (1, Some(Cut { records: 40 })));
    let second = b.part(&text, 40, 1).await.unwrap();
    assert_eq!((second.accepted, second.duplicates, second.cut), (0, 40, Some(Cut { records: 80 })));
}

/// One thing that happens to a delivery of a file.
#[derive(Debug, Clone)]
enum Turn {
    /// It is read for so many batches.
    Read(usize),
    /// An effect fails: before it is carried out, or with its answer lost.
    Crash { effect: usize, after: bool, batches: usize },
    /// The message that told of the last part comes once more.
    Again,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        (1..4_usize).prop_map(Turn::Read),
        (1..9_usize, any::<bool>(), 1..4_usize).prop_map(|(effect, after, batches)| Turn::Crash {
            effect,
            after,
            batches
        }),
        Just(Turn::Again),
    ]
}

/// Lines of a file: records of few ids and contents over two days, records of another account than their
/// sender's, and junk.
fn line() -> impl Strategy<Value = String> {
    let names = prop_oneof![Just("GetUser"), Just("ListUsers")];
    prop_oneof![
        8 => (0..40_u32, names, 6..8_u32).prop_map(|(id, name, day)| {
            record(&id.to_string(), name).replace("2024-05-06", &format!("2024-05-0{day}"))
        }),
        1 => Just(format!(r#"{{"detail-type":"AWS API Call via CloudTrail","account":"444455556666","detail":{}}}"#,
            record("foreign", "GetUser"))),
        1 => Just("{broken".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_cuts_and_crashes_give_the_same_objects_and_events(
        lines in prop::collection::vec(line(), 0..80), turns in prop::collection::vec(turn(), 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let text = lines.join("\n");
            let (whole, wanted) = bench_of(5);
            let told = whole.accept(&text).await.unwrap();

            let (b, objects) = bench_of(5);
            let (mut skip, mut before, mut done) = (0, 0, false);
            let (mut accepted, mut malformed, mut set_aside) = (0, 0, 0);
            for turn in turns.into_iter().chain([Turn::Read(usize::MAX)]) {
                let batches = match turn {
                    Turn::Again => {
                        b.part(&text, before, 1).await.unwrap();
                        continue;
                    }
                    _ if done => continue,
                    Turn::Read(batches) => batches,
                    Turn::Crash { effect, after, batches } => {
                        b.ports.after.store(after, Ordering::SeqCst);
                        b.ports.effects_left.store(effect, Ordering::SeqCst);
                        batches
                    }
                };
                let read = b.part(&text, skip, batches).await;
                b.ports.effects_left.store(usize::MAX / 2, Ordering::SeqCst);
                // A crash: the message comes again.
                let Ok(report) = read else { continue };
                accepted += report.accepted;
                malformed += report.malformed_count;
                set_aside += report.set_aside;
                before = skip;
                match report.cut {
                    Some(cut) => {
                        assert!(cut.records > skip, "each part gets further");
                        skip = cut.records;
                    }
                    None => done = true,
                }
            }
            assert!(done);
            assert_eq!(objects.names(), wanted.names());
            assert_eq!(b.archived().await, whole.archived().await);
            assert_eq!(b.queued_contents().await, whole.queued_contents().await);
            assert_eq!((accepted, malformed, set_aside), (told.accepted, told.malformed_count, told.set_aside));
        });
    }
}
