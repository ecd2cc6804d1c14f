//! Search without an index: what the keys of the alerts' store can find.
//!
//! A stack without OpenSearch still has its alerts in the table, listed by time. This reads that listing,
//! newest first, and keeps what fits; each page looks through a bounded number of alerts, so that a search of
//! rare words costs no more than one of common ones, and says by its cursor that there is more. Events are in
//! the archive alone and are not found. Nothing is kept here, so there is nothing to index or to forget.

use async_trait::async_trait;
use sentinel_model::{Alert, Timestamp};
use sentinel_state::{
    TableError,
    alerts::{Alerts, ListAlerts, cursor_after},
};

use crate::{Coverage, Document, DocumentKind, SearchError, SearchIndex, SearchPage, SearchQuery};

/// Most results of one page.
const MAX_LIMIT: usize = 1_000;
/// Most ids of one query.
const MAX_IDS: usize = 100;
/// Alerts read at a time.
const STEP: usize = 100;
/// Alerts looked through for one page: ten reads of a listing.
const MOST: usize = 1_000;
/// What every alert's id begins with.
const ID_PREFIX: &str = "al-";
/// No alert's id is longer.
const ID_BYTES: usize = 100;

const LIMITED: &str = "This installation has no search index: alerts are found by id, account, principal, time and \
                       words, a thousand at a time; stored events are not searched.";

/// Searches alerts by what the table's keys can find.
#[derive(Clone)]
pub struct KeySearch {
    alerts: Alerts,
}

impl KeySearch {
    /// A search over these alerts.
    pub fn new(alerts: Alerts) -> Self {
        Self { alerts }
    }

    /// Alerts by their ids, newest first.
    async fn by_ids(&self, wanted: &Wanted<'_>, ids: &[String]) -> Result<SearchPage, SearchError> {
        let mut found: Vec<Alert> = Vec::new();
        for id in ids {
            if id.is_empty() || id.len() > ID_BYTES || found.iter().any(|alert| alert.alert_id == *id) {
                continue;
            }
            let Some((stored, _)) = self.alerts.find(id).await.map_err(store)? else { continue };
            if wanted.fits(&stored.alert) {
                found.push(stored.alert);
            }
        }
        found.sort_by_cached_key(|alert| std::cmp::Reverse(cursor_after(alert)));
        if let Some(cursor) = &wanted.query.after {
            found.retain(|alert| cursor_after(alert) < *cursor);
        }
        let more = found.len() > wanted.limit;
        found.truncate(wanted.limit);
        let next = found.last().filter(|_| more).map(cursor_after);
        Ok(SearchPage { documents: found.iter().map(document).collect::<Result<_, _>>()?, next })
    }

    /// Alerts of the listing that fit.
    async fn listed(&self, wanted: &Wanted<'_>) -> Result<SearchPage, SearchError> {
        let mut found: Vec<Alert> = Vec::new();
        let mut list = ListAlerts {
            from: wanted.query.from,
            to: wanted.query.to,
            limit: STEP,
            cursor: wanted.query.after.clone(),
            ..ListAlerts::default()
        };
        let mut looked = 0;
        let next = loop {
            let (page, next) = self.alerts.list(&list).await.map_err(store)?;
            looked += page.len();
            let mut fitting = page.into_iter().map(|(stored, _)| stored.alert).filter(|alert| wanted.fits(alert));
            found.extend(fitting.by_ref().take(wanted.limit - found.len()));
            if fitting.next().is_some() {
                break found.last().map(cursor_after);
            }
            if next.is_none() || looked >= MOST {
                break next;
            }
            list.cursor = next;
        };
        Ok(SearchPage { documents: found.iter().map(document).collect::<Result<_, _>>()?, next })
    }
}

#[async_trait]
impl SearchIndex for KeySearch {
    fn coverage(&self) -> Coverage {
        Coverage::KeysOnly(LIMITED)
    }

    fn keeps_documents(&self) -> bool {
        false
    }

    async fn index(&self, _: Vec<Document>) -> Result<(), SearchError> {
        Ok(())
    }

    async fn search(&self, query: SearchQuery) -> Result<SearchPage, SearchError> {
        if query.ids.len() > MAX_IDS {
            return Err(SearchError::TooManyIds(query.ids.len()));
        }
        if query.after.as_deref().is_some_and(|cursor| !is_cursor(cursor)) {
            return Err(SearchError::BadCursor);
        }
        let nothing = SearchPage { documents: Vec::new(), next: None };
        if query.kind == Some(DocumentKind::Event) {
            return Ok(nothing);
        }
        let Some(words) = wanted_words(&query.words) else { return Ok(nothing) };
        let wanted = Wanted { limit: query.limit.clamp(1, MAX_LIMIT), words, query: &query };
        if !query.ids.is_empty() {
            return self.by_ids(&wanted, &query.ids).await;
        }
        // An id that is looked for is found however old its alert is.
        let id = query.words.trim();
        if id.starts_with(ID_PREFIX) && !id.contains(char::is_whitespace) && query.after.is_none() {
            let page = self.by_ids(&wanted, &[id.to_owned()]).await?;
            if !page.documents.is_empty() {
                return Ok(page);
            }
        }
        self.listed(&wanted).await
    }

