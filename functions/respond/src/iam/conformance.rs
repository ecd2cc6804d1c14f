//! What every [`Iam`] adapter must do, checked against the adapter itself.
//!
//! In: an adapter and the account, user and two keys that stand ready behind it, both Active. The first
//! key's status is changed and put back. Out: `Err` with a sentence that names the first promise broken.

use super::{Iam, IamError, KeyStatus};

/// What stands ready behind the adapter.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// A connected account.
    pub account: String,
    /// A user of it, with a path and a name that holds `+=,.@_-`.
    pub user_name: String,
    /// The user's ARN.
    pub user_arn: String,
    /// A tag of the user.
    pub tag: (String, String),
    /// The key that is changed and put back.
    pub first_key: String,
    /// The user's other key.
    pub second_key: String,
    /// A key id that does not exist.
    pub missing_key: String,
}

/// Runs the suite. `settle` waits until changes have spread (or moves a test's clock past it).
pub async fn check<F, W>(iam: &dyn Iam, fixture: &Fixture, settle: F) -> Result<(), String>
where
    F: Fn() -> W,
    W: Future<Output = ()>,
{
    owner(iam, fixture).await?;
    missing(iam, fixture).await?;
    let (account, user, key) = (&fixture.account, &fixture.user_name, &fixture.first_key);
    for status in [KeyStatus::Inactive, KeyStatus::Inactive, KeyStatus::Active] {
        let set = iam.set_key_status(account, user, key, status).await;
        expect(set == Ok(()), || format!("setting {status:?}, also when it is set already, is no error: {set:?}"))?;
        settle().await;
        let read = iam.key_status(account, user, key).await;
        expect(read == Ok(Some(status)), || format!("after {status:?} was set, reading gave {read:?}"))?;
        let other = iam.key_status(account, user, &fixture.second_key).await;
        expect(other == Ok(Some(KeyStatus::Active)), || format!("the user's other key must not change: {other:?}"))?;
    }
    Ok(())
}

async fn owner(iam: &dyn Iam, fixture: &Fixture) -> Result<(), String> {
    expect(iam.is_connected(), || "an adapter with accounts is connected".into())?;
    for key in [&fixture.first_key, &fixture.second_key] {
        let owner = iam.key_owner(&fixture.account, key).await.map_err(|e| format!("reading an owner failed: {e}"))?;
        let Some(owner) = owner else { return Err(format!("the owner of {key} was not found")) };
        expect(owner.user_name == fixture.user_name, || format!("wrong user name {:?}", owner.user_name))?;
        expect(owner.user_arn == fixture.user_arn, || format!("the ARN holds the path: {:?}", owner.user_arn))?;
        let tag = owner.tags.get(&fixture.tag.0);
        expect(tag == Some(&fixture.tag.1), || format!("tags are read with the owner: {tag:?}"))?;
    }
    Ok(())
}

async fn missing(iam: &dyn Iam, fixture: &Fixture) -> Result<(), String> {
    let (account, user) = (&fixture.account, &fixture.user_name);
    let owner = iam.key_owner(account, &fixture.missing_key).await;
    expect(owner == Ok(None), || format!("a missing key has no owner: {owner:?}"))?;
    let status = iam.key_status(account, user, &fixture.missing_key).await;
    expect(status == Ok(None), || format!("a missing key has no status: {status:?}"))?;
    let status = iam.key_status(account, "nobody-of-that-name", &fixture.first_key).await;
    expect(matches!(status, Ok(None) | Err(IamError::NotFound)), || format!("another user's key: {status:?}"))?;
    let set = iam.set_key_status(account, user, &fixture.missing_key, KeyStatus::Inactive).await;
    expect(set == Err(IamError::NotFound), || format!("setting a missing key is NotFound: {set:?}"))
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
