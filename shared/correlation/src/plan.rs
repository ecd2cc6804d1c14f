//! A correlation rule made ready: what is counted, over how long, and when it is enough.

use sentinel_model::{Attack, RuleRef, Timestamp, Window};

/// Most rules that one correlation refers to.
pub const MAX_BASES: usize = 64;
/// Shortest window of alerts in seconds.
const HOUR: u64 = 3600;

/// A correlation rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The rule, as alerts name it.
    pub rule: RuleRef,
    /// Its ATT&CK labels.
    pub attack: Attack,
    /// The sentence that its alerts have of it.
    pub why: String,
    /// What is looked at.
    pub kind: Kind,
    /// When it is enough.
    pub condition: Condition,
    /// How far events may lie apart, in seconds; at least 1.
    pub timespan: u64,
    /// Titles of the rules that it refers to, each once, in the rule's order. A hit names one by position.
    pub bases: Vec<String>,
    /// The fields that tell groups apart, as the rule writes them.
    pub group_by: Vec<String>,
    /// The fields whose values are counted or computed with, as the rule writes them.
    pub fields: Vec<String>,
    /// The correlations that refer to this one.
    pub parents: Vec<Link>,
    /// Whether an event may belong to several groups, by fields that differ from rule to rule.
    pub splits_events: bool,
    /// Whether it refers to a correlation of which later events can take back what it said.
    pub unsure_base: bool,
    /// Tells the states of two versions of one rule apart.
    pub fingerprint: u64,
}

/// One correlation among the rules that another one refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Position of the other one among the plans.
    pub plan: usize,
    /// Position among its [`Plan::bases`].
    pub base: u16,
}

/// What a correlation looks at (`type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// How many events.
    EventCount,
    /// How many different values.
    ValueCount,
    /// Which rules matched.
    Temporal,
    /// Which rules matched, in their order.
    TemporalOrdered,
    /// The sum of values.
    ValueSum,
    /// Their mean.
    ValueAvg,
    /// A percentile of them, 0 to 100, interpolated between ranks.
    ValuePercentile(u8),
}

/// How a number is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Less than.
    Lt,
    /// At most.
    Lte,
    /// More than.
    Gt,
    /// At least.
    Gte,
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
}

impl Op {
    /// Whether it holds.
    #[allow(clippy::float_cmp, reason = "`eq` is what the rule asks for; counts are whole")]
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Lt => left < right,
            Self::Lte => left <= right,
            Self::Gt => left > right,
            Self::Gte => left >= right,
            Self::Eq => left == right,
            Self::Neq => left != right,
        }
    }
}

/// When it is enough.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// The number compares so with all of these.
    Threshold(Vec<(Op, u64)>),
    /// Every rule matched.
    All,
    /// An expression over which rules matched.
    Expression(Expression),
}

/// Which rules must have matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// All of these hold.
    And(Vec<Self>),
    /// Any of these holds.
    Or(Vec<Self>),
    /// This does not hold.
    Not(Box<Self>),
    /// This rule matched.
    Base(u16),
    /// At least so many of these rules matched.
    AtLeast(usize, Vec<u16>),
}

impl Expression {
    /// Whether it holds, given which rules matched.
    pub fn holds(&self, matched: &impl Fn(u16) -> bool) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|p| p.holds(matched)),
            Self::Or(parts) => parts.iter().any(|p| p.holds(matched)),
            Self::Not(inner) => !inner.holds(matched),
            Self::Base(base) => matched(*base),
            Self::AtLeast(least, bases) => bases.iter().filter(|b| matched(**b)).count() >= *least,
        }
    }

    fn only_grows(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().all(Self::only_grows),
            Self::Not(_) => false,
            Self::Base(_) | Self::AtLeast(..) => true,
        }
    }

    fn collect(&self, wanted: bool, bases: &mut Vec<u16>) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|p| p.collect(wanted, bases)),
            Self::Not(inner) => inner.collect(!wanted, bases),
            Self::Base(base) if wanted => bases.push(*base),
            Self::AtLeast(_, some) if wanted => bases.extend(some),
            Self::Base(_) | Self::AtLeast(..) => {}
        }
    }
}

impl Plan {
    /// Width of the windows of its alerts in minutes: an hour, or the timespan if that is longer.
    pub fn window_minutes(&self) -> u32 {
        u32::try_from(self.timespan.max(HOUR).div_ceil(60)).unwrap_or(u32::MAX)
    }

    /// The window of the UTC clock that a time lies in.
    pub fn window(&self, time: Timestamp) -> Window {
        Window::around(time, self.window_minutes())
    }

    /// Whether later events can take back what it said.
    pub fn can_be_taken_back(&self) -> bool {
        self.splits_events || !self.only_grows()
    }

    /// Whether what is complete once stays so, whatever else comes.
    pub fn only_grows(&self) -> bool {
        let counts = matches!(self.kind, Kind::EventCount | Kind::ValueCount | Kind::Temporal | Kind::TemporalOrdered);
        let condition = match &self.condition {
            Condition::Threshold(all) => all.iter().all(|(op, _)| matches!(op, Op::Gt | Op::Gte)),
            Condition::All => true,
            Condition::Expression(expression) => expression.only_grows(),
        };
        counts && condition && !self.unsure_base
    }

    /// The rules that must come one after the other, for [`Kind::TemporalOrdered`].
    pub(crate) fn steps(&self) -> Vec<u16> {
        let all = 0..u16::try_from(self.bases.len()).unwrap_or(u16::MAX);
        match &self.condition {
            Condition::Expression(expression) => {
                let mut named = Vec::new();
                expression.collect(true, &mut named);
                all.filter(|base| named.contains(base)).collect()
            }
            _ => all.collect(),
        }
    }
}
