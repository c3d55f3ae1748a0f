//! What leaves the process about itself: the metrics scrape and the access log's writer.

pub mod access_log;
pub mod endpoints;
pub mod exposition;
pub mod process;
pub mod prometheus;
