//! Relabelling: the configuration, its validation, and its pure application to a label
//! set. Shared by scraping, the notifier and remote write.
