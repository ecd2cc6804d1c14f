//! What every archive must do; adapters run it in their tests.
