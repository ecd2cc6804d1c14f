//! `sentinel user`: what somebody who may write the data folder can do about its users, when nobody can log in.

use anyhow::{Context, Result};
use sentinel_dashboard::auth::accounts;
use sentinel_durable::{Clock, SystemClock};
use sentinel_embedded::Database;
use sentinel_state::users::Users;
use std::sync::Arc;

use crate::{
    args::{UserAction, UserArgs},
    folder,
};

/// Carries out a command.
pub(crate) async fn run(args: UserArgs) -> Result<()> {
    folder::check(&args.data)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let database = Database::open(&args.data.join("sentinel.db"), clock)
        .with_context(|| format!("opening the store in {}", args.data.display()))?;
    let users = Users::new(database.table());
    match args.action {
        UserAction::ResetPassword { name } => {
            let password = accounts::reset_password(&users, &name).await?;
            println!("{name} logs in once with this password and must change it; all sessions have ended:");
            println!("    {password}");
            Ok(())
        }
    }
}
