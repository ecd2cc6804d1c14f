//! What no suite over a healthy store sees: throttling, lost answers, competing transactions, stale indexes.
//!
//! A scripted server stands where the network would be, so that requests and errors pass through the SDK whole.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use sentinel_durable::{Clock, ManualClock};
use sentinel_model::Timestamp;
use sentinel_state::{Condition, Index, IndexKey, Key, Page, Put, Query, SkRange, Table, TableError, Write};
use serde_json::{Value, json};

use super::{ACTIONS, DynamoTable};

/// What the server does with a request.
enum Answer {
    /// Carries it out and answers.
    Ok(Value),
    /// Refuses it with this exception.
    Refused(&'static str, Value),
    /// Its answer is lost on the way.
    Lost,
}

type Step = Box<dyn FnOnce(&Value) -> Answer + Send>;

#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    seen: Vec<(String, Value)>,
}

/// A server that follows a script, and remembers what it was asked.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Script>>);

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    fn then(self, step: impl FnOnce(&Value) -> Answer + Send + 'static) -> Self {
        self.0.lock().unwrap().steps.push_back(Box::new(step));
        self
    }

    fn answers(self, answer: Value) -> Self {
        self.then(move |_| Answer::Ok(answer))
    }

    fn refuses(self, exception: &'static str) -> Self {
        self.then(move |_| Answer::Refused(exception, json!({"message": "because"})))
    }

    fn cancels(self, codes: &'static [&'static str]) -> Self {
        let reasons: Vec<Value> = codes.iter().map(|code| json!({"Code": code})).collect();
        self.then(move |_| Answer::Refused("TransactionCanceledException", json!({"CancellationReasons": reasons})))
    }

    fn loses(self) -> Self {
        self.then(|_| Answer::Lost)
    }

    fn table(&self) -> DynamoTable {
        let quick = RetryConfig::standard().with_max_attempts(4).with_initial_backoff(Duration::from_millis(1));
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
            .retry_config(quick)
            .http_client(self.clone())
            .build();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millisecond(NOW).unwrap()));
        DynamoTable::new(Client::from_conf(config), "sentinel", clock)
    }

    fn seen(&self) -> Vec<(String, Value)> {
        assert!(self.0.lock().unwrap().steps.is_empty(), "not all of the script was used");
        std::mem::take(&mut self.0.lock().unwrap().seen)
    }

    fn operations(&self) -> Vec<String> {
        self.seen().into_iter().map(|(operation, _)| operation).collect()
    }
}

impl HttpClient for Server {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Server {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut script = self.0.lock().unwrap();
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let step = script.steps.pop_front().unwrap_or_else(|| panic!("{operation} was not expected: {body}"));
        let answer = step(&body);
        script.seen.push((operation, body));
        HttpConnectorFuture::ready(match answer {
            Answer::Ok(body) => Ok(respond(200, &body)),
            Answer::Refused(exception, mut body) => {
                body["__type"] = format!("com.amazonaws.dynamodb.v20120810#{exception}").into();
                Ok(respond(400, &body))
            }
            Answer::Lost => Err(ConnectorError::io("the connection was closed".into())),
        })
    }
}

fn respond(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body.to_string()))
}

const NOW: i64 = 1_772_366_400_000;

fn key() -> Key {
    Key::new("pk", "sk")
}

fn put(condition: Condition) -> Write {
    Write::Put(Put::new(key(), &json!({"n": 1})).unwrap().when(condition))
}

/// An item as the server has it.
fn stored(sk: &str, more: &[(&str, Value)]) -> Value {
    let mut item = json!({"pk": {"S": "pk"}, "sk": {"S": sk}, "body": {"S": "{\"n\":1}"}, "version": {"N": "1"}});
    for (name, value) in more {
        item[*name] = value.clone();
    }
    item
}

fn expired() -> Vec<(&'static str, Value)> {
    vec![("expires_ms", json!({"N": NOW.to_string()}))]
}

fn positions(result: Result<(), TableError>) -> Vec<usize> {
    match result {
        Err(TableError::ConditionFailed(positions)) => positions,
        other => panic!("expected failed conditions, not {other:?}"),
    }
}

