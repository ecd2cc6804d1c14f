//! Writes: one as a plain update, deletion or read, several as a transaction.
//!
//! A call whose answer is lost is made again by the SDK, and a conditional write then fails on what it did
//! itself. So each says who it is: a transaction by its client request token, which `DynamoDB` remembers for
//! ten minutes; a put by a nonce stored with the item; a deletion cannot, and says that it does not know.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        delete_item::DeleteItemError, transact_write_items::TransactWriteItemsError, update_item::UpdateItemError,
    },
    primitives::Blob,
    types::{
        CancellationReason, ConditionCheck, Delete, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
    },
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextRef},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;
use sentinel_state::{Condition, Key, Put, TableError, Write, table::check_writes};
use uuid::Uuid;

use super::{
    DynamoTable,
    expression::Expression,
    failure::{Attempts, because, failed},
    item::{NONCE, key_attributes},
};

/// A write with its position in the transaction asked for and, for a put, its body as text.
struct Step {
    position: usize,
    write: Write,
    body: Option<String>,
}

impl DynamoTable {
    pub(super) async fn write_all(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let bodies = check_writes(&writes)?;
        let mut steps: Vec<Step> = writes
            .into_iter()
            .zip(bodies)
            .enumerate()
            .map(|(position, (write, body))| Step { position, write, body })
            // A check of nothing holds.
            .filter(|step| !matches!(step.write, Write::Check(_, Condition::None)))
            .collect();
        match steps.len() {
            0 => Ok(()),
            1 => self.write_one(steps.remove(0)).await,
            _ => self.transact(steps).await,
        }
    }

    async fn write_one(&self, step: Step) -> Result<(), TableError> {
        let held = match (step.write, step.body) {
            (Write::Put(put), body) => self.put(&put, body.unwrap_or_default()).await?,
            (Write::Delete(key, condition), _) => self.delete(&key, condition).await?,
            (Write::Check(key, condition), _) => self.holds(&key, condition).await?,
        };
        if held { Ok(()) } else { Err(TableError::ConditionFailed(vec![step.position])) }
    }

    /// Puts an item; `false` when its condition does not hold.
    async fn put(&self, put: &Put, body: String) -> Result<bool, TableError> {
        let nonce = (put.condition != Condition::None).then(|| Blob::new(Uuid::new_v4().into_bytes()));
        let expression = Expression::put(put, body, self.now_ms(), nonce.clone())?;
        let on_failure = old_item(&expression);
        let request = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key_attributes(&put.key)))
            .set_expression_attribute_names(expression.some_names())
            .set_expression_attribute_values(expression.some_values())
            .set_update_expression(expression.update)
            .set_condition_expression(expression.condition)
            .set_return_values_on_condition_check_failure(on_failure);
        let mut attempts = Attempts::default();
        loop {
            let Err(error) = request.clone().send().await else { return Ok(true) };
            match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(e)) => {
                    let stored = e.item().and_then(|item| item.get(NONCE)).and_then(|nonce| nonce.as_b().ok());
                    return Ok(stored.is_some() && stored == nonce.as_ref());
                }
                Some(UpdateItemError::TransactionConflictException(_)) if attempts.again().await => {}
                _ => return Err(failed("UpdateItem", &error)),
            }
        }
    }

    /// Deletes an item; `false` when the condition does not hold.
    async fn delete(&self, key: &Key, condition: Condition) -> Result<bool, TableError> {
        let expression = Expression::when(condition, self.now_ms());
        let on_failure = old_item(&expression);
        let request = self
            .client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(key_attributes(key)))
            .set_expression_attribute_names(expression.some_names())
            .set_expression_attribute_values(expression.some_values())
            .set_condition_expression(expression.condition)
            .set_return_values_on_condition_check_failure(on_failure);
        let mut attempts = Attempts::default();
        loop {
            let sent = Sent::default();
            let answer = request.clone().customize().interceptor(sent.clone()).send().await;
            let Err(error) = answer else { return Ok(true) };
            match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(e)) => {
                    if sent.count() > 1 && e.item().is_none() {
                        return Err(because(
                            "DeleteItem",
                            "tried again and found nothing: it may have been the first try",
                        ));
                    }
                    return Ok(false);
                }
                Some(DeleteItemError::TransactionConflictException(_)) if attempts.again().await => {}
                _ => return Err(failed("DeleteItem", &error)),
            }
        }
    }

    async fn holds(&self, key: &Key, condition: Condition) -> Result<bool, TableError> {
        let found = self.read_one(key).await?;
        Ok(match condition {
            Condition::None => true,
            Condition::Absent => found.is_none(),
            Condition::Version(version) => found.is_some_and(|item| item.version == version),
        })
    }

    async fn transact(&self, steps: Vec<Step>) -> Result<(), TableError> {
        let now = self.now_ms();
        let mut positions = Vec::with_capacity(steps.len());
        let mut items = Vec::with_capacity(steps.len());
        for step in steps {
            positions.push(step.position);
            items.push(self.part(step, now)?);
        }
        // One token for all attempts: one that was carried out, though its answer was lost, is not again.
        let token = Uuid::new_v4().to_string();
        let request = self.client.transact_write_items().set_transact_items(Some(items)).client_request_token(token);
        let mut attempts = Attempts::default();
        loop {
            let Err(error) = request.clone().send().await else { return Ok(()) };
            match verdict(&error, &positions) {
                Verdict::Conditions(failed) => return Err(TableError::ConditionFailed(failed)),
                Verdict::Again if attempts.again().await => {}
                Verdict::Again | Verdict::Failed => return Err(cancelled(&error)),
            }
        }
    }

    fn part(&self, step: Step, now_ms: i64) -> Result<TransactWriteItem, TableError> {
        let key = Some(key_attributes(step.write.key()));
        let item = TransactWriteItem::builder();
        let built = match step.write {
            Write::Put(put) => {
                let all = Expression::put(&put, step.body.unwrap_or_default(), now_ms, None)?;
                let update = Update::builder()
                    .table_name(&self.name)
                    .set_key(key)
                    .set_expression_attribute_names(all.some_names())
                    .set_expression_attribute_values(all.some_values())
                    .set_update_expression(all.update)
                    .set_condition_expression(all.condition);
                update.build().map(|update| item.update(update))
            }
            Write::Delete(_, condition) => {
                let all = Expression::when(condition, now_ms);
                let delete = Delete::builder()
                    .table_name(&self.name)
                    .set_key(key)
                    .set_expression_attribute_names(all.some_names())
                    .set_expression_attribute_values(all.some_values())
                    .set_condition_expression(all.condition);
                delete.build().map(|delete| item.delete(delete))
            }
            Write::Check(_, condition) => {
                let all = Expression::when(condition, now_ms);
                let check = ConditionCheck::builder()
                    .table_name(&self.name)
                    .set_key(key)
                    .set_expression_attribute_names(all.some_names())
                    .set_expression_attribute_values(all.some_values())
                    .set_condition_expression(all.condition);
                check.build().map(|check| item.condition_check(check))
            }
        };
        Ok(built.map_err(TableError::store)?.build())
    }
}

