//! The messages of remote write 2.0 (`io.prometheus.write.v2`), for the sending end.
//! Texts stand once, in `symbols`; the first is empty.

use std::collections::HashMap;

/// What a request carries.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub timeseries: Vec<TimeSeries>,
}

/// A series with samples in time order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries {
    /// Name and value by turns, as places in `symbols`, sorted by name.
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Written as in 1.0; those that know when they began say so in a field of their own,
    /// which is not among ours.
    #[prost(message, repeated, tag = "3")]
    pub histograms: Vec<super::proto::Histogram>,
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<Exemplar>,
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata>,
}

/// A float sample; times in ms.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
    /// 0 when it is not known.
    #[prost(int64, tag = "3")]
    pub start_timestamp: i64,
}

/// An exemplar; time in ms.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exemplar {
    /// As those of the series.
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    pub value: f64,
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

/// What is said about a metric.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Metadata {
    /// Numbered as in remote write 1.0.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(uint32, tag = "3")]
    pub help_ref: u32,
    #[prost(uint32, tag = "4")]
    pub unit_ref: u32,
}

/// Gathers the texts of a request.
#[derive(Clone, Debug)]
pub struct Symbols {
    places: HashMap<String, u32>,
    symbols: Vec<String>,
}

impl Default for Symbols {
    fn default() -> Self {
        Self { places: HashMap::from([(String::new(), 0)]), symbols: vec![String::new()] }
    }
}

impl Symbols {
    /// The place of a text.
    pub fn place(&mut self, text: &str) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.symbols.len() as u32;
        self.symbols.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }

    /// The texts in their places.
    pub fn into_symbols(self) -> Vec<String> {
        self.symbols
    }
}