fn failure<T: std::fmt::Debug>(result: Result<T, TableError>) -> String {
    match result {
        Err(e @ TableError::Store(_)) => e.to_string(),
        other => panic!("expected a failure of the store, not {other:?}"),
    }
}

fn sort_keys(page: &Page) -> Vec<&str> {
    page.items.iter().map(|item| item.key.sk.as_str()).collect()
}

#[tokio::test]
async fn throttling_passes() {
    let server = Server::default()
        .refuses("ProvisionedThroughputExceededException")
        .refuses("ThrottlingException")
        .answers(json!({"Item": stored("sk", &[])}));
    let item = server.table().get(&key()).await.unwrap().unwrap();
    assert_eq!((item.body, item.version), (json!({"n": 1}), 1));
    assert_eq!(server.operations(), ["GetItem"; 3]);
}

#[tokio::test]
async fn throttling_that_does_not_pass_is_a_failure_that_names_itself() {
    let mut server = Server::default();
    for _ in 0..4 {
        server = server.refuses("ThrottlingException");
    }
    let error = failure(server.table().write(vec![put(Condition::None)]).await);
    assert!(error.contains("UpdateItem") && error.contains("ThrottlingException: because"), "{error}");
    assert!(!error.contains("\"n\""), "what is stored is not told: {error}");
}

#[tokio::test]
async fn a_conditional_put_whose_answer_was_lost_knows_itself_again() {
    for condition in [Condition::Absent, Condition::Version(1)] {
        let kept = Arc::new(Mutex::new(Value::Null));
        let (keep, show) = (kept.clone(), kept);
        let server = Server::default()
            .then(move |request| {
                *keep.lock().unwrap() = request["ExpressionAttributeValues"][":nonce"].clone();
                Answer::Lost
            })
            .then(move |_| {
                let nonce = show.lock().unwrap().clone();
                Answer::Refused("ConditionalCheckFailedException", json!({"Item": stored("sk", &[("nonce", nonce)])}))
            });
        server.table().write(vec![put(condition)]).await.expect("it was our own write");
        let seen = server.seen();
        assert_eq!(seen[0].1, seen[1].1, "the same request, so the same nonce");
        assert_eq!(seen[0].1["ReturnValuesOnConditionCheckFailure"], "ALL_OLD");
    }
}

#[tokio::test]
async fn anothers_nonce_is_not_ours_and_none_is_nobodys() {
    for more in [vec![("nonce", json!({"B": "b3RoZXI="}))], vec![]] {
        let item = stored("sk", &more);
        let refusal = move |_: &Value| Answer::Refused("ConditionalCheckFailedException", json!({ "Item": item }));
        let server = Server::default().loses().then(refusal);
        assert_eq!(positions(server.table().write(vec![put(Condition::Absent)]).await), [0]);
        server.seen();
    }
    let server = Server::default().refuses("ConditionalCheckFailedException");
    assert_eq!(positions(server.table().write(vec![put(Condition::Version(3))]).await), [0]);
}

#[tokio::test]
async fn each_conditional_put_has_its_own_nonce_and_the_others_none() {
    let server = Server::default().answers(json!({})).answers(json!({})).answers(json!({}));
    let table = server.table();
    for condition in [Condition::Absent, Condition::Absent, Condition::None] {
        table.write(vec![put(condition)]).await.unwrap();
    }
    let seen = server.seen();
    let asked: Vec<bool> =
        seen.iter().map(|(_, body)| body.get("ReturnValuesOnConditionCheckFailure").is_some()).collect();
    assert_eq!(asked, [true, true, false], "there is no item to tell of where no condition can fail");
    let nonces: Vec<Value> = seen.iter().map(|(_, body)| body["ExpressionAttributeValues"][":nonce"].clone()).collect();
    assert!(nonces[0].is_object() && nonces[0] != nonces[1], "{nonces:?}");
    assert!(nonces[2].is_null(), "{nonces:?}");
}

