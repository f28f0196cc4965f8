//! Memory layout of the data plane: blocks of series over steps, windows over raw
//! samples, presence bitmaps and compensated sums. Knows nothing of PromQL.

pub mod bitmap;
pub mod block;
pub mod sums;
pub mod window;

pub use bitmap::Bitmap;
pub use block::{HistogramSide, SeriesBlock, SeriesId};
pub use window::{RawSamples, Window};
