//! The stored form of a state: bytes, few enough that a state fits into one write unit of a store (1 KB) with its
//! key and what the store adds, nearly always.
//!
//! The first byte names the form. The rest is postcard of [`Packed`]: small numbers take a byte, times are
//! told by their distance from the latest event, and hashes, which no small numbers are, have their four bytes.

use serde::{Deserialize, Serialize};

use crate::{
    PrincipalState,
    counter::Counters,
    sketch::{Sketch, Slot},
    state::{REMEMBERED_ALERTS, REMEMBERED_BATCHES, REMEMBERED_IDS, minute},
};

/// The form that is written, and the only one that is read.
const FORM: u8 = 1;

/// Why bytes are no state.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// They are of another form than this version of the product knows, or there are none.
    #[error("a state of form {0:?}, and {FORM} is the one that is known")]
    Form(Option<u8>),
    /// They are not what that form has.
    #[error("the state is cut or damaged: {0}")]
    Damaged(#[from] postcard::Error),
    /// A list is longer than a state keeps.
    #[error("the state remembers more than it may")]
    TooMuch,
}

type Hash = [u8; 4];

#[derive(Serialize, Deserialize)]
struct Packed {
    last: i64,
    /// Seconds before `last`.
    first_ago: i64,
    learned: u32,
    counted_ago: i64,
    events: [f32; 3],
    pairs: [[f32; 2]; 4],
    /// Slots: hash, count, minutes before that of `last`.
    apis: Vec<(Hash, u32, u32)>,
    services: Vec<(Hash, u32, u32)>,
    networks: Vec<(Hash, u32, u32)>,
    agents: Vec<(Hash, u32, u32)>,
    regions: Vec<(Hash, u32, u32)>,
    hours: [u32; 24],
    weekdays: [u32; 7],
    ids: Vec<Hash>,
    batches: Vec<Hash>,
    alerts: Vec<(Hash, f32, u32)>,
    alert_day: i64,
    alert_days: u8,
}

fn bytes(hash: u32) -> Hash {
    hash.to_le_bytes()
}

fn hashes(list: Vec<Hash>, most: usize) -> Result<Vec<u32>, UnpackError> {
    if list.len() > most {
        return Err(UnpackError::TooMuch);
    }
    Ok(list.into_iter().map(u32::from_le_bytes).collect())
}

fn slots<const CAP: usize>(sketch: &Sketch<CAP>, now: u32) -> Vec<(Hash, u32, u32)> {
    sketch.slots().iter().map(|Slot(hash, count, at)| (bytes(*hash), *count, now.wrapping_sub(*at))).collect()
}

fn sketch<const CAP: usize>(slots: Vec<(Hash, u32, u32)>, now: u32) -> Result<Sketch<CAP>, UnpackError> {
    let slots =
        slots.into_iter().map(|(hash, count, ago)| Slot(u32::from_le_bytes(hash), count, now.wrapping_sub(ago)));
    Sketch::of(slots.collect()).ok_or(UnpackError::TooMuch)
}

impl PrincipalState {
    /// The state as bytes, at most 1.5 KB.
    pub fn pack(&self) -> Result<Vec<u8>, UnpackError> {
        let now = minute(self.last);
        let Counters { at, events, errors, reads, novel, risky } = self.counters;
        let packed = Packed {
            last: self.last,
            first_ago: self.last.wrapping_sub(self.first),
            learned: self.learned,
            counted_ago: self.last.wrapping_sub(at),
            events,
            pairs: [errors, reads, novel, risky],
            apis: slots(&self.apis, now),
            services: slots(&self.services, now),
            networks: slots(&self.networks, now),
            agents: slots(&self.agents, now),
            regions: slots(&self.regions, now),
            hours: self.hours,
            weekdays: self.weekdays,
            ids: self.ids.iter().copied().map(bytes).collect(),
            batches: self.batches.iter().copied().map(bytes).collect(),
            alerts: self.alerts.iter().map(|(id, score, reasons)| (bytes(*id), *score, *reasons)).collect(),
            alert_day: self.alert_day,
            alert_days: self.alert_days,
        };
        Ok(postcard::to_extend(&packed, vec![FORM])?)
    }

    /// A state from [`pack`](Self::pack)'s bytes.
    pub fn unpack(bytes: &[u8]) -> Result<Self, UnpackError> {
        let Some((&FORM, rest)) = bytes.split_first() else { return Err(UnpackError::Form(bytes.first().copied())) };
        let packed: Packed = postcard::from_bytes(rest)?;
        if packed.alerts.len() > REMEMBERED_ALERTS {
            return Err(UnpackError::TooMuch);
        }
        let now = minute(packed.last);
        let [errors, reads, novel, risky] = packed.pairs;
        let at = packed.last.wrapping_sub(packed.counted_ago);
        Ok(Self {
            first: packed.last.wrapping_sub(packed.first_ago),
            last: packed.last,
            learned: packed.learned,
            counters: Counters { at, events: packed.events, errors, reads, novel, risky },
            apis: sketch(packed.apis, now)?,
            services: sketch(packed.services, now)?,
            networks: sketch(packed.networks, now)?,
            agents: sketch(packed.agents, now)?,
            regions: sketch(packed.regions, now)?,
            hours: packed.hours,
            weekdays: packed.weekdays,
            ids: hashes(packed.ids, REMEMBERED_IDS)?,
            batches: hashes(packed.batches, REMEMBERED_BATCHES)?,
            alerts: packed.alerts.into_iter().map(|(id, s, reasons)| (u32::from_le_bytes(id), s, reasons)).collect(),
            alert_day: packed.alert_day,
            alert_days: packed.alert_days,
        })
    }
}
