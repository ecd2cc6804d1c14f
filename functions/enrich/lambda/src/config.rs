//! What the enrich function is told by its environment.

use sentinel_durable::Stage;
use sentinel_lambda::{Deployed, Reader, own_roles};
use sentinel_model::OwnRoles;

/// Settings of the enrich function.
pub(crate) struct Config {
    pub(crate) deployed: Deployed,
    /// The roles that respond acts with.
    pub(crate) own_roles: OwnRoles,
}

impl Config {
    pub(crate) fn read(e: &Reader<'_>) -> Self {
        Self { deployed: Deployed::read(e, &[Stage::Enrich, Stage::Respond]), own_roles: own_roles(e) }
    }
}

#[cfg(test)]
mod tests {
    use sentinel_lambda::Env;

    use super::*;

    #[test]
    fn it_needs_its_own_queue_and_responds() {
        let missed = Env::of(&[("SENTINEL_OWN_ROLE", "respond")]).read(Config::read).err().unwrap().to_string();
        for part in [
            "SENTINEL_ENRICH_QUEUE_URL is missing",
            "SENTINEL_RESPOND_QUEUE_URL is missing",
            "SENTINEL_OWN_ROLE is not",
        ] {
            assert!(missed.contains(part), "{missed}");
        }
    }
}
