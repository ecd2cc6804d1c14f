//! Many small inputs as one.

use super::*;

fn bus(account: &str) -> Channel {
    Channel::Bus { bus: "default".into(), account: account.into() }
}

impl Bench {
    async fn accept_all(&self, texts: &[(&str, Channel)]) -> Vec<Result<Report, IngestError>> {
        let inputs = texts.iter().map(|(text, channel)| Input::new("message", text.as_bytes(), channel.clone()));
        self.ingest.accept_all(inputs.collect()).await
    }
}

#[tokio::test]
async fn many_inputs_make_one_archive_object_one_index_call_and_one_message() {
    let b = bench();
    let texts: Vec<String> = (0..10).map(|i| record(&i.to_string(), "GetUser")).collect();
    let inputs: Vec<_> = texts.iter().map(|text| (text.as_str(), bus("111122223333"))).collect();
    let before = b.ports.effects_left.load(Ordering::SeqCst);
    let outcomes = b.accept_all(&inputs).await;
    assert_eq!(before - b.ports.effects_left.load(Ordering::SeqCst), 3);
    for outcome in outcomes {
        let report = outcome.unwrap();
        assert_eq!((report.records, report.accepted, report.cut), (1, 1, None));
    }
    assert_eq!(b.objects().len(), 1);
    let batches = b.queued().await;
    assert_eq!((batches.len(), ids(&batches).len()), (1, 10));
}

#[tokio::test]
async fn a_broken_input_fails_alone() {
    let b = bench();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(record("2", "GetUser").as_bytes()).unwrap();
    let zipped = gz.finish().unwrap();
    let (first, last) = (record("1", "GetUser"), record("3", "GetUser"));
    let inputs = vec![
        Input::new("whole", first.as_bytes(), folder()),
        Input::new("cut", &zipped[..zipped.len() - 9], folder()),
        Input::new("junk", "{broken".as_bytes(), folder()),
        Input::new("last", last.as_bytes(), folder()),
    ];
    let outcomes = b.ingest.accept_all(inputs).await;
    assert_eq!(outcomes[0].as_ref().unwrap().accepted, 1);
    match &outcomes[1] {
        Err(IngestError::Read { name, error: ReadError::Decompress(_), .. }) => assert_eq!(name, "cut"),
        other => panic!("{other:?}"),
    }
    let junk = outcomes[2].as_ref().unwrap();
    assert_eq!((junk.records, junk.malformed_count, junk.malformed[0].file.as_str()), (0, 1, "junk"));
    assert_eq!(outcomes[3].as_ref().unwrap().accepted, 1);
    let archived = b.archived().await;
    assert!(archived.contains(&"1".to_owned()) && archived.contains(&"3".to_owned()), "{archived:?}");
}

#[tokio::test]
async fn a_port_that_fails_fails_all_and_nothing_is_lost_by_trying_again() {
    for failing in 1..=3 {
        let b = bench();
        b.ports.effects_left.store(failing, Ordering::SeqCst);
        let texts = [record("1", "GetUser"), "{broken".to_owned(), record("2", "GetUser")];
        let inputs: Vec<_> = texts.iter().map(|text| (text.as_str(), bus("111122223333"))).collect();
        for outcome in b.accept_all(&inputs).await {
            let error = outcome.unwrap_err();
            assert!(matches!(error, IngestError::Together(_)), "{error:?}");
            assert!(error.to_string().contains("connection lost"), "{error}");
        }
        let outcomes = b.accept_all(&inputs).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(b.archived().await, ["1", "2"]);
    }
}

#[tokio::test]
async fn copies_in_several_inputs_count_once_and_each_adds_how_it_came() {
    let b = bench();
    let (one, other) = (record("1", "GetUser"), record("1", "DeleteUser"));
    let outcomes =
        b.accept_all(&[(&one, bus("111122223333")), (&one, folder()), (&one, folder()), (&other, folder())]).await;
    let told: Vec<_> =
        outcomes.into_iter().map(|o| o.map(|r| (r.accepted, r.duplicates, r.conflicting)).unwrap()).collect();
    assert_eq!(told, [(1, 0, 0), (0, 1, 0), (0, 1, 0), (1, 0, 1)]);
    let batches = b.queued().await;
    let channels: Vec<Vec<Channel>> =
        batches[0].events.iter().map(|e| e.provenance.iter().map(|copy| copy.channel.clone()).collect()).collect();
    assert_eq!(channels, [vec![bus("111122223333"), folder()], vec![folder()]]);
}

#[tokio::test]
async fn a_copy_of_what_was_handed_on_still_adds_how_it_came() {
    let mut b = bench();
    b.ingest = b.ingest.batch_events(1);
    let one = record("1", "GetUser");
    let outcomes = b.accept_all(&[(&one, bus("111122223333")), (&one, folder())]).await;
    assert!(outcomes.iter().all(|o| o.as_ref().is_ok_and(|r| r.accepted == 1)), "{outcomes:?}");
    let events = b.ports.archive.read("111122223333", "2024-05-06").await.unwrap().events;
    assert_eq!((events.len(), events[0].provenance.len()), (1, 2));
}

#[tokio::test]
async fn no_inputs_have_no_effect() {
    let b = bench();
    let before = b.ports.effects_left.load(Ordering::SeqCst);
    assert!(b.accept_all(&[]).await.is_empty());
    assert_eq!(b.ports.effects_left.load(Ordering::SeqCst), before);
}
