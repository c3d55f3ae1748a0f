//! Every metric, once: its name, its labels, what it means. `docs/metrics.md` says the same to
//! operators; a test holds the two together.