/// Where a condition can fail, the item on which it did is wanted.
fn old_item(expression: &Expression) -> Option<ReturnValuesOnConditionCheckFailure> {
    expression.condition.as_ref().map(|_| ReturnValuesOnConditionCheckFailure::AllOld)
}

/// What a failed transaction asks for.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Conditions did not hold, at these positions.
    Conditions(Vec<usize>),
    /// Another transaction had the items, or there was no throughput: it can be tried again.
    Again,
    /// It failed.
    Failed,
}

fn verdict<R>(error: &SdkError<TransactWriteItemsError, R>, positions: &[usize]) -> Verdict {
    let reasons = match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(e)) => e.cancellation_reasons(),
        Some(TransactWriteItemsError::TransactionInProgressException(_)) => return Verdict::Again,
        _ => return Verdict::Failed,
    };
    let failed: Vec<usize> = reasons
        .iter()
        .zip(positions)
        .filter(|(reason, _)| reason.code() == Some("ConditionalCheckFailed"))
        .map(|(_, position)| *position)
        .collect();
    if !failed.is_empty() {
        return Verdict::Conditions(failed);
    }
    let mut codes = reasons.iter().filter_map(CancellationReason::code).filter(|code| *code != "None").peekable();
    if codes.peek().is_some() && codes.all(passes) { Verdict::Again } else { Verdict::Failed }
}

/// Whether a reason for cancelling passes by itself (API Reference, `TransactWriteItems`).
fn passes(code: &str) -> bool {
    matches!(code, "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
}

/// The error of a transaction, with the reasons that its own message may leave out.
fn cancelled<R: std::fmt::Debug>(error: &SdkError<TransactWriteItemsError, R>) -> TableError {
    const OPERATION: &str = "TransactWriteItems";
    let Some(TransactWriteItemsError::TransactionCanceledException(e)) = error.as_service_error() else {
        return failed(OPERATION, error);
    };
    let reasons: Vec<String> = e
        .cancellation_reasons()
        .iter()
        .enumerate()
        .filter(|(_, reason)| reason.code().is_some_and(|code| code != "None"))
        .map(|(i, reason)| {
            format!("{i} {} {}", reason.code().unwrap_or_default(), reason.message().unwrap_or_default())
        })
        .collect();
    if reasons.is_empty() {
        return failed(OPERATION, error);
    }
    because(OPERATION, format!("{}: {}", error.code().unwrap_or("cancelled"), reasons.join(", ")))
}

/// Counts how often a request was sent.
#[derive(Debug, Clone, Default)]
struct Sent(Arc<AtomicU32>);

impl Sent {
    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Intercept for Sent {
    fn name(&self) -> &'static str {
        "Sent"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
