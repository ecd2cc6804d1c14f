//! What every search index must do; adapters run it in their tests.
