//! What every table must do; adapters run it in their tests.
