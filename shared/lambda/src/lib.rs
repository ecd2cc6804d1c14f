//! What every Lambda main shares.
