//! Queries: pages of a partition of the table or of an index, expired items left out.
//!
//! One item more than asked for is looked for, so that a page says truly whether there is a next one. The
//! cursor is the place of the page's last item, not `DynamoDB`'s own key of evaluation, which may stand
//! behind items that the page did not show.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::operation::query::QueryOutput;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sentinel_state::{
    Index, Item, Key, Page, Query, SkRange, TableError,
    table::{MAX_KEYS, MAX_PK_BYTES, MAX_SK_BYTES},
};

use super::{
    DynamoTable,
    expression::Expression,
    failure::failed,
    item::{Attributes, columns, index_name, key_attributes, key_of, live, string, text},
};

/// Items asked for at least once a first answer was not enough, so that many expired ones do not cost a
/// request each.
const MORE: usize = 50;

/// An item found, and where it stands.
struct Found {
    place: String,
    item: Item,
}

impl DynamoTable {
    pub(super) async fn read_page(&self, query: Query) -> Result<Page, TableError> {
        if query.limit == 0 {
            return Err(TableError::BadRequest("a page has at least one item".into()));
        }
        let mut start = query.after.as_deref().map(|cursor| open_cursor(&query, cursor)).transpose()?;
        let Some(condition) = condition(&query)? else {
            return Ok(Page { items: Vec::new(), next: None });
        };
        let wanted = query.limit.saturating_add(1);
        let mut found: Vec<Found> = Vec::new();
        let mut seen = HashSet::new();
        let mut ask = wanted;
        loop {
            let output = self.ask(&query, &condition, start, ask).await?;
            for one in self.present(&query, output.items()).await? {
                if seen.insert(one.item.key.clone()) {
                    found.push(one);
                }
            }
            start = output.last_evaluated_key;
            if start.is_none() || found.len() >= wanted {
                break;
            }
            ask = (wanted - found.len()).max(MORE);
        }
        let has_next = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| has_next).map(|last| close_cursor(&query, last));
        Ok(Page { items: found.into_iter().map(|one| one.item).collect(), next })
    }

    async fn ask(
        &self,
        query: &Query,
        condition: &Expression,
        start: Option<Attributes>,
        limit: usize,
    ) -> Result<QueryOutput, TableError> {
        let request = self
            .client
            .query()
            .table_name(&self.name)
            .set_index_name(query.index.map(|index| index_name(index).to_owned()))
            .set_key_condition_expression(condition.condition.clone())
            .set_expression_attribute_names(condition.some_names())
            .set_expression_attribute_values(condition.some_values())
            .scan_index_forward(!query.descending)
            // An index cannot be read consistently.
            .consistent_read(query.index.is_none())
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start);
        request.send().await.map_err(|e| failed("Query", &e))
    }

    /// Those of the entries that are there now, in their order. What an index answers is keys only and may be
    /// old: each item is read as it is.
    async fn present(&self, query: &Query, entries: &[Attributes]) -> Result<Vec<Found>, TableError> {
        let (_, order) = columns(query.index);
        let now = self.now_ms();
        let place = |entry: &Attributes| string(entry, order).unwrap_or_default().to_owned();
        let mut found = Vec::with_capacity(entries.len());
        let Some(index) = query.index else {
            for entry in entries {
                if let Some(item) = live(entry, now)? {
                    found.push(Found { place: place(entry), item });
                }
            }
            return Ok(found);
        };
        let keys = entries.iter().map(key_of).collect::<Result<Vec<_>, _>>()?;
        let mut items: HashMap<Key, Item> = HashMap::with_capacity(keys.len());
        for part in keys.chunks(MAX_KEYS) {
            let distinct: HashSet<&Key> = part.iter().collect();
            for attributes in self.batch(distinct.into_iter()).await? {
                if !stands_in(query, index, &attributes) {
                    continue;
                }
                if let Some(item) = live(&attributes, now)? {
                    items.insert(item.key.clone(), item);
                }
            }
        }
        for (entry, key) in entries.iter().zip(&keys) {
            if let Some(item) = items.remove(key) {
                found.push(Found { place: place(entry), item });
            }
        }
        Ok(found)
    }
}

