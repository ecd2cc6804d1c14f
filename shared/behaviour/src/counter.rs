//! Counters that forget: each holds how much happened, weighted by how long ago, in one number.

/// Times after which a counter has forgotten all but 1/e, in seconds.
const FIVE_MINUTES: f64 = 300.0;
pub(crate) const HOUR: f64 = 3_600.0;
pub(crate) const WEEK: f64 = 604_800.0;

/// Exponentially decaying counts, all as of one instant.
///
/// Events that come late count for what they would by now, so the order of arrival does not matter.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counters {
    /// Seconds since the epoch to which the counts are decayed.
    pub(crate) at: i64,
    /// Events: 5 minutes, 1 hour, 1 week.
    pub(crate) events: [f32; 3],
    /// Failed events: 1 hour, 1 week.
    pub(crate) errors: [f32; 2],
    /// Reading events: 1 hour, 1 week.
    pub(crate) reads: [f32; 2],
    /// Events that were new to the principal: 1 hour, 1 week.
    pub(crate) novel: [f32; 2],
    /// Events that disclose, destroy or change who may do what: 1 hour, 1 week.
    pub(crate) risky: [f32; 2],
}

/// What one event adds.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "four independent facts of one event")]
pub(crate) struct Tick {
    pub(crate) at: i64,
    pub(crate) error: bool,
    pub(crate) read: bool,
    pub(crate) novel: bool,
    pub(crate) risky: bool,
}

#[allow(clippy::cast_precision_loss, reason = "ages of years are exact in f64")]
fn kept(seconds: i64, tau: f64) -> f64 {
    (-(seconds.max(0) as f64) / tau).exp()
}

#[allow(clippy::cast_possible_truncation, reason = "decayed counts need no more than f32")]
fn scale(value: &mut f32, by: f64) {
    *value = (f64::from(*value) * by) as f32;
    // Long silence would leave numbers too small to print exactly.
    if *value < 1e-6 {
        *value = 0.0;
    }
}

#[allow(clippy::cast_possible_truncation, reason = "at most one")]
fn add(value: &mut f32, weight: f64) {
    *value += weight as f32;
}

impl Counters {
    /// The counts as of `t`; those of an earlier `t` are not reconstructed.
    pub(crate) fn seen_at(&self, t: i64) -> Self {
        let mut now = self.clone();
        now.advance(t);
        now
    }

    fn advance(&mut self, t: i64) {
        if self.at == 0 {
            self.at = t;
        }
        let gone = t - self.at;
        if gone <= 0 {
            return;
        }
        self.at = t;
        let [short, hour, week] = [FIVE_MINUTES, HOUR, WEEK].map(|tau| kept(gone, tau));
        scale(&mut self.events[0], short);
        scale(&mut self.events[1], hour);
        scale(&mut self.events[2], week);
        for pair in [&mut self.errors, &mut self.reads, &mut self.novel, &mut self.risky] {
            scale(&mut pair[0], hour);
            scale(&mut pair[1], week);
        }
    }

    pub(crate) fn add(&mut self, tick: Tick) {
        self.advance(tick.at);
        let age = self.at - tick.at;
        let [short, hour, week] = [FIVE_MINUTES, HOUR, WEEK].map(|tau| kept(age, tau));
        add(&mut self.events[0], short);
        add(&mut self.events[1], hour);
        add(&mut self.events[2], week);
        for (counts, happened) in [
            (&mut self.errors, tick.error),
            (&mut self.reads, tick.read),
            (&mut self.novel, tick.novel),
            (&mut self.risky, tick.risky),
        ] {
            if happened {
                add(&mut counts[0], hour);
                add(&mut counts[1], week);
            }
        }
    }
}
