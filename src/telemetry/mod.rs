//! What is counted and logged, and how; knows neither plane.
