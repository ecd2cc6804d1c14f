//! Lineage as stored: who made, changed or assumed whom, readable in both directions.
//!
//! Written for all successful events, so it must be cheap: repeats of a step within a slot of time
//! ([`sentinel_model::lineage::SLOT_MINUTES`]) are one step, a step that is known costs a read and no write, and steps
//! expire. Each step is one item under the identity made and one under each of its makers (the
//! principal, and the key it used).

use std::{collections::HashMap, sync::Arc};

use sentinel_model::{Identity, LineageEdge, Timestamp, lineage, time};

use crate::{Condition, Item, Key, Put, Query, SkRange, Table, TableError, Write, sort_time};

/// Days for which a step is kept after it was recorded. Grouping bridges at most two days of event time; the
/// rest is for late deliveries and replays.
const KEEP_DAYS: i64 = 7;
/// Steps written in one transaction: each is at most three items.
const STEPS_A_WRITE: usize = 33;
/// Most steps read of one identity and direction.
pub const READ_CAP: usize = 2000;
/// Attempts to write against other writers before giving the failure to the caller.
const ATTEMPTS: usize = 8;

/// The store of lineage.
#[derive(Clone)]
pub struct Lineage {
    table: Arc<dyn Table>,
}

impl Lineage {
    /// The store over a table.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// Records steps; returns those that were not known (or only at a later time). A step is recorded at its
    /// earliest time, whatever the order in which its repeats come.
    pub async fn record(&self, edges: &[LineageEdge], now: Timestamp) -> Result<Vec<LineageEdge>, TableError> {
        let mut new = Vec::new();
        for chunk in lineage::condense(edges.iter().cloned()).chunks(STEPS_A_WRITE) {
            let mut attempt = 1;
            loop {
                match self.record_chunk(chunk, now).await {
                    Err(e) if e.is_condition() && attempt < ATTEMPTS => attempt += 1,
                    Err(e) => return Err(e),
                    Ok(written) => {
                        new.extend(written);
                        break;
                    }
                }
            }
        }
        Ok(new)
    }

    async fn record_chunk(&self, edges: &[LineageEdge], now: Timestamp) -> Result<Vec<LineageEdge>, TableError> {
        let keys: Vec<_> = edges.iter().map(|e| Key::new(made_pk(&e.made), sk(e))).collect();
        let known = self.table.get_many(&keys).await?;
        let known: HashMap<&Key, &Item> = known.iter().map(|i| (&i.key, i)).collect();
        let expires = Some(time::plus_seconds(now, KEEP_DAYS * 86_400));
        let (mut writes, mut new) = (Vec::new(), Vec::new());
        for (edge, key) in edges.iter().zip(&keys) {
            let condition = match known.get(key) {
                None => Condition::Absent,
                Some(item) if edge.precedes(&item.decode()?) => Condition::Version(item.version),
                Some(_) => continue,
            };
            writes.push(Write::Put(Put::new(key.clone(), edge)?.expiring(expires).when(condition)));
            for maker in edge.makers() {
                writes.push(Write::Put(Put::new(Key::new(maker_pk(&maker), sk(edge)), edge)?.expiring(expires)));
            }
            new.push(edge.clone());
        }
        if !writes.is_empty() {
            self.table.write(writes).await?;
        }
        Ok(new)
    }

    /// Steps from `from` to `to` that made, changed or assumed this identity, earliest first.
    pub async fn steps_into(
        &self,
        made: &Identity,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<LineageEdge>, TableError> {
        self.read(made_pk(made), from, to).await
    }

    /// Steps from `from` to `to` that this identity took (as principal, or with this key), earliest first.
    pub async fn steps_by(
        &self,
        maker: &Identity,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<LineageEdge>, TableError> {
        self.read(maker_pk(maker), from, to).await
    }

    async fn read(&self, pk: String, from: Timestamp, to: Timestamp) -> Result<Vec<LineageEdge>, TableError> {
        let first = sort_time(time::window_start(from, lineage::SLOT_MINUTES));
        let range = SkRange::Between(first, format!("{}#~", sort_time(to)));
        let mut edges: Vec<LineageEdge> = Vec::new();
        let mut after = None;
        loop {
            let page = self.table.query(Query::partition(pk.clone(), 500).range(range.clone()).after(after)).await?;
            for item in &page.items {
                edges.push(item.decode()?);
            }
            after = page.next;
            if edges.len() >= READ_CAP {
                tracing::warn!(partition = pk, "more lineage of one identity than is followed: the latest is left out");
                break;
            }
            if after.is_none() {
                break;
            }
        }
        edges.retain(|e| e.time >= from && e.time <= to);
        edges.sort_by_key(|e| e.time);
        Ok(edges)
    }
}

fn made_pk(made: &Identity) -> String {
    format!("LINEAGE#INTO#{}", made.as_key())
}

fn maker_pk(maker: &Identity) -> String {
    format!("LINEAGE#BY#{}", maker.as_key())
}

/// Sort key of a step: its slot, and what tells it from other steps of that slot.
fn sk(edge: &LineageEdge) -> String {
    let slot = time::window_start(edge.time, lineage::SLOT_MINUTES);
    format!("{}#{:032x}", sort_time(slot), edge.repeat_key())
}
