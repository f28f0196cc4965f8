//! `watchfire tsdb list`, and the table of blocks that others print too.

use clap::Args;

use super::super::say;
use super::super::serve::binary_bytes;
use super::{DirArg, go_duration};
use crate::model::TimestampMs;
use crate::storage::tsdb::{BlockMeta, inspect};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print human readable values.
    #[arg(short = 'r', long)]
    human_readable: bool,
    #[command(flatten)]
    dir: DirArg,
}

pub(super) fn run(args: &ListArgs) -> Result<(), String> {
    let blocks = inspect::blocks(args.dir.existing()?).map_err(|e| e.to_string())?;
    let mut table = Table::default();
    for (meta, bytes) in &blocks {
        table.add(meta, *bytes, args.human_readable);
    }
    table.print();
    Ok(())
}

/// Rows of blocks under a heading.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<[String; 8]>,
}

impl Default for Table {
    fn default() -> Self {
        let heading = [
            "BLOCK ULID",
            "MIN TIME",
            "MAX TIME",
            "DURATION",
            "NUM SAMPLES",
            "NUM CHUNKS",
            "NUM SERIES",
            "SIZE",
        ];
        Self { rows: vec![heading.map(str::to_owned)] }
    }
}

impl Table {
    pub(super) fn add(&mut self, meta: &BlockMeta, bytes: u64, human_readable: bool) {
        let time = |ms: TimestampMs| match chrono::DateTime::from_timestamp(ms.div_euclid(1000), 0)
        {
            Some(time) if human_readable => time.format("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
            _ => ms.to_string(),
        };
        self.rows.push([
            meta.ulid.to_string(),
            time(meta.min_time),
            time(meta.max_time),
            go_duration(meta.max_time - meta.min_time),
            meta.stats.num_samples.to_string(),
            meta.stats.num_chunks.to_string(),
            meta.stats.num_series.to_string(),
            if human_readable { binary_bytes(bytes) } else { bytes.to_string() },
        ]);
    }

    /// True without a block.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Prints the rows, columns padded with two blanks to at least 13 characters.
    pub(super) fn print(&self) {
        let width = |i: usize| self.rows.iter().map(|row| row[i].len() + 2).max().unwrap_or(0);
        let widths: Vec<usize> = (0..7).map(|i| width(i).max(13)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}"));
            }
            line.push_str(&row[7]);
            say(&line);
        }
    }
}