#[tokio::test]
async fn a_conditional_deletion_whose_answer_was_lost_says_that_it_does_not_know() {
    let delete = || vec![Write::Delete(key(), Condition::Version(1))];
    let server = Server::default().loses().refuses("ConditionalCheckFailedException");
    let error = failure(server.table().write(delete()).await);
    assert!(error.contains("may have been the first try"), "{error}");

    // Nothing was lost, or another's item is there: the condition did not hold.
    let server = Server::default().refuses("ConditionalCheckFailedException");
    assert_eq!(positions(server.table().write(delete()).await), [0]);
    let item = stored("sk", &[("version", json!({"N": "2"}))]);
    let server = Server::default()
        .loses()
        .then(move |_| Answer::Refused("ConditionalCheckFailedException", json!({ "Item": item })));
    assert_eq!(positions(server.table().write(delete()).await), [0]);
}

fn transaction() -> Vec<Write> {
    vec![
        Write::Check(Key::new("pk", "unchecked"), Condition::None),
        put(Condition::Version(1)),
        Write::Delete(Key::new("pk", "other"), Condition::Version(2)),
        Write::Check(Key::new("pk", "third"), Condition::Absent),
    ]
}

#[tokio::test]
async fn a_transaction_waits_for_another_and_is_itself_each_time() {
    let server = Server::default()
        .cancels(&["None", "TransactionConflict", "None"])
        .loses()
        .refuses("TransactionInProgressException")
        .cancels(&["ThrottlingError", "None", "ProvisionedThroughputExceeded"])
        .answers(json!({}));
    server.table().write(transaction()).await.unwrap();
    let seen = server.seen();
    let tokens: BTreeSet<&str> = seen.iter().map(|(_, body)| body["ClientRequestToken"].as_str().unwrap()).collect();
    assert_eq!((seen.len(), tokens.len()), (5, 1), "one token for all attempts");

    let other = Server::default().answers(json!({}));
    other.table().write(transaction()).await.unwrap();
    let body = other.seen().remove(0).1;
    assert!(!tokens.contains(body["ClientRequestToken"].as_str().unwrap()), "and another for another transaction");
    assert_eq!(body["TransactItems"].as_array().unwrap().len(), 3, "a check of nothing is not sent");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_gives_up_in_the_end() {
    let mut server = Server::default();
    for _ in 0..10 {
        server = server.cancels(&["None", "TransactionConflict", "None"]);
    }
    let error = failure(server.table().write(transaction()).await);
    assert!(error.contains("1 TransactionConflict"), "{error}");
    assert_eq!(server.operations().len(), 10);
}

#[tokio::test]
async fn failed_conditions_are_told_by_their_position_in_what_was_asked() {
    let server =
        Server::default().cancels(&["ConditionalCheckFailed", "TransactionConflict", "ConditionalCheckFailed"]);
    assert_eq!(positions(server.table().write(transaction()).await), [1, 3]);
    server.seen();
    // What neither passes nor is a condition is a failure at once.
    let server = Server::default().cancels(&["TransactionConflict", "ValidationError", "None"]);
    let error = failure(server.table().write(transaction()).await);
    assert!(error.contains("1 ValidationError"), "{error}");
    assert_eq!(server.operations().len(), 1);
}

#[tokio::test]
async fn a_single_write_waits_for_a_transaction_too() {
    let server = Server::default().refuses("TransactionConflictException").answers(json!({}));
    server.table().write(vec![put(Condition::Absent)]).await.unwrap();
    assert_eq!(server.operations(), ["UpdateItem"; 2]);
    let server = Server::default().refuses("TransactionConflictException").answers(json!({}));
    server.table().write(vec![Write::Delete(key(), Condition::None)]).await.unwrap();
    assert_eq!(server.operations(), ["DeleteItem"; 2]);
}

#[tokio::test]
async fn a_check_alone_is_a_read_and_nothing_is_no_call() {
    let server = Server::default().answers(json!({})).answers(json!({"Item": stored("sk", &expired())}));
    let table = server.table();
    let check = |condition| vec![Write::Check(key(), condition)];
    table.write(check(Condition::Absent)).await.unwrap();
    assert_eq!(positions(table.write(check(Condition::Version(1))).await), [0], "it has expired");
    table.write(check(Condition::None)).await.unwrap();
    table.write(Vec::new()).await.unwrap();
    let seen = server.seen();
    assert!(seen.iter().all(|(operation, body)| operation == "GetItem" && body["ConsistentRead"] == true), "{seen:?}");
}

#[tokio::test]
async fn keys_left_unprocessed_are_asked_for_again() {
    let keys = |sks: &[&str]| -> Value { sks.iter().map(|sk| json!({"pk": {"S": "pk"}, "sk": {"S": sk}})).collect() };
    let left = json!({"sentinel": {"Keys": keys(&["b"]), "ConsistentRead": true}});
    let server = Server::default()
        .answers(json!({"Responses": {"sentinel": [stored("a", &[])]}, "UnprocessedKeys": left}))
        .answers(json!({"Responses": {"sentinel": [stored("b", &[])]}, "UnprocessedKeys": {}}));
    let found =
        server.table().get_many(&[Key::new("pk", "a"), Key::new("pk", "b"), Key::new("pk", "a")]).await.unwrap();
    assert_eq!(found.len(), 2);
    let seen = server.seen();
    let asked = |i: usize| &seen[i].1["RequestItems"]["sentinel"];
    assert_eq!(asked(0)["Keys"].as_array().unwrap().len(), 2, "each once");
    assert_eq!(asked(1)["Keys"], keys(&["b"]));
    assert!((0..2).all(|i| asked(i)["ConsistentRead"] == true));
}

#[tokio::test(start_paused = true)]
async fn keys_that_stay_unprocessed_are_a_failure_and_no_silent_loss() {
    let mut server = Server::default();
    for _ in 0..10 {
        let left = json!({"sentinel": {"Keys": [{"pk": {"S": "pk"}, "sk": {"S": "sk"}}]}});
        server = server.answers(json!({"Responses": {}, "UnprocessedKeys": left}));
    }
    let error = failure(server.table().get_many(&[key()]).await);
    assert!(error.contains("1 keys stay unprocessed"), "{error}");
    server.seen();
}

#[tokio::test]
async fn an_index_that_lags_shows_no_item_that_is_not_there() {
    let place = |sk: &str, order: &str| json!({"pk": {"S": "pk"}, "sk": {"S": sk}, "gsi1pk": {"S": "ALL"}, "gsi1sk": {"S": order}});
    let now =
        |sk: &str, pk: &str, order: &str| stored(sk, &[("gsi1pk", json!({"S": pk})), ("gsi1sk", json!({"S": order}))]);
    let entries: Vec<Value> = [("same", "M5"), ("gone", "M5"), ("moved", "M4"), ("elsewhere", "M3"), ("beyond", "M2")]
        .iter()
        .map(|(sk, order)| place(sk, order))
        .chain([json!({"pk": {"S": "pk"}, "sk": {"S": "moved"}, "gsi1pk": {"S": "ALL"}, "gsi1sk": {"S": "M1"}})])
        .collect();
    let mut unlisted = now("unlisted", "ALL", "M0");
    unlisted.as_object_mut().unwrap().remove("gsi1pk");
    let items = vec![
        now("moved", "ALL", "M1"),
        now("elsewhere", "CLOSED", "M3"),
        now("beyond", "ALL", "N"),
        now("same", "ALL", "M5"),
        unlisted,
    ];
    let server =
        Server::default().answers(json!({ "Items": entries })).answers(json!({"Responses": {"sentinel": items}}));
    let query = Query::listing(Index::One, "ALL", 10).range(SkRange::Prefix("M".into()));
    let page = server.table().query(query).await.unwrap();
    assert_eq!(sort_keys(&page), ["same", "moved"], "in the order of the index, each once");
    let seen = server.seen();
    assert_eq!(seen[0].1["IndexName"], "gsi1");
    assert_eq!(seen[1].0, "BatchGetItem");
}

#[tokio::test]
async fn expired_items_neither_fill_a_page_nor_end_it() {
    let left = |sk: &str| json!({"pk": {"S": "pk"}, "sk": {"S": sk}});
    let server = Server::default()
        .answers(json!({"Items": [stored("1", &expired()), stored("2", &expired())], "LastEvaluatedKey": left("2")}))
        .answers(json!({"Items": [stored("3", &[]), stored("4", &expired()), stored("5", &[])], "LastEvaluatedKey": left("5")}))
        .answers(json!({"Items": []}));
    let table = server.table();
    let page = table.query(Query::partition("pk", 1)).await.unwrap();
    assert_eq!(sort_keys(&page), ["3"]);
    let next = table.query(Query::partition("pk", 1).after(page.next)).await.unwrap();
    assert_eq!((next.items.len(), next.next), (0, None));
    let seen = server.seen();
    assert_eq!(seen[1].1["ExclusiveStartKey"], left("2"), "on behind what had expired");
    assert_eq!(seen[2].1["ExclusiveStartKey"], left("3"), "a page goes on behind what the last one showed");
}

#[tokio::test]
async fn what_the_store_refuses_to_be_asked_is_answered_without_it() {
    let server = Server::default();
    let table = server.table();
    let range = |from: &str, to: &str| SkRange::Between(from.into(), to.into());
    for (pk, sk) in [("pk", range("b", "a")), ("pk", range("", "")), ("", SkRange::All)] {
        let page = table.query(Query::partition(pk, 5).range(sk)).await.unwrap();
        assert_eq!(page, Page { items: Vec::new(), next: None });
    }
    assert_eq!(table.get(&Key::new("pk", "")).await.unwrap(), None);
    assert!(table.get_many(&[Key::new("", "sk")]).await.unwrap().is_empty());
    let long = table.query(Query::partition("pk", 5).range(SkRange::Prefix("x".repeat(1_025)))).await;
    assert!(matches!(long, Err(TableError::BadRequest(_))), "{long:?}");
    assert!(server.seen().is_empty());

    let server = Server::default().answers(json!({"Items": []})).answers(json!({"Items": []}));
    let table = server.table();
    table.query(Query::partition("pk", 5).range(range("", "m"))).await.unwrap();
    table.query(Query::partition("pk", 5).range(SkRange::Prefix(String::new()))).await.unwrap();
    let asked: Vec<String> =
        server.seen().iter().map(|(_, b)| b["KeyConditionExpression"].as_str().unwrap().to_owned()).collect();
    assert_eq!(asked, ["#pk = :pk AND #sk <= :to", "#pk = :pk"]);
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_query_alone() {
    let items: Vec<Value> = ["m1", "m2"].iter().map(|sk| stored(sk, &[])).collect();
    let server = Server::default().answers(json!({ "Items": items }));
    let table = server.table();
    let prefix = |p: &str| Query::partition("pk", 1).range(SkRange::Prefix(p.into()));
    let cursor = table.query(prefix("m")).await.unwrap().next.expect("there is another");
    let mut foreign = vec![prefix("n"), Query::partition("other", 1), Query::listing(Index::One, "pk", 1)];
    foreign.push(Query::listing(Index::Two, "pk", 1));
    for query in foreign {
        let result = table.query(query.clone().after(Some(cursor.clone()))).await;
        assert!(matches!(result, Err(TableError::BadRequest(_))), "{query:?}: {result:?}");
    }
    server.seen();
}

#[tokio::test]
async fn the_actions_named_are_those_used_and_no_other() {
    let server = Server::default()
        .answers(json!({}))
        .answers(json!({"Responses": {}}))
        .answers(json!({"Items": []}))
        .answers(json!({}))
        .answers(json!({}))
        .answers(json!({}));
    let table = server.table();
    table.get(&key()).await.unwrap();
    table.get_many(&[key()]).await.unwrap();
    table.query(Query::partition("pk", 1)).await.unwrap();
    let listed = Put::new(key(), &json!({})).unwrap().listed(Index::Two, IndexKey::new("a", "b"));
    table.write(vec![Write::Put(listed)]).await.unwrap();
    table.write(vec![Write::Delete(key(), Condition::None)]).await.unwrap();
    table.write(transaction()).await.unwrap();
    let mut used = BTreeSet::new();
    for (operation, body) in server.seen() {
        if operation != "TransactWriteItems" {
            used.insert(format!("dynamodb:{operation}"));
        }
        for part in body["TransactItems"].as_array().into_iter().flatten() {
            used.extend(part.as_object().unwrap().keys().map(|kind| match kind.as_str() {
                "ConditionCheck" => "dynamodb:ConditionCheckItem".to_owned(),
                kind => format!("dynamodb:{kind}Item"),
            }));
        }
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ACTIONS);
}
