//! One copy per core; never waits on a lock.
