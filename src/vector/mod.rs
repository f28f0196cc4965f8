//! Memory layout of the data plane: blocks of series over steps, windows over raw
//! samples, and presence bitmaps. Knows nothing of PromQL.

pub mod bitmap;
pub mod block;
pub mod window;
pub mod windows;

pub use bitmap::Bitmap;
pub use block::{HistogramSide, SeriesBlock, SeriesId};
pub use window::{RawSamples, Window, first_from};
pub use windows::{CHUNK_STEPS, WindowTable, Windows};