/// Whether an item, as it is now, belongs to what is asked of an index.
fn stands_in(query: &Query, index: Index, attributes: &Attributes) -> bool {
    let (pk, sk) = columns(Some(index));
    let (Some(pk), Some(sk)) = (string(attributes, pk), string(attributes, sk)) else { return false };
    pk == query.pk && within(&query.sk, sk)
}

fn within(range: &SkRange, sk: &str) -> bool {
    match range {
        SkRange::All => true,
        SkRange::Prefix(prefix) => sk.starts_with(prefix.as_str()),
        SkRange::Between(from, to) => (from.as_str()..=to.as_str()).contains(&sk),
    }
}

/// The key condition; `None` when nothing can fulfil it. `DynamoDB` refuses empty values and bounds the wrong
/// way round, which mean something here.
fn condition(query: &Query) -> Result<Option<Expression>, TableError> {
    let bounds: &[&str] = match &query.sk {
        SkRange::All => &[],
        SkRange::Prefix(prefix) => &[prefix],
        SkRange::Between(from, to) => &[from, to],
    };
    if query.pk.len() > MAX_PK_BYTES || bounds.iter().any(|bound| bound.len() > MAX_SK_BYTES) {
        return Err(TableError::BadRequest("a query's key is longer than any key can be".into()));
    }
    let (pk, sk) = columns(query.index);
    let mut all = Expression::default();
    let partition = format!("{} = {}", all.name(pk), all.value("pk", text(&query.pk)));
    let range = match &query.sk {
        _ if query.pk.is_empty() => return Ok(None),
        SkRange::Between(from, to) if from > to || to.is_empty() => return Ok(None),
        SkRange::Between(from, to) if from.is_empty() => {
            Some(format!("{} <= {}", all.name(sk), all.value("to", text(to))))
        }
        SkRange::Between(from, to) => {
            let (from, to) = (all.value("from", text(from)), all.value("to", text(to)));
            Some(format!("{} BETWEEN {from} AND {to}", all.name(sk)))
        }
        SkRange::Prefix(prefix) if !prefix.is_empty() => {
            Some(format!("begins_with({}, {})", all.name(sk), all.value("prefix", text(prefix))))
        }
        SkRange::All | SkRange::Prefix(_) => None,
    };
    all.condition = Some(range.map_or_else(|| partition.clone(), |range| format!("{partition} AND {range}")));
    Ok(Some(all))
}

/// A cursor: the query's partition and the place of the last item shown.
fn close_cursor(query: &Query, last: &Found) -> String {
    let parts = [columns(query.index).0, &query.pk, &last.place, &last.item.key.pk, &last.item.key.sk];
    URL_SAFE_NO_PAD.encode(serde_json::json!(parts).to_string())
}

/// The key to start after. A cursor of another query is refused, and so is one that no page could have given.
fn open_cursor(query: &Query, cursor: &str) -> Result<Attributes, TableError> {
    let bad = || TableError::BadRequest("bad cursor".into());
    let text_of = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad())?;
    let [index, pk, place, item_pk, item_sk]: [String; 5] = serde_json::from_slice(&text_of).map_err(|_| bad())?;
    let (pk_column, sk_column) = columns(query.index);
    let key = Key::new(item_pk, item_sk);
    let of_table = query.index.is_some() || (key.pk == pk && key.sk == place);
    let possible = !place.is_empty() && !key.pk.is_empty() && !key.sk.is_empty() && within(&query.sk, &place);
    if index != pk_column || pk != query.pk || !of_table || !possible {
        return Err(bad());
    }
    let mut start = key_attributes(&key);
    if query.index.is_some() {
        start.extend([(pk_column.to_owned(), text(pk)), (sk_column.to_owned(), text(place))]);
    }
    Ok(start)
}
