//! Bound plan and fetched series to blocks of results. Synchronous, clockless,
//! cancellable and budgeted; runs on a blocking thread.
