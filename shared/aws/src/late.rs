//! Clients that are made when they are first used.
//!
//! Making the first client of a service reads that service's rules for endpoints, which is a good part of what a
//! function computes at its start. What few events need is therefore made by the first that does.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, LazyLock},
};

type Make<C> = Box<dyn FnOnce() -> C + Send>;

/// A client, made or yet to be made.
pub struct Late<C>(Arc<LazyLock<C, Make<C>>>);

impl<C> Late<C> {
    /// One that `make` makes.
    pub fn new(make: impl FnOnce() -> C + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl<C: Send + 'static> From<C> for Late<C> {
    fn from(client: C) -> Self {
        Self::new(move || client)
    }
}

impl<C> Clone for Late<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> Deref for Late<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C> fmt::Debug for Late<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Late").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn it_is_made_once_and_not_before_it_is_used() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let late = Late::new(|| MADE.fetch_add(1, Ordering::Relaxed) + 1);
        let other = late.clone();
        assert_eq!(MADE.load(Ordering::Relaxed), 0);
        assert_eq!((*late, *other), (1, 1));
        assert_eq!(MADE.load(Ordering::Relaxed), 1);
    }
}
