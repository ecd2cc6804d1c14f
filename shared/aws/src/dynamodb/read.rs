//! Reads by key, all of them consistent.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::KeysAndAttributes;
use sentinel_state::{
    Item, Key, TableError,
    table::{MAX_KEYS, MAX_PK_BYTES, MAX_SK_BYTES},
};

use super::{
    DynamoTable,
    failure::{Attempts, because, failed},
    item::{Attributes, key_attributes, live},
};

impl DynamoTable {
    pub(super) async fn read_one(&self, key: &Key) -> Result<Option<Item>, TableError> {
        if !possible(key) {
            return Ok(None);
        }
        let now = self.now_ms();
        let request = self.client.get_item().table_name(&self.name).set_key(Some(key_attributes(key)));
        let output = request.consistent_read(true).send().await.map_err(|e| failed("GetItem", &e))?;
        let Some(attributes) = output.item() else { return Ok(None) };
        live(attributes, now)
    }

    pub(super) async fn read_many(&self, keys: &[Key]) -> Result<Vec<Item>, TableError> {
        if keys.len() > MAX_KEYS {
            return Err(TableError::BadRequest(format!("{} keys, over the limit of {MAX_KEYS}", keys.len())));
        }
        let now = self.now_ms();
        let distinct: HashSet<&Key> = keys.iter().filter(|key| possible(key)).collect();
        let found = self.batch(distinct.into_iter()).await?;
        found.iter().filter_map(|attributes| live(attributes, now).transpose()).collect()
    }

    /// The items under these keys (at most [`MAX_KEYS`], each once), expired ones too. An answer holds at most
    /// 16 MB: what it left out is asked for again, at once as long as something came.
    pub(super) async fn batch(&self, keys: impl Iterator<Item = &Key>) -> Result<Vec<Attributes>, TableError> {
        let mut found = Vec::new();
        let mut open: Vec<Attributes> = keys.map(key_attributes).collect();
        let mut attempts = Attempts::default();
        while !open.is_empty() {
            let asked = open.len();
            let keys = KeysAndAttributes::builder().set_keys(Some(open)).consistent_read(true).build();
            let request = self.client.batch_get_item().request_items(&self.name, keys.map_err(TableError::store)?);
            let output = request.send().await.map_err(|e| failed("BatchGetItem", &e))?;
            // The only table asked, so whatever name it has in the answer it is this one's.
            found.extend(output.responses.into_iter().flatten().flat_map(|(_, items)| items));
            open = output.unprocessed_keys.into_iter().flatten().flat_map(|(_, left)| left.keys).collect();
            if open.len() < asked {
                attempts = Attempts::default();
            } else if !attempts.again().await {
                return Err(because("BatchGetItem", format!("{asked} keys stay unprocessed")));
            }
        }
        Ok(found)
    }
}

/// Whether an item can stand under this key at all. `DynamoDB` refuses to be asked otherwise.
fn possible(key: &Key) -> bool {
    (1..=MAX_PK_BYTES).contains(&key.pk.len()) && (1..=MAX_SK_BYTES).contains(&key.sk.len())
}
