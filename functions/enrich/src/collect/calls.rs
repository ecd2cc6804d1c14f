//! What events called: a service and an operation each, held once for all events of it.
//!
//! In: the names that events give. Out: a number for each, by which facts name it, and the names again.

use sentinel_model::{fast_hash::FastMap, hash};

/// Calls that are held, and the longest of them in bytes: AWS has about 20,000 operations, a log a few hundred. Whoever
/// writes the log can choose endless names: those are no numbers.
const MOST: usize = 4096;
const LONGEST: usize = 200;

/// An operation of a service.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) service: Box<str>,
    pub(super) action: Box<str>,
    /// As sentences name it, with a hash of that.
    pub(super) said: Box<str>,
    pub(super) hash: u64,
}

/// The calls of one worker's events.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<Call>,
    /// By a hash of both names.
    numbers: FastMap<u64, u32>,
}

impl Calls {
    /// The number of a call; `None` for one that is not held.
    pub(super) fn number(&mut self, service: &str, action: &str) -> Option<u32> {
        let key = hash::hash_64(service.as_bytes()).rotate_left(32) ^ hash::hash_64(action.as_bytes());
        if let Some(number) = self.numbers.get(&key) {
            // Whoever writes the log could make two of one hash.
            let known = self.get(*number).is_some_and(|call| *call.action == *action && *call.service == *service);
            return known.then_some(*number);
        }
        if self.calls.len() >= MOST || service.len() + action.len() > LONGEST {
            return None;
        }
        let number = u32::try_from(self.calls.len()).ok()?;
        let said = sentinel_correlation::call_name(service, action).into_boxed_str();
        let hash = sentinel_correlation::Calls::hash(&said);
        self.calls.push(Call { service: service.into(), action: action.into(), said, hash });
        self.numbers.insert(key, number);
        Some(number)
    }

    /// The call of a number.
    pub(super) fn get(&self, number: u32) -> Option<&Call> {
        self.calls.get(number as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_one_number_and_endless_names_have_none() {
        let mut calls = Calls::default();
        assert_eq!(calls.number("s3.amazonaws.com", "GetObject"), Some(0));
        assert_eq!(calls.number("s3.amazonaws.com", "PutObject"), Some(1));
        assert_eq!(calls.number("s3.amazonaws.com", "GetObject"), Some(0));
        let call = calls.get(1).unwrap();
        assert_eq!((&*call.service, &*call.action, &*call.said), ("s3.amazonaws.com", "PutObject", "s3:PutObject"));
        assert_eq!(calls.number("s3.amazonaws.com", &"x".repeat(LONGEST)), None);
        assert!((2..MOST).all(|n| calls.number("s", &format!("A{n}")).is_some()));
        assert_eq!((calls.number("s", "B"), calls.number("s", "A2"), calls.calls.len()), (None, Some(2), MOST));
        assert!(calls.get(u32::MAX).is_none());
    }
}
