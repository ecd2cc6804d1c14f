//! Makes a table of the form that [`DynamoTable`](super::DynamoTable) expects: for tests, and as the one place
//! where that form stands as code. Deployed stacks make it from their template.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
        ScalarAttributeType, TableStatus, TimeToLiveSpecification,
    },
};
use sentinel_state::{Index, TableError};

use super::{
    failure::failed,
    item::{EXPIRES_AT, PK, SK, columns, index_name},
};

/// How often and how long a new table is waited for.
const POLL: Duration = Duration::from_millis(200);
const POLLS: u32 = 300;

/// Makes the table, paid by request, and waits until it can be used (at most a minute).
pub async fn create_table(client: &Client, name: &str) -> Result<(), TableError> {
    let mut request = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for part in schema(PK, SK)? {
        request = request.key_schema(part);
    }
    for attribute in definitions()? {
        request = request.attribute_definitions(attribute);
    }
    for index in [Index::One, Index::Two] {
        let (pk, sk) = columns(Some(index));
        let projection = Projection::builder().projection_type(ProjectionType::KeysOnly).build();
        let index = GlobalSecondaryIndex::builder()
            .index_name(index_name(index))
            .set_key_schema(Some(schema(pk, sk)?))
            .projection(projection)
            .build()
            .map_err(TableError::store)?;
        request = request.global_secondary_indexes(index);
    }
    request.send().await.map_err(|e| failed("CreateTable", &e))?;
    wait(client, name).await?;
    let expiry = TimeToLiveSpecification::builder()
        .enabled(true)
        .attribute_name(EXPIRES_AT)
        .build()
        .map_err(TableError::store)?;
    let request = client.update_time_to_live().table_name(name).time_to_live_specification(expiry);
    request.send().await.map_err(|e| failed("UpdateTimeToLive", &e))?;
    Ok(())
}

fn schema(pk: &str, sk: &str) -> Result<Vec<KeySchemaElement>, TableError> {
    [(pk, KeyType::Hash), (sk, KeyType::Range)]
        .into_iter()
        .map(|(name, kind)| KeySchemaElement::builder().attribute_name(name).key_type(kind).build())
        .collect::<Result<_, _>>()
        .map_err(TableError::store)
}

fn definitions() -> Result<Vec<AttributeDefinition>, TableError> {
    [None, Some(Index::One), Some(Index::Two)]
        .into_iter()
        .flat_map(|index| <[_; 2]>::from(columns(index)))
        .map(|name| AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build())
        .collect::<Result<_, _>>()
        .map_err(TableError::store)
}

async fn wait(client: &Client, name: &str) -> Result<(), TableError> {
    for _ in 0..POLLS {
        let described = client.describe_table().table_name(name).send().await;
        let described = described.map_err(|e| failed("DescribeTable", &e))?;
        if described.table().and_then(|t| t.table_status()) == Some(&TableStatus::Active) {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(TableError::store(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("table {name} is not active yet"))))
}