    async fn forget_before(&self, _: DocumentKind, _: Timestamp) -> Result<u64, SearchError> {
        Ok(0)
    }

    async fn count(&self, _: DocumentKind) -> Result<u64, SearchError> {
        Ok(0)
    }
}

/// A query with its words cut.
struct Wanted<'a> {
    query: &'a SearchQuery,
    words: Vec<Vec<String>>,
    limit: usize,
}

impl Wanted<'_> {
    fn fits(&self, alert: &Alert) -> bool {
        let query = self.query;
        let keys_fit = query.account.as_ref().is_none_or(|account| alert.account == *account)
            && query.principal.as_ref().is_none_or(|principal| alert.principal.id == *principal)
            && query.from.is_none_or(|from| alert.time >= from)
            && query.to.is_none_or(|to| alert.time <= to);
        if !keys_fit || self.words.is_empty() {
            return keys_fit;
        }
        let text = cut(&text(alert));
        self.words.iter().all(|word| occurs(word, &text))
    }
}

/// The words looked for, each cut into its parts; `None` when there are words but none has a letter or digit,
/// which occurs in nothing.
fn wanted_words(words: &str) -> Option<Vec<Vec<String>>> {
    let all: Vec<Vec<String>> =
        words.replace('\0', " ").split_whitespace().map(cut).filter(|parts| !parts.is_empty()).collect();
    (!all.is_empty() || words.trim().is_empty()).then_some(all)
}

/// Text cut at everything that is neither letter nor digit, without regard to case.
fn cut(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).map(str::to_lowercase).collect()
}

/// Whether a word's parts occur in a row, the last one as a prefix.
fn occurs(word: &[String], text: &[String]) -> bool {
    let Some((last, first)) = word.split_last() else { return true };
    text.windows(word.len()).any(|here| here[..first.len()] == *first && here[first.len()].starts_with(last))
}

/// The words of an alert: its names, ids and addresses, and why it was raised.
fn text(alert: &Alert) -> String {
    let mut words: Vec<&str> = vec![
        &alert.alert_id,
        &alert.title,
        &alert.rule.id,
        &alert.category,
        alert.level.as_str(),
        &alert.principal.id,
        &alert.account,
    ];
    words.extend(alert.region.as_deref());
    let seen = &alert.indicators;
    words.extend(seen.addresses.iter().chain(&seen.keys).chain(&seen.agents).map(String::as_str));
    words.extend(alert.first_events.iter().map(|event| event.id.as_str()));
    words.extend(alert.attack.tactics.iter().chain(&alert.attack.techniques).map(String::as_str));
    words.extend(alert.reasons.iter().map(String::as_str));
    words.join(" ")
}

fn document(alert: &Alert) -> Result<Document, SearchError> {
    Ok(Document {
        kind: DocumentKind::Alert,
        id: alert.alert_id.clone(),
        time: alert.time,
        account: alert.account.clone(),
        principal: alert.principal.id.clone(),
        text: text(alert),
        body: serde_json::to_string(&alert.to_view()).map_err(|e| SearchError::Store(Box::new(e)))?,
    })
}

/// Whether this is of the form of the listing's cursors: a time and an id.
fn is_cursor(cursor: &str) -> bool {
    let Some((time, id)) = cursor.split_once('#') else { return false };
    time.parse::<Timestamp>().is_ok() && id.starts_with(ID_PREFIX) && cursor.len() <= 2 * ID_BYTES
}

fn store(error: TableError) -> SearchError {
    SearchError::Store(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_as_an_index_finds_them() {
        let text = cut("Root login ZOË arn:aws:iam::123456789012:user/alice 203.0.113.9 AKIAIOSFODNN7EXAMPLE it's");
        let found = |words: &str| wanted_words(words).is_some_and(|all| all.iter().all(|word| occurs(word, &text)));
        for words in
            ["", " ", "root", "LOGIN roo", "zoë", "user/ali", "203.0.113.9", "113.9", "akiaios", "it's", "root *"]
        {
            assert!(found(words), "{words:?}");
        }
        for words in ["oot", "login-root", "203.0.113.8", "user/bob", "root bob", "*", "\"", "03.0", "it's not"] {
            assert!(!found(words), "{words:?}");
        }
    }

    #[test]
    fn only_the_listings_own_cursors_pass() {
        assert!(is_cursor("2026-03-01T12:00:00.000Z#al-1"));
        for bad in ["", "nonsense", "1.", ".1", "#", "x#al-1", "2026-03-01T12:00:00.000Z#", "2026-03-01T12:00:00Z#x"] {
            assert!(!is_cursor(bad), "{bad:?}");
        }
    }
}
