//! The text form of metrics. Source: Prometheus, "Exposition formats", text format 0.0.4.

use std::fmt::Display;

use crate::telemetry::{escape::write_label, names::Metric, time::write_to};

/// The media type of what [`Exposition`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes metrics one after the other.
#[derive(Debug, Default)]
pub struct Exposition {
    out: Vec<u8>,
}

impl Exposition {
    /// Begins a metric: help and type. Its samples follow.
    pub fn begin(&mut self, metric: &Metric) {
        let Metric { name, kind, help, .. } = metric;
        let kind = kind.word();
        write_to(&mut self.out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Writes one sample; `labels` in the order of the metric's label names.
    pub fn sample(&mut self, metric: &Metric, labels: &[&str], value: impl Display) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let labels = metric.labels.iter().copied().zip(labels.iter().copied());
        self.line(metric.name, "", labels, value);
    }

    /// Writes one sample of a histogram or summary: `part` is `_bucket`, `_sum` or `_count`.
    pub fn part(
        &mut self,
        metric: &Metric,
        part: &str,
        labels: &[&str],
        le: Option<&str>,
        value: impl Display,
    ) {
        let labels = metric.labels.iter().copied().zip(labels.iter().copied());
        self.line(metric.name, part, labels.chain(le.map(|le| ("le", le))), value);
    }

    /// A metric with one sample without labels.
    pub fn single(&mut self, metric: &Metric, value: impl Display) {
        self.begin(metric);
        self.sample(metric, &[], value);
    }

    /// All that was written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn line<'a>(
        &mut self,
        name: &str,
        part: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        value: impl Display,
    ) {
        let out = &mut self.out;
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(part.as_bytes());
        let mut separator = b'{';
        for (label, value) in labels {
            out.push(separator);
            separator = b',';
            out.extend_from_slice(label.as_bytes());
            out.extend_from_slice(b"=\"");
            write_label(value, out);
            out.push(b'"');
        }
        if separator == b',' {
            out.push(b'}');
        }
        write_to(out, format_args!(" {value}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::names;

    #[test]
    fn labels_are_escaped() {
        let mut exposition = Exposition::default();
        exposition.sample(&names::HTTP_REQUESTS, &["a\"b\\\n", "GET", "200"], 7);
        exposition.part(&names::HTTP_DURATION, "_bucket", &["r"], Some("0.1"), 3);
        exposition.sample(&names::HTTP_IN_FLIGHT, &[], -1);
        let text = String::from_utf8(exposition.finish()).expect("UTF-8");
        assert_eq!(
            text,
            "http_requests_total{route=\"a\\\"b\\\\\\n\",method=\"GET\",status_code=\"200\"} 7\n\
             http_request_duration_seconds_bucket{route=\"r\",le=\"0.1\"} 3\n\
             http_requests_in_flight -1\n"
        );
    }
}
