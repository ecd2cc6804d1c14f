//! From the port's queries to OpenSearch's, and from its answers to pages.

use sentinel_search::{Document, SearchError, SearchPage, SearchQuery};
use serde_json::{Value, json};

use super::call::CallError;
use super::document::{name_of, words};

/// Most words that a word of two parts or more is completed to where it is too long for the indexed prefixes.
const EXPANSIONS: u32 = 1_000;

/// The request for a page; `None` when nothing can be found, for none of the words can be searched for.
pub(super) fn request(query: &SearchQuery, limit: usize) -> Result<Option<Value>, SearchError> {
    let mut filters = Vec::new();
    if !query.words.trim().is_empty() {
        let separate = query.words.replace('\0', " ");
        let phrases: Vec<String> = separate.split_whitespace().map(words).filter(|phrase| !phrase.is_empty()).collect();
        if phrases.is_empty() {
            return Ok(None);
        }
        filters.extend(
            phrases.iter().map(
                |phrase| json!({"match_phrase_prefix": {"words": {"query": phrase, "max_expansions": EXPANSIONS}}}),
            ),
        );
    }
    let mut term = |field: &str, value: Option<&str>| {
        filters.extend(value.map(|value| json!({"term": {field: value}})));
    };
    term("kind", query.kind.map(name_of));
    term("account", query.account.as_deref());
    term("principal", query.principal.as_deref());
    for (bound, time) in [("gte", query.from), ("lte", query.to)] {
        filters.extend(time.map(|time| json!({"range": {"at": {bound: time.as_microsecond()}}})));
    }
    if !query.ids.is_empty() {
        filters.push(json!({"terms": {"id": query.ids}}));
    }
    let mut request = json!({
        // One more than asked for tells whether there is a next page.
        "size": limit + 1,
        "query": {"bool": {"filter": filters}},
        "sort": [
            {"at": {"order": "desc", "unmapped_type": "long"}},
            {"key": {"order": "desc", "unmapped_type": "keyword"}},
        ],
        "_source": ["document"],
        "track_total_hits": false,
    });
    if let Some(cursor) = &query.after {
        let (at, key) = open_cursor(cursor).ok_or(SearchError::BadCursor)?;
        request["search_after"] = json!([at, key]);
    }
    Ok(Some(request))
}

/// A cursor is the time and the key of the last document of a page.
fn open_cursor(cursor: &str) -> Option<(i64, &str)> {
    let (at, key) = cursor.split_once('.')?;
    let at = at.parse().ok()?;
    (key.starts_with("event") || key.starts_with("alert")).then_some((at, key))
}

/// The page that an answer holds.
pub(super) fn page(answer: &Value, limit: usize) -> Result<SearchPage, CallError> {
    let wrong = || CallError::answer("not an answer to a search", answer);
    if answer["_shards"]["failed"].as_u64().is_some_and(|failed| failed > 0) || answer["timed_out"] == json!(true) {
        return Err(CallError::answer("a part of the index did not answer", &answer["_shards"]));
    }
    let hits = answer["hits"]["hits"].as_array().ok_or_else(wrong)?;
    let mut documents = Vec::with_capacity(hits.len().min(limit));
    for hit in hits.iter().take(limit) {
        documents.push(serde_json::from_value::<Document>(hit["_source"]["document"].clone()).map_err(|_| wrong())?);
    }
    let next = match hits.get(limit - 1) {
        Some(last) if hits.len() > limit => {
            let (at, key) = (last["sort"][0].as_i64().ok_or_else(wrong)?, last["sort"][1].as_str().ok_or_else(wrong)?);
            Some(format!("{at}.{key}"))
        }
        _ => None,
    };
    Ok(SearchPage { documents, next })
}
