//! Starts one control thread and one worker per core.
